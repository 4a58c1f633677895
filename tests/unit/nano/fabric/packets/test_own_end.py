"""From which of its addresses a host answers: by real sockets, and the kernel."""

import socket

import pytest

from nano.fabric.packets.offload import Datagram, Receiving, Sending, Train
from nano.fabric.packets.own_end import own_end_of
from nano.fabric.packets.udp import bind, listen

PACKET = bytes(1200)


def _trains(receiving: Receiving, count: int) -> list[Train]:
    found: list[Train] = []
    while sum(-(-len(train.data) // train.segment_bytes) for train in found) < count:
        found.append(receiving.take())
    return found


@pytest.mark.parametrize("coalesces", [True, False])
@pytest.mark.parametrize("segments", [True, False])
@pytest.mark.parametrize(
    ("every", "dialled"),
    [
        ("0.0.0.0", ("127.0.0.2", "127.0.0.3")),
        ("::", ("::1", "::ffff:127.0.0.2")),
        ("::", ("::ffff:127.0.0.2", "::ffff:127.0.0.3")),
    ],
)
def test_an_answer_leaves_from_the_address_that_was_spoken_to(
    every: str, dialled: tuple[str, str], segments: bool, coalesces: bool
) -> None:
    """Though all comes from one socket: to another address of ours it is another path."""
    with listen(every, 0) as listener, bind(every, 0) as dialler:
        own_end = own_end_of(listener)
        receiving, sending = Receiving(listener, own_end), Sending(listener, own_end)
        if not coalesces:
            listener.setsockopt(socket.SOL_UDP, 104, 0)
            receiving.coalesces = False
        sending.segments = segments and sending.segments
        for host in dialled:
            for _ in range(3):
                dialler.sendto(PACKET, (host, listener.getsockname()[1]))
        trains = _trains(receiving, 6)
        sources = list(dict.fromkeys(train.address for train in trains))
        assert len(sources) == 2
        assert sending.segments == segments
        answers: list[Datagram] = [
            (PACKET, source) for source in (*sources, *reversed(sources)) for _ in range(70)
        ]
        assert sending.send(answers) == len(answers)
        assert sending.segments == segments, "no interface has refused"
        came = [dialler.recvfrom(2000)[1][0] for _ in answers]
        assert came == [host for host in (*dialled, *reversed(dialled)) for _ in range(70)]


def test_a_socket_on_one_address_and_one_that_dials_are_left_as_they_are() -> None:
    with listen("127.0.0.1", 0) as one, bind("0.0.0.0", 0) as dialler:
        assert own_end_of(one) is None
        assert own_end_of(dialler) is None
        dialler.sendto(PACKET, one.getsockname())
        assert Receiving(one).take().address == ("127.0.0.1", dialler.getsockname()[1])


def test_what_would_leave_from_an_address_that_is_gone_is_lost_and_nothing_else() -> None:
    with listen("0.0.0.0", 0) as listener, bind("127.0.0.1", 0) as dialler:
        own_end = own_end_of(listener)
        assert own_end is not None
        dialler.sendto(PACKET, ("127.0.0.2", listener.getsockname()[1]))
        here = Receiving(listener, own_end).take().address
        gone = own_end.arrived(bytes(4) + socket.inet_aton("192.0.2.1") + bytes(4), here[:2])
        sending = Sending(listener, own_end)
        assert sending.send([(b"lost", gone)] * 3 + [(b"here", here)]) == 4
        assert dialler.recvfrom(2000) == (b"here", ("127.0.0.2", listener.getsockname()[1]))
