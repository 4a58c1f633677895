"""The stream of events: what readers are told, where they resume, and when they must read again."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nano.model.ids import PoolName
from nano.model.pool import Pool
from services.gateway.cursor import Book, Position
from services.gateway.ring import REREAD, Reader
from tests.support.views import LIFE, change, filled, instance, task, told


def test_a_reader_is_told_what_happens_from_now_on() -> None:
    view = filled()
    view.apply(Book.SCHEDULER, change(8, ("instance", instance("a"))))
    reader = Reader(view.ring)
    assert not reader.has_news
    view.apply(Book.SCHEDULER, change(9, ("instance", instance("b")), gone=(("instance", "id-a"),)))
    assert reader.has_news
    events = reader.take(10, {})
    assert [(event.kind, event.id, event.document is None) for event in events] == [
        ("instance", "id-b", False),
        ("instance", "id-a", True),
    ]
    assert told(reader) == []


@given(st.data())
def test_a_reader_that_resumes_anywhere_is_told_the_rest_exactly_once_and_in_order(
    data: st.DataObject,
) -> None:
    view = filled(1000)
    first = Reader(view.ring)
    revisions = dict.fromkeys(Book, 7)
    for number in range(data.draw(st.integers(1, 12))):
        book = data.draw(st.sampled_from(Book))
        revisions[book] += data.draw(st.integers(1, 3))
        count = data.draw(st.integers(0, 3)) if book is Book.SCHEDULER else 0
        made = [("pool", Pool(PoolName(f"p{number}-{index}"))) for index in range(count)]
        view.apply(book, change(revisions[book], *made))
    events = first.take(1000, {})
    for index, event in enumerate(events):
        again = Reader(view.ring, event.cursor)
        assert [one.id for one in again.take(1000, {})] == [one.id for one in events[index + 1 :]]


def test_a_reader_that_fell_out_of_the_ring_is_told_to_read_again_and_goes_on_from_there() -> None:
    view = filled(ring=3)
    reader = Reader(view.ring)
    for revision in range(8, 14):
        view.apply(Book.SCHEDULER, change(revision, ("pool", Pool(PoolName(f"p{revision}")))))
    assert told(reader) == [(REREAD, "")]
    assert told(reader) == []
    view.apply(Book.SCHEDULER, change(14, ("pool", Pool(PoolName("p14")))))
    assert told(reader) == [("pool", "p14")]


@pytest.mark.parametrize(
    ("revision", "can"), [(7, False), (9, False), (10, True), (11, True), (13, True), (99, True)]
)
def test_a_cursor_can_be_resumed_while_all_behind_it_is_in_the_ring(revision: int, can: bool) -> None:
    view = filled(ring=3)
    for number in range(8, 14):
        view.apply(Book.SCHEDULER, change(number, ("pool", Pool(PoolName(f"p{number}")))))
    since = {book: Position(LIFE, 7) for book in Book} | {Book.SCHEDULER: Position(LIFE, revision)}
    assert view.ring.can_resume(since) is can
    expected = [f"p{number}" for number in range(revision + 1, 14)] if can else [""]
    assert [key for _, key in told(Reader(view.ring, since))] == expected


def test_a_cursor_of_another_life_or_without_a_book_is_told_to_read_again() -> None:
    view = filled()
    strange = {book: Position("two", 99) for book in Book}
    partial = {Book.SCHEDULER: Position(LIFE, 7)}
    for since in (strange, partial):
        assert told(Reader(view.ring, since)) == [(REREAD, "")]


def test_a_cursor_in_the_middle_of_a_revision_resumes_in_its_middle() -> None:
    view = filled()
    pools = [("pool", Pool(PoolName(name))) for name in "abc"]
    reader = Reader(view.ring)
    view.apply(Book.SCHEDULER, change(8, *pools))
    first, *rest = reader.take(10, {})
    assert [event.id for event in Reader(view.ring, first.cursor).take(10, {})] == [
        event.id for event in rest
    ]


def test_news_of_the_same_revision_is_told_to_those_who_know_it_already() -> None:
    view = filled()
    view.apply(Book.SCHEDULER, change(8, ("task", task("1", "vm"))))
    reader = Reader(view.ring)
    view.apply(Book.SCHEDULER, change(8, ("task", replace(task("1", "vm"), progress_percent=40))))
    assert [event.document.progress_percent for event in reader.take(10, {})] == [40]


def test_what_is_dropped_of_a_life_that_is_over_says_nothing_of_the_present_one() -> None:
    view = filled(ring=2)
    view.apply(Book.SCHEDULER, change(8, ("pool", Pool(PoolName("old")))))
    view.apply(Book.SCHEDULER, change(2, whole=True, life="two"))
    since = view.cursor
    view.apply(Book.SCHEDULER, change(3, ("pool", Pool(PoolName("new"))), life="two"))
    assert told(Reader(view.ring, since)) == [("pool", "new")]
