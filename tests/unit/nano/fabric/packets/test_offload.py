"""Several datagrams in one system call, and one by one where the kernel or an interface cannot."""

import errno
import socket
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nano.fabric.packets.address import Address
from nano.fabric.packets.offload import Datagram, Receiving, Sending, runs

HERE: Address = ("127.0.0.1", 9)
THERE: Address = ("127.0.0.2", 9)


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
    ):
        receiver.bind(("127.0.0.1", 0))
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        receiver.settimeout(5)
        yield sender, receiver


def _take(receiving: Receiving, count: int) -> list[bytes]:
    found: list[bytes] = []
    while len(found) < count:
        train = receiving.take()
        found += [
            train.data[at : at + train.segment_bytes]
            for at in range(0, max(len(train.data), 1), train.segment_bytes)
        ]
    return found


def _mixed(to: Address) -> list[Datagram]:
    sizes = [1200] * 70 + [300] + [1200] * 3 + [1400, 1400, 0, 16_000, 16_000, 16_000, 16_000, 16_000, 40]
    return [(bytes([n % 251]) * size, to) for n, size in enumerate(sizes)]


@pytest.mark.parametrize("segments", [True, False])
@pytest.mark.parametrize("coalesces", [True, False])
def test_whatever_goes_out_comes_in_alike(
    sockets: tuple[socket.socket, socket.socket], segments: bool, coalesces: bool
) -> None:
    sender, receiver = sockets
    receiving, sending = Receiving(receiver), Sending(sender)
    receiving.coalesces, sending.segments = coalesces and receiving.coalesces, segments and sending.segments
    if not coalesces:
        receiver.setsockopt(17, 104, 0)
    datagrams = _mixed(receiver.getsockname())
    assert sending.send(datagrams) == len(datagrams)
    assert _take(receiving, len(datagrams)) == [data for data, _ in datagrams]


class _Refusing:
    """A socket whose interface cannot do what the kernel offers. It stands for the kernel, no code of
    ours."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.sent: list[bytes] = []
        self.tried = 0

    def getsockopt(self, *_: int) -> int:
        return 0

    def sendmsg(self, *_: object) -> int:
        self.tried += 1
        raise OSError(self.number, "no")

    def sendto(self, data: bytes, _: Address) -> int:
        self.sent.append(data)
        return len(data)


@pytest.mark.parametrize("number", [errno.EIO, errno.EOPNOTSUPP])
def test_an_interface_that_cannot_segment_is_not_asked_again(number: int) -> None:
    refusing = _Refusing(number)
    sending = Sending(refusing)  # type: ignore[arg-type]
    datagrams: list[Datagram] = [(bytes([n]) * 100, HERE) for n in range(200)]
    assert sending.send(datagrams) == 200
    assert refusing.sent == [data for data, _ in datagrams]
    assert not sending.segments
    assert refusing.tried == 1


def test_datagrams_too_large_for_an_interface_are_tried_one_by_one() -> None:
    refusing = _Refusing(errno.EMSGSIZE)
    sending = Sending(refusing)  # type: ignore[arg-type]
    assert sending.send([(bytes(100), HERE)] * 10) == 10
    assert len(refusing.sent) == 10
    assert sending.segments, "the next ones may be smaller"


def test_a_full_buffer_says_how_far_it_went(sockets: tuple[socket.socket, socket.socket]) -> None:
    sender, receiver = sockets
    sender.setblocking(False)
    sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4608)
    datagrams: list[Datagram] = [(n.to_bytes(2, "big") * 500, receiver.getsockname()) for n in range(300)]
    receiving, sending = Receiving(receiver), Sending(sender)
    sent = 0
    found: list[bytes] = []
    while sent < len(datagrams):
        took = sending.send(datagrams[sent:])
        found += _take(receiving, took)
        sent += took
    assert found == [data for data, _ in datagrams]


@given(st.lists(st.tuples(st.sampled_from([0, 1, 500, 1200, 16_000]), st.sampled_from([HERE, THERE]))))
def test_runs_are_what_the_kernel_can_cut(shape: Sequence[tuple[int, Address]]) -> None:
    datagrams = [(bytes(size), address) for size, address in shape]
    lengths = list(runs(datagrams))
    assert sum(lengths) == len(datagrams)
    at = 0
    for length in lengths:
        run, at = datagrams[at : at + length], at + length
        sizes = [len(data) for data, _ in run]
        assert len({address for _, address in run}) == 1
        assert length == 1 or (set(sizes[:-1]) == {sizes[0]} and 0 < sizes[-1] <= sizes[0])
        assert length <= 64
        assert length == 1 or sum(sizes) <= 65_000
