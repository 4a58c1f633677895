"""A cursor is read back as it was written, and nothing else is one."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nano.model.errors import Invalid
from services.gateway import cursor
from services.gateway.cursor import WHOLE, Book, Position

POSITIONS = st.builds(
    Position,
    st.text("abcdef0123456789-", min_size=1, max_size=40),
    st.integers(0, 2**63),
    st.integers(0, WHOLE),
)


@given(st.dictionaries(st.sampled_from(Book), POSITIONS))
def test_a_cursor_is_read_back_as_it_was_written(known: dict[Book, Position]) -> None:
    assert cursor.read(cursor.written(known), "Last-Event-ID") == known


@given(st.text() | st.binary(max_size=60).map(lambda data: data.hex()))
def test_any_text_is_a_cursor_or_refused(text: str) -> None:
    with contextlib.suppress(Invalid):  # all else fails the test
        assert set(cursor.read(text, "Last-Event-ID")) <= set(Book)


@pytest.mark.parametrize("text", ["x", "!!!!", "c2NoZWR1bGVy", "c2NoZWR1bGVyOmE6LTE6MA", "云", "A" * 2000])
def test_what_is_no_cursor_is_refused_by_its_header(text: str) -> None:
    with pytest.raises(Invalid) as refused:
        cursor.read(text, "Last-Event-ID")
    assert refused.value.field == "Last-Event-ID"


def test_a_position_has_seen_what_lies_before_it_in_the_same_life() -> None:
    here = Position("a", 5, 1)
    assert here.has_seen(Position("a", 5, 1))
    assert here.has_seen(Position("a", 4))
    assert not here.has_seen(Position("a", 5, 2))
    assert not here.has_seen(Position("b", 1, 0))
