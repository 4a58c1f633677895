"""A UDP socket that is drained each time the loop finds it readable.

asyncio's own datagram transport takes one datagram per turn of the loop; a burst then costs a wake-up, a pass
of the QUIC machine and an answer for each packet. This one hands over what has come, then says so once. How
several datagrams go through one system call is in `offload.py`.
"""

import asyncio
import collections
import ipaddress
import select
import socket
from collections.abc import Iterable
from typing import Protocol, cast

from nano.fabric.packets.address import Address
from nano.fabric.packets.offload import Datagram, Receiving, Sending, Train
from nano.fabric.packets.own_end import own_end_of, tell_own_end
from nano.ports import cannot_bind

__all__ = ["Address", "Datagram", "Endpoint", "Receiver", "Train", "bind", "listen", "resolve"]

_DRAIN_DATAGRAMS = 128
"""Datagrams taken in one turn, so that timers and other sockets get theirs."""

_DRAIN_BYTES = 128 * 1024
"""The same in bytes, for a link that carries bulk: a call beside it waits for at most one such turn."""

_BACKLOG_LIMIT = 4_096
"""Datagrams kept while the kernel's buffer is full; beyond it they are lost, as on any network."""

_SOCKET_BUFFER_BYTES = 4 * 1024 * 1024
_BUFFER_OPTIONS = ((33, socket.SO_RCVBUF), (32, socket.SO_SNDBUF))
"""SO_RCVBUFFORCE and SO_SNDBUFFORCE (asm-generic/socket.h) pass the kernel's small limit where we may."""

_IPV4 = 4

_DO_NOT_FRAGMENT = {
    socket.AF_INET: (socket.IPPROTO_IP, 10, 3),
    socket.AF_INET6: (socket.IPPROTO_IPV6, 23, 3),
}
"""IP_MTU_DISCOVER and IPV6_MTU_DISCOVER (linux/in.h) to PROBE: no datagram is cut on its way (RFC 9000, 14),
and the kernel keeps no opinion of the path, which `path_mtu.py` finds out."""


class Receiver(Protocol):
    """Who gets what an endpoint hears."""

    def receive(self, train: Train) -> None: ...

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
        sock.setsockopt(*_DO_NOT_FRAGMENT[family])
        sock.bind((host, port))
    except BaseException:
        sock.close()
        raise
    return sock


def listen(host: str, port: int) -> socket.socket:
    """As `bind`, for a socket that others dial: what answers them leaves from the address that they dialled.

    `Conflict` says which address and port cannot be had, and what to do. A socket that dials is left to the
    kernel's route: when the address that it had is gone it goes on from another one.
    """
    try:
        sock = bind(host, port)
    except OSError as error:
        raise cannot_bind("UDP", host, port, error, settings="listen and port of [fabric]") from error
    tell_own_end(sock)
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
        own_end = own_end_of(sock)
        self._receiving, self._sending = Receiving(sock, own_end), Sending(sock, own_end)
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
        pending = list(datagrams)
        sent = self._sending.send(pending)
        if sent < len(pending):
            self._backlog.extend(pending[sent:])
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

    def _resume(self) -> None:
        pending = list(self._backlog)
        for _ in range(self._sending.send(pending)):
            self._backlog.popleft()
        if not self._backlog:
            self._loop.remove_writer(self._sock.fileno())

    def _drain(self) -> None:
        datagrams = size = 0
        while datagrams < _DRAIN_DATAGRAMS and size < _DRAIN_BYTES:
            try:
                train = self._receiving.take()
            except (BlockingIOError, InterruptedError):
                break
            except ConnectionError:  # an ICMP error that an earlier datagram of ours brought back
                datagrams += 1
                continue
            self._receiver.receive(train)
            if self.closed:
                return
            datagrams += -(-len(train.data) // train.segment_bytes)
            size += len(train.data)
            if self._receiving.is_dry:
                break
        self._receiver.drained()
