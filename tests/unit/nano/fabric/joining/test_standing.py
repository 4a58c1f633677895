"""What a server writes down of its standing: when it is news, and what outlasts it."""

from pathlib import Path

import pytest

from nano.fabric.joining import standing
from nano.fabric.joining.standing import HEARD_EVERY_MS, Note, State


class Clock:
    now_ms = 1000

    def __call__(self) -> int:
        return self.now_ms


def test_it_is_news_once_and_keeps_its_beginning(tmp_path: Path) -> None:
    clock = Clock()
    note = Note(tmp_path, clock)
    assert note.says(State.ASKS)
    clock.now_ms = 2000
    assert not note.says(State.ASKS, why="nobody there")
    found = standing.read(tmp_path)
    assert found is not None
    assert (found.since_ms, found.said_ms, found.why) == (1000, 2000, "nobody there")


def test_what_did_not_change_is_not_written_again(tmp_path: Path) -> None:
    clock = Clock()
    note = Note(tmp_path, clock)
    note.says(State.WAITS)
    before = (tmp_path / standing.STANDING_FILE).read_bytes()
    clock.now_ms = 2000
    note.says(State.WAITS)
    assert (tmp_path / standing.STANDING_FILE).read_bytes() == before
    Note(tmp_path, clock).says(State.WAITS)  # but once in each life: it is known to be of this one
    assert (tmp_path / standing.STANDING_FILE).read_bytes() != before


def test_the_token_by_which_it_came_is_remembered(tmp_path: Path) -> None:
    note = Note(tmp_path, Clock())
    note.says(State.JOINED, token="t1", heard_ms=1)
    note.says(State.REMOVED, why="so it is")
    found = standing.read(tmp_path)
    assert found is not None
    assert (found.token, found.heard_ms, found.is_over) == ("t1", 1, True)


def test_that_it_is_taken_for_a_member_is_written_now_and_then(tmp_path: Path) -> None:
    clock = Clock()
    note = Note(tmp_path, clock)
    assert note.is_taken()
    for after_ms, heard_ms in ((1, 1000), (HEARD_EVERY_MS, 1000 + HEARD_EVERY_MS)):
        clock.now_ms = 1000 + after_ms
        assert not note.is_taken()
        found = standing.read(tmp_path)
        assert found is not None
        assert found.heard_ms == heard_ms


def test_a_doubt_ends_when_it_is_taken_for_a_member_and_touches_nothing_that_is_sure(tmp_path: Path) -> None:
    note = Note(tmp_path, Clock())
    assert not note.doubts("nobody is in any zone yet")
    note.is_taken()
    assert note.doubts("strange")
    assert not note.doubts("strange")
    note.is_taken()
    found = standing.read(tmp_path)
    assert found is not None
    assert (found.state, found.doubt) == (State.JOINED, "")
    note.says(State.REMOVED)
    assert not note.doubts("strange")


def test_a_full_disk_stops_nobody(tmp_path: Path) -> None:
    note = Note(tmp_path / "not" / "there", Clock())
    assert note.says(State.ASKS)
    assert standing.read(tmp_path) is None


@pytest.mark.parametrize("content", ["{", "{}", '{"state": "king", "since_ms": 1, "said_ms": 1}'])
def test_what_cannot_be_read_is_found_out_again(tmp_path: Path, content: str) -> None:
    (tmp_path / standing.STANDING_FILE).write_text(content)
    assert standing.read(tmp_path) is None
