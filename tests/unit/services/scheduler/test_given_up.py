"""What was given up with its cell: known until that cell says that it holds it no more, off at each sight."""

from collections.abc import Sequence
from dataclasses import replace

from nano.model.ids import CellId, InstanceId
from nano.model.instance import InstanceStatus, Power
from nano.model.pool import Presence
from nano.saga.record import About
from services.scheduler.given_up import PAUSE_LIMIT_MS, PAUSE_MS, GivenUp, GivenUpChange, GivenUpPut, GivenUps
from services.scheduler.inventory import CellPut, InstanceGone, InstancePut, Inventory, StatusPut
from tests.support.nouns import CELL, INSTANCE

ONE = GivenUp(INSTANCE.id, CELL.id, About("admin.vm", "admin", "admin"))
OTHER = CellId("Cell_00163e000002")
CELLS = {cell: replace(CELL, id=cell) for cell in (CELL.id, OTHER)}


def given_up(one: GivenUp = ONE) -> GivenUps:
    made = GivenUps()
    made.apply(GivenUpPut(one))
    return made


def applied(made: GivenUps, changes: Sequence[GivenUpChange]) -> GivenUps:
    for change in changes:
        made.apply(change)
    return made


def status(power: Power, epoch: int = 3) -> InstanceStatus:
    return InstanceStatus(INSTANCE.id, epoch, 1, power)


def at(made: GivenUps) -> tuple[CellId, int] | None:
    """Where it is on, and under which epoch; None when it is not known any more."""
    one = made.known.get(INSTANCE.id)
    return (one.at, one.epoch) if one else None


def test_it_is_due_while_a_cell_that_is_there_says_that_it_is_on() -> None:
    made = given_up()
    assert made.due(CELLS, 0) == []
    applied(made, made.reported(CELL.id, status(Power.PAUSED)))
    assert [(one.at, one.epoch) for one in made.due(CELLS, 0)] == [(CELL.id, 3)]
    for cell in (
        replace(CELL, presence=Presence.LOST),
        replace(CELL, presence=Presence.REMOVED),
        replace(CELL, confirmed=False),
    ):
        assert made.due({CELL.id: cell}, 0) == []
    assert made.due({}, 0) == []
    assert made.reported(CELL.id, status(Power.PAUSED)) == []  # no news
    applied(made, made.reported(CELL.id, status(Power.STOPPED)))
    assert made.due(CELLS, 0) == []
    applied(made, made.account(CELL.id, {INSTANCE.id: status(Power.RUNNING)}))
    assert len(made.due(CELLS, 0)) == 1  # its host was restarted, say


def test_it_is_tried_again_after_a_pause_that_doubles() -> None:
    made = applied(given_up(), given_up().reported(CELL.id, status(Power.RUNNING)))
    now_ms, pauses = 0, []
    for _ in range(40):
        assert made.due(CELLS, now_ms)
        applied(made, made.tried(INSTANCE.id, now_ms))
        next_ms = made.known[INSTANCE.id].next_ms
        assert not made.due(CELLS, next_ms - 1)
        pauses.append(next_ms - now_ms)
        now_ms = next_ms
    assert pauses[:3] == [PAUSE_MS, 2 * PAUSE_MS, 4 * PAUSE_MS]
    assert set(pauses[12:]) == {PAUSE_LIMIT_MS}
    assert GivenUps().tried(INSTANCE.id, 1) == []


def test_only_the_word_of_its_own_cell_ends_it() -> None:
    made = given_up()
    assert made.account(OTHER, {}) == []
    assert made.gone(OTHER, INSTANCE.id) == []
    assert at(applied(made, made.reported(CELL.id, status(Power.STOPPED)))) == ("", 0)
    assert at(applied(made, made.account(CELL.id, {}))) is None
    assert made.gone(CELL.id, INSTANCE.id) == made.reported(CELL.id, status(Power.RUNNING)) == []


def test_it_is_switched_off_wherever_it_shows_up() -> None:
    """The server may have come back under another name, and what it says of itself is all there is."""
    made = applied(given_up(), given_up().reported(OTHER, status(Power.RUNNING)))
    assert at(made) == (OTHER, 3)
    assert made.reported(CELL.id, status(Power.STOPPED)) == []
    assert made.account(CELL.id, {}) == []
    assert at(applied(made, made.account(OTHER, {}))) == ("", 3)
    assert at(applied(made, made.account(CELL.id, {}))) is None


def test_what_its_cell_may_be_making_still_is_waited_for() -> None:
    one = GivenUp(ONE.instance, ONE.cell, may_come=True)
    made = given_up(one)
    assert made.account(CELL.id, {}) == []
    assert at(applied(given_up(one), made.gone(CELL.id, INSTANCE.id))) is None
    applied(made, made.reported(CELL.id, status(Power.RUNNING)))
    assert at(made) == (CELL.id, 3)
    assert at(applied(made, made.account(CELL.id, {}))) is None


# ------------------------------------------------------------------ in the book


def book() -> Inventory:
    made = Inventory()
    for change in (CellPut(CELL), InstancePut(INSTANCE)):
        made.apply(change)
    return made


def test_what_is_given_up_is_kept_with_the_book_and_old_books_have_none() -> None:
    made = book()
    made.apply(StatusPut(InstanceStatus(INSTANCE.id, 1, 1, Power.RUNNING)))
    for change in (*made.give_up(INSTANCE.id), InstanceGone(INSTANCE.id)):
        made.apply(change)
    assert made.given_up.known == {
        INSTANCE.id: GivenUp(INSTANCE.id, CELL.id, About("admin.vm", "admin", "admin"), at=CELL.id, epoch=1)
    }
    snapshot = made.snapshot()
    assert Inventory.restore(snapshot).given_up.known == made.given_up.known
    assert Inventory.restore({**snapshot, "given_up": []}).given_up.known == {}
    assert made.give_up(InstanceId("other")) == []
