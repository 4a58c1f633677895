"""Silence, on a clock of the test's own."""

from hypothesis import given
from hypothesis import strategies as st

from nano.fabric.liveness import Liveness, Move, Patience

PATIENCE = Patience(keep_alive_s=1, suspect_s=3, lost_s=5)


def test_the_one_who_dialled_asks_then_suspects_then_gives_up() -> None:
    silence = Liveness(PATIENCE, 0, asks=True)
    assert silence.due(0.9) == []
    assert silence.due(1) == [Move.PING]
    assert silence.due(2.5) == [Move.PING]
    assert not silence.suspected
    assert silence.due(3) == [Move.SUSPECT]
    assert silence.suspected
    assert silence.due(5) == [Move.LOST]
    assert silence.next_at == float("inf")


def test_the_other_side_only_waits() -> None:
    silence = Liveness(PATIENCE, 0, asks=False)
    assert silence.next_at == 3
    assert silence.due(10) == [Move.SUSPECT, Move.LOST]


def test_any_packet_saves_the_ping() -> None:
    silence = Liveness(PATIENCE, 0, asks=True)
    for tenth in range(100):
        assert not silence.heard(tenth / 10)
        assert silence.due(tenth / 10 + 0.05) == []


def test_a_suspect_that_is_heard_is_trusted_again_and_that_is_said_once() -> None:
    silence = Liveness(PATIENCE, 0, asks=True)
    silence.due(4)
    assert silence.heard(4)
    assert not silence.suspected
    assert not silence.heard(4.1)
    assert silence.next_at == 5.1


@given(st.lists(st.tuples(st.floats(0, 4), st.booleans()), max_size=40), st.booleans())
def test_a_peer_is_lost_exactly_when_it_was_silent_for_the_full_time(
    steps: list[tuple[float, bool]], asks: bool
) -> None:
    silence = Liveness(PATIENCE, 0, asks=asks)
    now = last = 0.0
    for pause, heard in steps:
        now += pause
        moves = silence.due(now)
        assert (Move.LOST in moves) == (now - last >= PATIENCE.lost_s and Move.LOST in moves)
        if Move.LOST in moves:
            return
        assert now < last + PATIENCE.lost_s
        if heard:
            silence.heard(now)
            last = now
