"""Lines of the operation log: ids, files, questions."""

import time
from datetime import datetime
from pathlib import PurePath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nano.model.errors import Invalid
from services.portal import oplog
from services.portal.oplog import Line, line_of, question, read, written

NOON = datetime(2026, 11, 29, 12, 0, 0).astimezone()
NOON_NS = int(NOON.timestamp()) * 10**9
NOON_LOCAL = NOON.replace(tzinfo=None)


def test_an_id_is_the_local_time_and_a_number() -> None:
    first = line_of("a", NOON_NS, "0" * 17)
    second = line_of("b", NOON_NS + 1, first.id)
    assert (first.id, second.id) == ("20261129120000001", "20261129120000002")
    assert first.time == "2026-11-29 12:00:00"
    assert first.file == PurePath("202611", "20261129.log")


def test_what_a_terminal_would_obey_is_not_kept() -> None:
    hostile = "a\x1b[2Jb\u202ec\r\td\ne\u4e91"
    assert line_of(hostile, NOON_NS, "0" * 17).content == "a\ufffd[2Jb\ufffdc\ufffd\ufffdd\ne\u4e91"


def test_no_id_is_given_twice_when_the_clock_goes_back_or_a_second_is_full() -> None:
    assert line_of("a", NOON_NS - 5 * 10**9, "20261129120000001").id == "20261129120000002"
    assert line_of("a", NOON_NS, "20261129120000999").id == "20261129120001001"
    assert line_of("a", NOON_NS, "20261129235959999").id == "20261130000000001"


@given(st.text(max_size=200))
def test_a_line_is_read_as_it_was_written_and_is_one_line(content: str) -> None:
    line = Line("20261129120000001", NOON_NS, content.encode(errors="ignore").decode())
    text = written(line).decode()
    assert text.endswith("\n")
    assert "\n" not in text[:-1]
    assert "\r" not in text
    assert read(text[:-1]) == line


@pytest.mark.parametrize("text", ["", "x", "1,2,3", "20261129120000001,x,y", "20261129250000001,1,25 h"])
def test_what_is_no_line_is_none(text: str) -> None:
    assert read(text) is None


def asked(after: str = "", before: str = "", start: int = 0, limit: int = 0) -> oplog.Question:
    return question(after=after, before=before, start=start, limit=limit, now=NOON_LOCAL)


def test_a_question_means_the_last_day_and_twenty_lines_unless_it_says_otherwise() -> None:
    found = asked()
    assert (found.before, found.limit) == (NOON_LOCAL, 20)
    assert [day.day for day in found.days] == [29, 28]
    assert asked(limit=101).limit == 20
    assert asked(limit=100).limit == 100


@pytest.mark.parametrize(
    ("after", "before", "field"),
    [
        ("2026-11-29", "", "after"),
        ("", "soon", "before"),
        ("2026-11-29 12:00:00", "2026-11-29 11:59:59", "before"),
        ("1990-01-01 00:00:00", "", "after"),
        ("", "0001-01-01 00:00:00", "before"),
        ("0001-01-01 00:00:00", "0001-01-01 00:00:00", "before"),
    ],
)
def test_a_window_that_cannot_be_meant_is_refused(after: str, before: str, field: str) -> None:
    with pytest.raises(Invalid) as refused:
        asked(after, before)
    assert refused.value.field == field


def test_a_page_is_cut_behind_the_count() -> None:
    lines = [Line(f"2026112911{minute:02d}00001", 0, str(minute)) for minute in range(59, -1, -1)]
    page = oplog.answer(asked(start=2, limit=3), lines)
    assert [line.content for line in page.lines] == ["57", "56", "55"]
    assert page.total == 60
    narrow = oplog.answer(asked("2026-11-29 11:10:00", "2026-11-29 11:12:00"), lines)
    assert [line.content for line in narrow.lines] == ["12", "11", "10"]


def test_a_total_is_counted_up_to_a_thousand() -> None:
    started = time.monotonic_ns()
    many = (Line("20261129110000001", started, "x") for _ in range(5000))
    assert oplog.answer(asked(), many).total == 1000
