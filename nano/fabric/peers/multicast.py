"""A multicast group on chosen interfaces, and the news that those changed. IPv4, Linux (ip(7), rtnetlink(7)).

One socket serves all interfaces: it is bound to the group, so nothing else reaches it, and each datagram is
sent once per interface with that interface's own address as its source. Several processes share the port.
"""

import contextlib
import fcntl
import ipaddress
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import structlog

from nano.model.errors import Invalid

_IP_PKTINFO = 8  # <linux/in.h>, as the next one; Python names neither
_IP_MULTICAST_ALL = 49
_SIOCGIFFLAGS = 0x8913  # <linux/sockios.h>
_SIOCGIFADDR = 0x8915
_IFF_UP, _IFF_LOOPBACK, _IFF_MULTICAST = 0x1, 0x8, 0x1000  # <linux/if.h>
_LINK_AND_ADDRESS = 0x1 | 0x10  # RTMGRP_LINK | RTMGRP_IPV4_IFADDR, <linux/rtnetlink.h>
_MREQN = struct.Struct("4s4si")  # struct ip_mreqn: group, address, index
_PKTINFO = struct.Struct("i4s4s")  # struct in_pktinfo: index, source address, not used for sending


@dataclass(frozen=True, slots=True)
class Group:
    """Which multicast group, and where: `interfaces` are names or IPv4 addresses, none means every one."""

    address: str = "224.0.0.226"
    port: int = 5599
    interfaces: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        try:
            valid = ipaddress.IPv4Address(self.address).is_multicast
        except ValueError:
            valid = False
        if not valid:
            raise Invalid(
                "group", f"group is {self.address!r}: use an IPv4 multicast address, 224.0.0.226 say"
            )


@dataclass(frozen=True, slots=True)
class Interface:
    """`index` 0: whichever has the address."""

    index: int
    address: str


class MulticastSocket:
    """Sends to a group and hears it. Call `refresh` when interfaces may have changed."""

    def __init__(self, group: Group) -> None:
        self._group = group
        self._joined: set[Interface] = set()
        self._ailing: set[Interface] = set()
        self._socket = socket.socket(
            socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        )
        try:
            self._configure()
        except BaseException:
            self._socket.close()
            raise

    def _configure(self) -> None:
        """SO_REUSEPORT is left alone: it would tie the port to one user, and services have their own."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)
        self._socket.setsockopt(socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)  # only what this socket joined
        self._socket.bind((self._group.address, self._group.port))
        self.refresh()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def fileno(self) -> int:
        return self._socket.fileno()

    @property
    def interfaces(self) -> frozenset[Interface]:
        """Where the group is joined now."""
        return frozenset(self._joined)

    def refresh(self) -> bool:
        """Joins on interfaces that came and forgets those that went; whether anything changed."""
        before = self.interfaces
        wanted = set(_pinned(self._group.interfaces) if self._group.interfaces else _usable())
        for gone in self._joined - wanted:
            with contextlib.suppress(OSError):  # the kernel leaves by itself when an interface vanishes
                self._member(socket.IP_DROP_MEMBERSHIP, gone)
        self._joined &= wanted
        self._ailing &= wanted
        for new in sorted(wanted - self._joined, key=lambda each: each.address):
            try:
                self._member(socket.IP_ADD_MEMBERSHIP, new)
                self._joined.add(new)
            except OSError as error:
                self._complain(new, error)
        return self.interfaces != before

    def send(self, datagram: bytes) -> None:
        """Sends on each interface; one that cannot now is logged once, and does not hinder the others."""
        for interface in self._joined:
            source = socket.inet_aton(interface.address)
            out = (socket.IPPROTO_IP, _IP_PKTINFO, _PKTINFO.pack(interface.index, source, bytes(4)))
            try:
                self._socket.sendmsg([datagram], [out], 0, (self._group.address, self._group.port))
                self._ailing.discard(interface)
            except OSError as error:
                self._complain(interface, error)

    def receive(self, limit_bytes: int) -> tuple[bytes, str] | None:
        """A datagram, cut off one byte above the limit, and its source; None when there is none now."""
        try:
            datagram, (host, _) = self._socket.recvfrom(limit_bytes + 1)
        except BlockingIOError:
            return None
        return datagram, host

    def _member(self, option: int, interface: Interface) -> None:
        group, address = socket.inet_aton(self._group.address), socket.inet_aton(interface.address)
        self._socket.setsockopt(socket.IPPROTO_IP, option, _MREQN.pack(group, address, interface.index))

    def _complain(self, interface: Interface, error: OSError) -> None:
        if interface not in self._ailing:
            self._ailing.add(interface)
            structlog.get_logger().warning(
                "multicast.unusable", address=interface.address, index=interface.index, error=str(error)
            )


class InterfaceWatch:
    """Readable when a link or an IPv4 address came, went or changed."""

    def __init__(self) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK,
            socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC,
            socket.NETLINK_ROUTE,
        )
        try:
            self._socket.bind((0, _LINK_AND_ADDRESS))
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def fileno(self) -> int:
        return self._socket.fileno()

    def drain(self) -> None:
        """Reads what is there. What it says does not matter: whoever is told looks for himself."""
        while True:
            try:
                self._socket.recv(65536)
            except BlockingIOError:
                return
            except OSError:  # ENOBUFS: so much happened that some of it was dropped
                continue


def own_addresses(interfaces: Sequence[str] = ()) -> list[str]:
    """This host's addresses on the named interfaces, or on every one where the group would be joined."""
    return sorted({each.address for each in (_pinned(interfaces) if interfaces else _usable())})


def _pinned(interfaces: Sequence[str]) -> list[Interface]:
    """The named ones that are there now."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as asker:
        return [found for each in interfaces if (found := _named(asker, each))]


def _named(asker: socket.socket, name: str) -> Interface | None:
    with contextlib.suppress(ValueError):
        return Interface(0, str(ipaddress.IPv4Address(name)))
    with contextlib.suppress(OSError):
        return Interface(socket.if_nametoindex(name), _address(asker, name))
    return None


def _usable() -> list[Interface]:
    """Every interface that is up, can do multicast and has an address; the loopback if there is none."""
    found, loopback = [], []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as asker:
        for index, name in socket.if_nameindex():
            with contextlib.suppress(OSError):  # gone since, or without an address
                flags, address = _flags(asker, name), _address(asker, name)
                if not flags & _IFF_UP:
                    continue
                if flags & _IFF_LOOPBACK:
                    loopback.append(Interface(index, address))
                elif flags & _IFF_MULTICAST:
                    found.append(Interface(index, address))
    return found or loopback


def _flags(asker: socket.socket, name: str) -> int:
    return int(struct.unpack_from("H", _ask(asker, _SIOCGIFFLAGS, name), 16)[0])


def _address(asker: socket.socket, name: str) -> str:
    return socket.inet_ntoa(_ask(asker, _SIOCGIFADDR, name)[20:24])  # struct ifreq: name, then sockaddr_in


def _ask(asker: socket.socket, what: int, name: str) -> bytes:
    return fcntl.ioctl(asker, what, struct.pack("256s", name.encode()[:15]))
