"""Replicas: what they show, what their readers are told, and when those are told to read again."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nano.model.errors import NotFound, Stale, Unreachable
from nano.model.ids import CellId, InstanceId, PoolName, TaskId, TemplateId
from nano.model.instance import Instance, InstanceSpec, InstanceStatus, Power
from nano.model.pool import Cell, Pool, Usage
from nano.model.task import Task, TaskState
from nano.model.template import Devices
from services.gateway.cursor import Book, Position
from services.gateway.ring import REREAD, Reader
from services.gateway.view import Change, Rates, View

LIFE = "one"


def instance(name: str) -> Instance:
    spec = InstanceSpec(
        name, "admin", "admin", PoolName("default"), 1, 2**28, (2**30,), TemplateId("t"), Devices()
    )
    return Instance(InstanceId(f"id-{name}"), spec, CellId("Cell_1"), 1, "00:16:3e:00:00:01", 1)


def task(name: str, subject: str, created_ms: int = 0) -> Task:
    return Task(TaskId(name), "create_instance", subject, TaskState.RUNNING, "", 0, 1, 0, True, created_ms)


def change(
    revision: int, *nouns: tuple[str, Any], gone: tuple[tuple[str, str], ...] = (), **more: Any
) -> Change:
    return Change(more.pop("life", LIFE), revision, more.pop("whole", False), nouns, gone)


def filled(ring: int = 100) -> View:
    view = View(ring)
    for book in Book:
        view.apply(book, change(7, whole=True))
        view.fed(book)
    return view


def told(reader: Reader) -> list[tuple[str, str]]:
    return [(event.kind, event.id) for event in reader.take(1000, {})]


def test_a_book_that_was_never_seen_is_unreachable_and_not_empty() -> None:
    view = View()
    with pytest.raises(Unreachable, match="scheduler"):
        view.need(Book.SCHEDULER)
    view.apply(Book.SCHEDULER, change(0, whole=True))
    view.need(Book.SCHEDULER)
    assert list(view.instances_in_order()) == []


def test_nouns_come_change_and_go() -> None:
    view = filled()
    one = instance("a")
    view.apply(Book.SCHEDULER, change(8, ("instance", one), ("status", InstanceStatus(one.id, 1, 1))))
    view.apply(Book.SCHEDULER, change(9, ("instance", replace(one, created=True))))
    assert view.instance(one.id).created
    assert one.id in view.statuses
    view.apply(Book.SCHEDULER, change(10, gone=(("instance", one.id),)))
    assert view.statuses == {}
    with pytest.raises(NotFound):
        view.instance(one.id)


def test_a_change_that_was_told_already_changes_nothing() -> None:
    view = filled()
    view.apply(Book.SCHEDULER, change(9, ("pool", Pool(PoolName("new")))))
    reader = Reader(view.ring)
    view.apply(Book.SCHEDULER, change(8, gone=(("pool", "new"),)))
    assert view.pool("new")
    assert told(reader) == []


def test_another_life_must_begin_with_the_whole() -> None:
    view = filled()
    with pytest.raises(Stale):
        view.apply(Book.SCHEDULER, change(8, life="two"))
    with pytest.raises(Stale):
        View().apply(Book.SCHEDULER, change(8))


def test_the_whole_makes_all_that_was_known_void_and_tells_readers_to_read_again() -> None:
    view = filled()
    view.apply(Book.SCHEDULER, change(8, ("instance", instance("a"))))
    reader = Reader(view.ring)
    view.apply(Book.SCHEDULER, change(3, ("instance", instance("b")), whole=True, life="two"))
    assert [one.spec.name for one in view.instances_in_order()] == ["b"]
    assert told(reader) == [(REREAD, Book.SCHEDULER)]


def test_instances_stay_in_order_of_their_full_names() -> None:
    view = filled()
    for revision, name in enumerate("cabd", 8):
        view.apply(Book.SCHEDULER, change(revision, ("instance", instance(name))))
        assert [one.spec.name for one in view.instances_in_order()] == sorted("cabd"[: revision - 7])
    one = view.instance("id-b")
    view.apply(Book.SCHEDULER, change(20, ("instance", replace(one, spec=replace(one.spec, name="z")))))
    view.apply(Book.SCHEDULER, change(21, gone=(("instance", "id-a"),)))
    assert [one.spec.name for one in view.instances_in_order()] == ["c", "d", "z"]


def test_tasks_are_found_by_what_they_work_on() -> None:
    view = filled()
    view.apply(Book.SCHEDULER, change(8, ("task", task("2", "vm", 5)), ("task", task("1", "vm", 9))))
    view.apply(Book.SCHEDULER, change(9, ("task", task("3", "other"))))
    assert [one.id for one in view.tasks_of("vm")] == ["2", "1"]
    view.apply(Book.SCHEDULER, change(10, gone=(("task", "2"), ("task", "never"))))
    assert [one.id for one in view.tasks_of("vm")] == ["1"]


def test_a_cell_is_found_only_in_its_own_pool() -> None:
    view = filled()
    pools = [("pool", Pool(PoolName(name))) for name in ("a", "b")]
    view.apply(Book.SCHEDULER, change(8, *pools, ("cell", Cell(CellId("Cell_1"), PoolName("a")))))
    assert view.cell_in("a", "Cell_1").id == "Cell_1"
    for pool, cell in (("b", "Cell_1"), ("a", "Cell_2"), ("c", "Cell_1")):
        with pytest.raises(NotFound):
            view.cell_in(pool, cell)


# ------------------------------------------------------------------ waiting and ages


def test_a_revision_is_shown_once_it_has_come() -> None:
    view = filled()
    assert view.shows(Book.SCHEDULER, 7)
    assert not view.shows(Book.SCHEDULER, 8)
    view.apply(Book.SCHEDULER, change(9))
    assert view.shows(Book.SCHEDULER, 8)


def test_a_cursor_of_another_gateway_is_seen_once_every_book_has_come_so_far() -> None:
    view = filled()
    wanted = {Book.SCHEDULER: Position(LIFE, 8), Book.IMAGESTORE: Position(LIFE, 7)}
    assert not view.has_seen(wanted)
    view.apply(Book.SCHEDULER, change(8))
    assert view.has_seen(wanted)
    assert view.has_seen({Book.SCHEDULER: Position("a life that is over", 900)})
    assert not View().has_seen(wanted)


def test_a_replica_that_nobody_feeds_says_its_age() -> None:
    view = filled()
    replica = view.replicas[Book.SCHEDULER]
    assert replica.age_s(1000.0) == 0
    view.lost(Book.SCHEDULER, 1000.0)
    view.lost(Book.SCHEDULER, 1005.0)
    assert replica.age_s(1007.5) == 7.5
    view.fed(Book.SCHEDULER)
    assert replica.age_s(1008.0) == 0


# ------------------------------------------------------------------ samples


def usage(at_ms: int, read_bytes: int) -> Usage:
    return Usage("Cell_1", at_ms, 12.5, 1, 2, 3, 4, read_bytes, 0, 0, 0)


def test_rates_are_measured_between_two_samples() -> None:
    view = filled()
    view.sample([usage(1000, 500)])
    assert view.rates("Cell_1") == Rates()
    view.sample([usage(3000, 2500)])
    assert view.rates("Cell_1").read_bytes_s == 1000
    view.sample([usage(2000, 9999), usage(3000, 9999)])  # late, and twice
    assert view.usage("Cell_1") == usage(3000, 2500)
    view.sample([usage(4000, 100)])  # started anew
    assert view.rates("Cell_1").read_bytes_s == 100


# ------------------------------------------------------------------ events


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
    assert view.can_resume(since) is can
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


def test_power_is_looked_up_by_instance() -> None:
    view = filled()
    status = InstanceStatus(InstanceId("vm"), 1, 1, Power.RUNNING)
    view.apply(Book.SCHEDULER, change(8, ("status", status)))
    assert view.statuses[InstanceId("vm")].power is Power.RUNNING
