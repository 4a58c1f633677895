"""What follows from which marks, row by row. Saga: reserve, lease, read (no undo), build (pivot), start."""

from typing import Any

import msgspec
import pytest

from nano.model.action import ReleaseAddress
from nano.model.ids import InstanceId, TaskId
from nano.model.peers import Role
from nano.saga.journal import Back, Committed, Forward, Move, RolledBack, Wait, next_move
from nano.saga.record import Mark, StepMarked, TaskOpened, TaskTurned
from nano.saga.step import Changes, Moved, Saga, remote, step
from nano.saga.tasks import Tasks

TASK = TaskId("t")


class Notes(msgspec.Struct, frozen=True):
    wants_address: bool = True


@step
def reserve(notes: Notes, _book: Any) -> Moved[Notes]:
    return notes, ()


@reserve.undo
def unreserve(_notes: Notes, _book: Any) -> Changes:
    return ()


def _remote(name: str, no_undo: str = "") -> Any:
    def act(_notes: Notes) -> ReleaseAddress:
        return ReleaseAddress(InstanceId("vm"))

    act.__name__ = name
    return remote(Role.CELL, no_undo=no_undo)(act)


lease, read, build = _remote("lease"), _remote("read", "a read"), _remote("build")
start = _remote("start", "behind the pivot")
lease.when(lambda notes: notes.wants_address)

SAGA = Saga("sample", Notes, (reserve, lease, read, build, start), pivot=build)
DELETE = Saga("delete", Notes, (reserve, read, start), pivot=read)


def after(*marks: tuple[int, Mark] | str, saga: Saga[Notes] = SAGA, notes: Notes | None = None) -> Move:
    """The next move of a task with these marks, and `"cancel"` where it was cancelled."""
    tasks = Tasks()
    opened = TaskOpened(
        TASK, saga.name, "vm", saga.encode(notes or Notes()), len(saga), saga.pivot, created_ms=0
    )
    tasks.apply(opened)
    for mark in marks:
        if isinstance(mark, str):
            tasks.apply(TaskTurned(TASK))
        else:
            index, kind = mark
            tasks.apply(StepMarked(TASK, saga.steps[index].name, index, kind, "cell"))
    return next_move(saga, tasks.open[TASK])


RESERVED = (0, Mark.DONE)
LEASED = ((1, Mark.BEGUN), (1, Mark.DONE))
READ = ((2, Mark.BEGUN), (2, Mark.DONE))
BUILT = ((3, Mark.BEGUN), (3, Mark.DONE))
STARTED = ((4, Mark.BEGUN), (4, Mark.DONE))


def test_forward_step_by_step() -> None:
    assert after() == Forward(0)
    assert after(RESERVED) == Forward(1)
    assert after(RESERVED, (1, Mark.BEGUN)) == Wait(1)
    assert after(RESERVED, *LEASED) == Forward(2)
    assert after(RESERVED, *LEASED, *READ, *BUILT, *STARTED) == Committed()


def test_a_step_that_these_notes_do_not_need_is_passed() -> None:
    dry = Notes(wants_address=False)
    assert after(RESERVED, notes=dry) == Forward(2)
    assert after(RESERVED, (2, Mark.BEGUN), (2, Mark.FAILED), notes=dry) == Back(0)


@pytest.mark.parametrize(
    ("marks", "move"),
    [
        ([(0, Mark.FAILED)], RolledBack()),
        ([RESERVED, (1, Mark.BEGUN), (1, Mark.FAILED)], Back(1)),
        ([RESERVED, (1, Mark.BEGUN), (1, Mark.FAILED), (1, Mark.UNDONE)], Back(0)),
        ([RESERVED, (1, Mark.BEGUN), (1, Mark.FAILED), (1, Mark.STUCK)], Back(1)),
        ([RESERVED, (1, Mark.BEGUN), (1, Mark.FAILED), (1, Mark.ABANDONED)], Back(0)),
        ([RESERVED, (1, Mark.FAILED)], Back(0)),
        ([RESERVED, *LEASED, (2, Mark.BEGUN), (2, Mark.FAILED)], Back(1)),
        ([RESERVED, *LEASED, *READ, (3, Mark.BEGUN), (3, Mark.FAILED)], Back(3)),
        ([RESERVED, *LEASED, *READ, (3, Mark.BEGUN), (3, Mark.FAILED), (3, Mark.UNDONE)], Back(1)),
        ([RESERVED, (1, Mark.FAILED), (0, Mark.UNDONE)], RolledBack()),
    ],
)
def test_before_the_pivot_a_failure_leads_back_in_reverse(marks: list[Any], move: Move) -> None:
    assert after(*marks) == move


@pytest.mark.parametrize(
    ("marks", "move"),
    [
        (["cancel"], RolledBack()),
        ([RESERVED, "cancel"], Back(0)),
        ([RESERVED, (1, Mark.BEGUN), "cancel"], Back(1)),
        ([RESERVED, *LEASED, "cancel"], Back(1)),
        ([RESERVED, *LEASED, *READ, (3, Mark.BEGUN), "cancel"], Back(3)),
    ],
)
def test_before_the_pivot_a_cancel_does_the_same(marks: list[Any], move: Move) -> None:
    assert after(*marks) == move


def test_behind_the_pivot_there_is_only_forward() -> None:
    passed = (RESERVED, *LEASED, *READ, *BUILT)
    assert after(*passed, (4, Mark.BEGUN), (4, Mark.FAILED)) == Forward(4)
    assert after(*passed, (4, Mark.BEGUN), (4, Mark.FAILED), (4, Mark.BEGUN)) == Wait(4)
    assert after(*passed, (4, Mark.BEGUN), (4, Mark.ABANDONED)) == Committed()


def test_a_begun_step_without_undo_must_be_heard_of_before_the_task_goes_back() -> None:
    withdrawn = (RESERVED, (1, Mark.BEGUN), "cancel")
    assert after(*withdrawn, saga=DELETE) == Back(1)
    assert after(*withdrawn, (1, Mark.STUCK), saga=DELETE) == Back(1)
    assert after(*withdrawn, (1, Mark.UNDONE), saga=DELETE) == Back(0)
    assert after(*withdrawn, (1, Mark.FAILED), saga=DELETE) == Back(0)


def test_a_pivot_that_is_done_before_the_cancel_reached_it_goes_forward() -> None:
    assert after(RESERVED, (1, Mark.BEGUN), "cancel", (1, Mark.DONE), saga=DELETE) == Forward(2)
