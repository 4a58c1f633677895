"""Which of its host's addresses a packet came to: an answer leaves from there (RFC 9000, 9).

A socket that listens on every address of its host answers from the one that the kernel's route picks, unless
it is told. Whoever dialled another one of a host with several then never hears us: to it the answer is a
stranger's. So the kernel names the address that each packet came to (IP_PKTINFO, RFC 3542 for IPv6), and it
stands as the last part of the peer's `Address` wherever that goes: a peer that comes to another address of
ours is on another path, what goes out together goes one way, and nobody but the socket takes it apart.
"""

import socket
from typing import NamedTuple, cast

from nano.fabric.packets.address import Address

Control = tuple[int, int, bytes]
"""Ancillary data of one message: level, kind and value."""


class OwnEnd(NamedTuple):
    """How one family of addresses says it, in <linux/in.h> and <linux/in6.h>."""

    level: int
    option: int
    """Switches it on."""
    kind: int
    """Of the ancillary data, in and out."""
    first: int
    last: int
    """Where in that data our address is. The interface is left to the route: it may change."""
    before: bytes
    behind: bytes

    def arrived(self, value: bytes, address: Address) -> Address:
        """The sender's `address`, and behind it the one of ours that it spoke to, as the kernel wants it
        back."""
        own = self.before + value[self.first : self.last] + self.behind
        return cast("Address", (*address, own))

    def leaving(self, address: Address) -> tuple[Control, Address]:
        """What to tell the kernel, and where the packet goes, for an address that came from `arrived`."""
        return (self.level, self.kind, cast("bytes", address[-1])), cast("Address", address[:-1])


_FAMILIES = {
    socket.AF_INET: OwnEnd(socket.IPPROTO_IP, 8, 8, 4, 8, bytes(4), bytes(4)),
    socket.AF_INET6: OwnEnd(socket.IPPROTO_IPV6, 49, 50, 0, 16, b"", bytes(4)),
}
"""A socket of IPv6 tells and takes addresses of IPv4 too, in their mapped form."""


def tell_own_end(sock: socket.socket) -> None:
    """Have the kernel name our own address with each packet, if `sock` is bound to every one of the host."""
    own = _FAMILIES[sock.family]
    if sock.getsockname()[0] in {"0.0.0.0", "::"}:  # noqa: S104 - looked at, not bound
        sock.setsockopt(own.level, own.option, 1)


def own_end_of(sock: socket.socket) -> OwnEnd | None:
    """How our own end stands in the addresses at this socket; None where it does not."""
    own = _FAMILIES[sock.family]
    return own if sock.getsockopt(own.level, own.option) else None
