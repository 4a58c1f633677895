"""What a task does next, from its marks alone. No I/O: a restart is only one more call."""

from dataclasses import dataclass
from typing import Any, TypeAlias

from nano.saga.record import NO_STEP, Mark, TaskRecord
from nano.saga.step import Local, Saga


@dataclass(frozen=True, slots=True)
class Forward:
    """Do the step of this index."""

    step: int


@dataclass(frozen=True, slots=True)
class Wait:
    """The step of this index was begun at its peer, whose outcome decides; ask for it if it does not come."""

    step: int


@dataclass(frozen=True, slots=True)
class Back:
    """Undo the step of this index, and no earlier one before that is done."""

    step: int


@dataclass(frozen=True, slots=True)
class Committed:
    """Every step is done."""


@dataclass(frozen=True, slots=True)
class RolledBack:
    """Nothing is left that would have to be undone."""


Move: TypeAlias = Forward | Wait | Back | Committed | RolledBack


def next_move(saga: Saga[Any], record: TaskRecord) -> Move:
    """The one next move. Before the pivot a failure leads back, step by step; behind it, only forward."""
    if record.back:
        return _way_back(saga, record)
    if record.mark is Mark.BEGUN:
        return Wait(record.index)
    if record.mark is Mark.FAILED:
        return Forward(record.index)  # there is no way back any more: again, until it is done
    return _way_on(saga, record)


def _way_on(saga: Saga[Any], record: TaskRecord) -> Move:
    first = 0 if record.index == NO_STEP else record.index + 1
    notes = saga.decode(record.notes) if first < len(saga) else None
    wanted = (index for index in range(first, len(saga)) if saga.steps[index].wanted(notes))
    index = next(wanted, None)
    return Committed() if index is None else Forward(index)


def _way_back(saga: Saga[Any], record: TaskRecord) -> Move:
    """The latest step that may have left something; one without undo counts only while it may be running."""
    for index in range(record.ran.bit_length() - 1, -1, -1):
        if not record.ran >> index & 1:
            continue
        if saga.steps[index].can_undo or is_withdrawn(saga, record, index):
            return Back(index)
    return RolledBack()


def is_withdrawn(saga: Saga[Any], record: TaskRecord, index: int) -> bool:
    """Whether a step without undo is begun and unanswered: its peer must say whether it still happens."""
    step = saga.steps[index]
    begun = record.index == index and record.mark in {Mark.BEGUN, Mark.STUCK}
    return begun and not step.can_undo and not isinstance(step, Local)
