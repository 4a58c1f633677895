"""A UDP socket that is drained each time the loop finds it readable.

asyncio's own datagram transport takes one datagram per turn of the loop; a burst then costs a wake-up, a pass
of the QUIC machine and an answer for each packet. This one hands over all that has come, then says so once.
"""

import asyncio
import collections
import errno
import ipaddress
import select
import socket
from collections.abc import Iterable
from typing import Protocol, cast

Address = tuple[str, int]
"""Host and port; for IPv6 the kernel's four-part form, handed through as it is."""

Datagram = tuple[bytes, Address]

_DRAIN_LIMIT = 128
"""Datagrams taken in one turn, so that timers and other sockets get theirs."""

_DATAGRAM_LIMIT = 65_535
_BACKLOG_LIMIT = 4_096
"""Datagrams kept while the kernel's buffer is full; beyond it they are lost, as on any network."""

_SOCKET_BUFFER_BYTES = 4 * 1024 * 1024
_BUFFER_OPTIONS = ((33, socket.SO_RCVBUF), (32, socket.SO_SNDBUF))
"""SO_RCVBUFFORCE and SO_SNDBUFFORCE (asm-generic/socket.h) pass the kernel's small limit where we may."""

_IPV4 = 4


class Receiver(Protocol):
    """Who gets what an endpoint hears."""

    def receive(self, data: bytes, address: Address) -> None: ...

    def drained(self) -> None:
        """All that had come is handed over: now answer."""
        ...


def bind(host: str, port: int) -> socket.socket:
    """A non-blocking UDP socket on `host` (an address) and `port` (0: any), with buffers for bursts."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        for forced, plain in _BUFFER_OPTIONS:
            try:
                sock.setsockopt(socket.SOL_SOCKET, forced, _SOCKET_BUFFER_BYTES)
            except PermissionError:
                sock.setsockopt(socket.SOL_SOCKET, plain, _SOCKET_BUFFER_BYTES)
        sock.bind((host, port))
    except BaseException:
        sock.close()
        raise
    return sock


async def resolve(address: Address) -> Address:
    """`address` in the very form in which the kernel will name it as a source; `OSError` for no such host.

    A static address may be a host's name. Only that is asked of the resolver, in a thread.
    """
    host, port = address[:2]
    try:
        family = ipaddress.ip_address(host.partition("%")[0]).version
    except ValueError:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    else:
        if family == _IPV4:
            return host, port
        found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST)
    return cast("Address", found[0][4])


class Endpoint:
    """One bound socket in the running loop."""

    def __init__(self, sock: socket.socket, receiver: Receiver) -> None:
        self._loop = asyncio.get_running_loop()
        self._sock = sock
        self._receiver = receiver
        self._backlog: collections.deque[Datagram] = collections.deque()
        self.address: Address = sock.getsockname()
        self.closed = False
        self._loop.add_reader(sock.fileno(), self._drain)

    def send(self, datagrams: Iterable[Datagram]) -> None:
        """Send what the kernel takes, keep the rest. What has no route now is lost, as any packet may be."""
        if self.closed:
            return
        if self._backlog:
            room = _BACKLOG_LIMIT - len(self._backlog)
            self._backlog.extend(list(datagrams)[:room])
            return
        pending = iter(datagrams)
        for datagram in pending:
            if not self._sent(datagram):
                self._backlog.append(datagram)
                self._backlog.extend(pending)
                self._loop.add_writer(self._sock.fileno(), self._resume)

    def has_unread(self) -> bool:
        """Whether something has come that was not handed over yet."""
        if self.closed:
            return False
        waiting = select.poll()
        waiting.register(self._sock.fileno(), select.POLLIN)
        return bool(waiting.poll(0))

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        self._loop.remove_reader(self._sock.fileno())
        self._loop.remove_writer(self._sock.fileno())
        self._sock.close()

    def _sent(self, datagram: Datagram) -> bool:
        try:
            self._sock.sendto(*datagram)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            if error.errno == errno.ENOBUFS:
                return False
            # no route, no interface, too large for it: to QUIC a lost packet, to the link's liveness silence
        return True

    def _resume(self) -> None:
        while self._backlog:
            if not self._sent(self._backlog[0]):
                return
            self._backlog.popleft()
        self._loop.remove_writer(self._sock.fileno())

    def _drain(self) -> None:
        for _ in range(_DRAIN_LIMIT):
            try:
                data, address = self._sock.recvfrom(_DATAGRAM_LIMIT)
            except (BlockingIOError, InterruptedError):
                break
            except ConnectionError:  # an ICMP error that an earlier datagram of ours brought back
                continue
            self._receiver.receive(data, address)
            if self.closed:
                return
        self._receiver.drained()
