"""Replicas: what they show, what their readers are told, and when those are told to read again."""

from dataclasses import replace

import pytest

from nano.model.errors import NotFound, Stale, Unreachable
from nano.model.ids import CellId, InstanceId, PoolName
from nano.model.instance import InstanceStatus, Power
from nano.model.pool import Cell, Pool, Usage
from services.gateway.cursor import Book, Position
from services.gateway.ring import REREAD, Reader
from services.gateway.view import Rates, View
from tests.support.views import LIFE, change, filled, instance, task, told


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


def test_power_is_looked_up_by_instance() -> None:
    view = filled()
    status = InstanceStatus(InstanceId("vm"), 1, 1, Power.RUNNING)
    view.apply(Book.SCHEDULER, change(8, ("status", status)))
    assert view.statuses[InstanceId("vm")].power is Power.RUNNING
