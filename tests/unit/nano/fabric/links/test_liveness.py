"""Silence, on a clock of the test's own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nano.fabric.links.liveness import LONGEST_INTERVAL_S, STRETCH_STEP, Liveness, Move, Pace, Patience

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
        assert (Move.LOST in silence.due(now)) == (now - last >= PATIENCE.lost_s)
        if now - last >= PATIENCE.lost_s:
            return
        if heard:
            silence.heard(now)
            last = now


# samples


def _sampling(silence: Liveness, times: list[float]) -> list[tuple[float, Move]]:
    """The moves up to the last of `times`, at each of which a sample comes."""
    moves = []
    for now in times:
        while silence.next_at <= now:
            at = silence.next_at
            moves += [(at, move) for move in silence.due(at)]
        silence.heard(now)
        silence.sampled(now)
    return moves


def test_who_sends_samples_is_not_asked_once_its_rhythm_is_known() -> None:
    silence = Liveness(PATIENCE, 0, asks=True)
    moves = _sampling(silence, [2.0 * number for number in range(100)])
    assert moves == [(1, Move.PING), (2, Move.PING)], "before the second sample nobody could know"


def test_one_that_stops_sending_samples_is_asked_before_it_is_suspected_and_lost_in_time() -> None:
    silence = Liveness(PATIENCE, 0, asks=True)
    _sampling(silence, [0, 2, 4])
    assert silence.next_at == 4 + 2 * 1.25
    assert silence.due(6.9) == [Move.PING]
    assert silence.due(7) == [Move.SUSPECT]
    assert silence.due(9) == [Move.PING, Move.LOST]


def test_one_that_answers_but_samples_no_more_is_asked_as_everybody() -> None:
    silence = Liveness(PATIENCE, 0, asks=True)
    _sampling(silence, [0, 2, 4])
    assert silence.due(6.5) == [Move.PING]
    silence.heard(6.5)
    assert silence.next_at == 7.5


@given(st.floats(0.01, 1000))
def test_whatever_the_rhythm_a_ping_goes_before_the_suspicion(rhythm_s: float) -> None:
    silence = Liveness(PATIENCE, 0, asks=True)
    _sampling(silence, [0, rhythm_s])
    assert silence.next_at <= rhythm_s + PATIENCE.suspect_s - PATIENCE.keep_alive_s / 2 + 1e-6
    assert silence.due(silence.next_at) == [Move.PING]


# pace


def test_a_hundred_are_asked_as_configured_and_a_thousand_less_often() -> None:
    pace = Pace(1.0)
    for link in range(100):
        pace.asks(link)
    assert pace.interval_s == 1.0
    for link in range(1000):
        pace.asks(link)
    assert pace.interval_s == 10.0
    for link in range(900):
        pace.spares(link)
    assert pace.interval_s == 1.0
    for link in range(1_000_000):
        pace.asks(link)
    assert pace.interval_s == LONGEST_INTERVAL_S


def test_a_change_of_pace_is_news_when_it_has_doubled_or_halved() -> None:
    pace = Pace(1.0)
    said = []
    for link in range(1000):
        pace.asks(link)
        if pace.news():
            said.append(pace.interval_s)
    for link in range(1000):
        pace.spares(link)
        if pace.news():
            said.append(pace.interval_s)
    assert said == [2.0, 4.0, 8.0, 4.0, 2.0, 1.0]


def test_both_ends_are_equally_patient_and_a_lost_pace_loses_nobody() -> None:
    """Each step is small enough for the patience that the far end has when it has heard of none."""
    dialler = Liveness(PATIENCE, 0, asks=True)
    far = Liveness(PATIENCE, 0, asks=False)
    now, told = 0.0, []
    for _ in range(12):
        assert dialler.due(dialler.next_at) == [Move.PING]
        now += dialler.patience.keep_alive_s
        told.append(dialler.asking(10.0))
        dialler.heard(now)
    assert told[:3] == [1.5, 2.25, 3.375]
    assert told[-1] == 10.0
    assert dialler.patience == Patience(10, 30, 50)
    far.told(told[-1])
    assert far.patience == dialler.patience
    assert PATIENCE.suspect_s > STRETCH_STEP**2


def test_a_pace_is_never_quicker_than_configured_nor_slower_than_a_minute() -> None:
    silence = Liveness(PATIENCE, 0, asks=False)
    silence.told(0.0)
    assert silence.patience == PATIENCE
    silence.told(4_000_000.0)
    assert silence.patience == Patience(60, 180, 300)


def test_who_begins_to_send_samples_is_watched_as_closely_as_configured() -> None:
    silence = Liveness(PATIENCE, 0, asks=True)
    silence.asking(2.0)
    assert silence.patience.lost_s == 7.5
    assert silence.sampled(1)
    assert silence.patience == PATIENCE
    assert not silence.sampled(3)


# a busy process


@pytest.mark.parametrize("stall_s", [2.0, 10.0, 100.0])
@pytest.mark.parametrize("asks", [True, False])
@pytest.mark.parametrize("before_s", [0.0, 0.9, 2.9, 4.9])
def test_what_we_did_not_hear_was_not_silence(stall_s: float, asks: bool, before_s: float) -> None:
    silence = Liveness(PATIENCE, 0, asks=asks)
    silence.due(before_s)
    now = before_s + stall_s
    silence.excuse(stall_s, now, grace_s=1)
    assert Move.LOST not in silence.due(now + 0.999)
    assert silence.verdict_at >= now + 1
    lost_at = now + max(1, PATIENCE.lost_s - before_s)
    silence.due(lost_at - 0.001)
    assert Move.LOST in silence.due(lost_at + PATIENCE.lost_s - PATIENCE.suspect_s)


def test_after_a_stall_the_peer_is_asked_at_once() -> None:
    silence = Liveness(PATIENCE, 0, asks=True)
    silence.excuse(10, 10.5, grace_s=1)
    assert Move.PING in silence.due(10.5)
    assert not silence.suspected


def test_what_was_heard_since_the_stall_is_not_excused_again() -> None:
    """Who is heard and then dies is lost in time, stall or not."""
    silence = Liveness(PATIENCE, 0, asks=False)
    silence.heard(10)
    silence.excuse(10, 10, grace_s=1)
    assert silence.due(14.9) == [Move.SUSPECT]
    assert silence.due(15) == [Move.LOST]


def test_one_that_is_lost_stays_lost() -> None:
    silence = Liveness(PATIENCE, 0, asks=False)
    silence.due(5)
    silence.excuse(10, 15, grace_s=1)
    assert silence.next_at == float("inf")
