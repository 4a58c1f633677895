"""Many datagrams in one system call: UDP segmentation on the way out (GSO), coalescing on the way in (GRO).

Linux cuts one large send into datagrams of one size, and hands over what came together from one sender in one
piece. Where the kernel or the interface does not, everything goes datagram by datagram; the callers see no
difference.
"""

import errno
import socket
import struct
import threading
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from nano.fabric.packets.address import Address
from nano.fabric.packets.own_end import OwnEnd

Datagram = tuple[bytes, Address]

_SOL_UDP, _UDP_SEGMENT, _UDP_GRO = 17, 103, 104
"""From <linux/udp.h>."""

_SEGMENTS = 64
"""Datagrams of one send at most, in every kernel that has the option."""

_SEND_BYTES = 65_000
_RECEIVE_BYTES = 65_535
_GATHER_BYTES = 48 * 1024
"""How much is gathered in one train where the kernel does not coalesce."""

_CONTROL_BYTES = 128
"""Room for what comes beside the data: a segment's size, and our own address."""

_SIZE_OUT, _SIZE_IN = struct.Struct("=H"), struct.Struct("=i")

_REFUSES_ALL = frozenset({errno.EIO, errno.EOPNOTSUPP})
"""How a kernel says that the interface on the way cannot segment."""

_REFUSES_THIS = frozenset({errno.EINVAL, errno.EMSGSIZE})
"""How it says that these datagrams are too large for the interface."""


_of_thread = threading.local()


def _buffer() -> memoryview:
    """Where all sockets of this thread receive.

    What came is copied out before the next does; a buffer of its own would be most of an idle link's weight.
    """
    found: memoryview | None = getattr(_of_thread, "buffer", None)
    if found is None:
        found = _of_thread.buffer = memoryview(bytearray(_GATHER_BYTES + _RECEIVE_BYTES))
    return found


class Train(NamedTuple):
    """Datagrams that came together from one sender, each `segment_bytes` long but for the last."""

    data: bytes
    segment_bytes: int
    address: Address


class Receiving:
    """Takes in what has come to a socket, several datagrams at once: the kernel coalesces them, or we gather
    them."""

    def __init__(self, sock: socket.socket, own_end: OwnEnd | None = None) -> None:
        """`own_end`: how the kernel names our own address with what comes, where it does."""
        self._sock = sock
        self._own_end = own_end
        self._buffer = _buffer()
        self._held: Train | None = None
        self.is_dry = False
        """Whether the socket was found empty behind what was taken last."""
        try:
            sock.setsockopt(_SOL_UDP, _UDP_GRO, 1)
        except OSError:
            self.coalesces = False
        else:
            self.coalesces = True
        """Whether the kernel offers to."""

    def take(self) -> Train:
        """The next datagrams; `BlockingIOError` when there are none."""
        if self._held is not None:
            train, self._held = self._held, None
            return train
        self.is_dry = False
        end, segment, address = self._receive(0)
        if 0 < end == segment:
            end = self._gather(end, address)
        return Train(bytes(self._buffer[:end]), max(segment, 1), address)

    def _gather(self, size: int, address: Address) -> int:
        """Take in more behind a datagram of `size`, as long as they make a train with it; where that ends."""
        end = size
        while end < _GATHER_BYTES:
            try:
                more, segment, source = self._receive(end)
            except (BlockingIOError, InterruptedError):
                self.is_dry = True
                break
            except ConnectionError:  # an ICMP error that an earlier datagram of ours brought back
                break
            if source != address or segment != more or not 0 < more <= size:
                self._held = Train(bytes(self._buffer[end : end + more]), max(segment, 1), source)
                break
            end += more
            if more < size:
                break
        return end

    def _receive(self, at: int) -> tuple[int, int, Address]:
        """Take in once, to a place in the buffer: how much, of what size each datagram is, and who sent
        them."""
        own_end = self._own_end
        if not self.coalesces and own_end is None:
            size, address = self._sock.recvfrom_into(self._buffer[at : at + _RECEIVE_BYTES])
            return size, size, address
        size, control, _, address = self._sock.recvmsg_into(
            [self._buffer[at : at + _RECEIVE_BYTES]], _CONTROL_BYTES
        )
        segment = size
        for level, kind, value in control:
            if level == _SOL_UDP and kind == _UDP_GRO:
                segment = _SIZE_IN.unpack_from(value)[0]
            elif own_end is not None and level == own_end.level and kind == own_end.kind:
                address = own_end.arrived(value, address)
        return size, segment, address


class Sending:
    """Sends runs of datagrams to one address at once where kernel and interface can."""

    def __init__(self, sock: socket.socket, own_end: OwnEnd | None = None) -> None:
        """`own_end`: how it is told from which address of ours to send, where addresses say so."""
        self._sock = sock
        self._own_end = own_end
        try:
            sock.getsockopt(_SOL_UDP, _UDP_SEGMENT)
        except OSError:
            self.segments = False
        else:
            self.segments = True
        """Whether the kernel offers to, and no interface has refused yet."""

    def send(self, datagrams: Sequence[Datagram]) -> int:
        """Send in order; gives how many the kernel has taken, fewer than all when its buffer is full.

        What has no route, or is too large for the way, counts as taken: it is lost, as any packet may be.
        """
        sent = 0
        if self.segments:
            for run in runs(datagrams):
                if not self._send_run(datagrams[sent : sent + run]):
                    return sent
                sent += run
                if not self.segments:
                    break
        while sent < len(datagrams):
            if not self._send_one(datagrams[sent]):
                return sent
            sent += 1
        return sent

    def _send_run(self, run: Sequence[Datagram]) -> bool:
        if len(run) == 1:
            return self._send_one(run[0])
        data, address = run[0]
        control = [(_SOL_UDP, _UDP_SEGMENT, _SIZE_OUT.pack(len(data)))]
        if self._own_end is not None:
            own, address = self._own_end.leaving(address)
            control.append(own)
        try:
            self._sock.sendmsg([data for data, _ in run], control, 0, address)
        except OSError as error:
            if is_full(error):
                return False
            if error.errno in _REFUSES_ALL | _REFUSES_THIS:
                self.segments = error.errno in _REFUSES_THIS
                for datagram in run:
                    self._send_one(datagram)
        return True

    def _send_one(self, datagram: Datagram) -> bool:
        data, address = datagram
        try:
            if self._own_end is None:
                self._sock.sendto(data, address)
            else:
                own, address = self._own_end.leaving(address)
                self._sock.sendmsg((data,), (own,), 0, address)
        except OSError as error:
            return not is_full(error)
        return True


def is_full(error: OSError) -> bool:
    """Whether a send failed only because the kernel's buffer is full."""
    return isinstance(error, BlockingIOError | InterruptedError) or error.errno == errno.ENOBUFS


def runs(datagrams: Sequence[Datagram]) -> Iterator[int]:
    """How many to send at once, in order: to one address, of one size but for a shorter last one."""
    at = 0
    while at < len(datagrams):
        data, address = datagrams[at]
        size = total = len(data)
        end = at + 1
        while end < len(datagrams) and end - at < _SEGMENTS:
            data, to = datagrams[end]
            total += len(data)
            if to != address or not 0 < len(data) <= size or total > _SEND_BYTES:
                break
            end += 1
            if len(data) < size:
                break
        yield end - at
        at = end
