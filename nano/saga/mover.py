"""Moves tasks: makes what follows from the marks, writes it, and takes in what callees say.

All synchronous. A step's change and its mark are one commit; what must be sent is put into a lane, and a
courier carries it once that commit is durable.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec
import structlog

from nano.model.action import Action, Outcome, Progress
from nano.model.errors import Conflict, Corrupt, Exhausted, Unreachable
from nano.model.ids import TaskId
from nano.model.task import Fault, TaskState
from nano.saga.callees import step_key
from nano.saga.couriers import Couriers
from nano.saga.faults import fault_from
from nano.saga.journal import Back, Committed, Forward, Move, RolledBack, Wait, next_move
from nano.saga.lanes import Call, Lanes
from nano.saga.record import Mark, StepMarked, TaskEnded, TaskRecord, TaskTurned
from nano.saga.step import Local, Remote, Saga
from nano.saga.tasks import Tasks
from nano.saga.timers import Due

_log = structlog.get_logger(__name__)


class TaskBook(Protocol):
    """A book with tasks in it."""

    tasks: Tasks


class TaskShelf(Protocol):
    """What tasks need of the shelf that holds such a book."""

    revision: int

    @property
    def book(self) -> TaskBook: ...
    def commit(self, *changes: Any) -> int: ...
    async def durable(self, revision: int | None = None) -> None: ...


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of an engine; the defaults serve a zone of the size that the design names."""

    open_tasks: int = 500_000
    workers: int = 64
    """Calls under way at once, to all callees together."""
    calls_per_peer: int = 16
    """To one callee, so that no slow one takes all workers."""
    forgets_per_call: int = 1000
    backoff_s: float = 0.5
    """The first pause before something that failed is tried again; it doubles each time."""
    backoff_limit_s: float = 60.0
    stuck_after: int = 3
    """How often in a row a peer must be silent before undos that wait for it are shown as stuck."""


@dataclass(frozen=True, slots=True)
class Broken:
    """What comes next cannot be told: the notes do not fit the saga any more, or a `when` has a defect."""

    fault: Fault


class Mover:
    """Takes each task as far as it goes without anybody's answer."""

    def __init__(
        self,
        shelf: TaskShelf,
        sagas: Iterable[Saga[Any]],
        lanes: Lanes,
        couriers: Couriers,
        limits: Limits,
        *,
        now_ms: Callable[[], int],
        progressed: Callable[[TaskId], None],
        ended: Callable[[TaskId], None],
    ) -> None:
        self._shelf = shelf
        self._sagas = {saga.name: saga for saga in sagas}
        self._lanes = lanes
        self._couriers = couriers
        self._limits = limits
        self._now_ms = now_ms
        self._progressed = progressed
        self._ended = ended
        self._tries: dict[TaskId, int] = {}
        """How often in a row a task's move did not succeed."""

    @property
    def _tasks(self) -> Tasks:
        return self._shelf.book.tasks

    def saga(self, kind: str) -> Saga[Any]:
        saga = self._sagas.get(kind)
        if saga is None:
            raise Corrupt(
                f"there is no saga {kind!r} here: finish its tasks with the version that began them"
            )
        return saga

    def next_move(self, record: TaskRecord) -> Move | Broken:
        saga = self.saga(record.kind)
        try:
            return next_move(saga, record)
        except Exception as error:  # noqa: BLE001 - the runner's lawful one: a defect costs its own task only
            return Broken(fault_from(error, task=record.id, step=record.step))

    def awaited(self, record: TaskRecord) -> tuple[int, str] | None:
        """Index and target of the step whose peer has the next word, if it is a peer's."""
        move = self.next_move(record)
        if not isinstance(move, Wait | Back):
            return None
        target = record.target(move.step)
        return None if target is None else (move.step, target)

    def key(self, record: TaskRecord, move: Wait | Back) -> str:
        """The step as its callee knows it."""
        attempt = record.attempt if isinstance(move, Wait) else 1
        return step_key(self.saga(record.kind).steps[move.step].name, attempt)

    @contextmanager
    def held_up(self, task: TaskId) -> Iterator[None]:
        """A disk that is full, or behind, refuses what is written inside: the task moves later.

        Nothing is lost by that: callees keep what they did until they are told that the task has ended.
        """
        try:
            yield
        except Exhausted as error:
            _log.warning("saga.held_up", task=task, reason=error.message)
            self.later(task)

    def advance(self, task: TaskId) -> None:
        """As far as it goes without anybody's answer. A disk that is full holds it up, and nothing else."""
        with self.held_up(task):
            while (record := self._tasks.open.get(task)) is not None:
                if not self._make(record, self.next_move(record)):
                    return

    def _make(self, record: TaskRecord, move: Move | Broken) -> bool:
        """Make one move; whether the next can follow at once."""
        match move:
            case Broken(fault):
                return self._turn(record, fault)
            case Forward(index):
                return self._forward(record, index)
            case Wait(index):
                return self._wait_for(record, index)
            case Back(index):
                return self._back(record, index)
            case Committed():
                self._end(record, TaskState.DONE)
            case RolledBack():
                self._end(record, TaskState.CANCELLED if record.cancelled else TaskState.FAILED)
        return False

    def _forward(self, record: TaskRecord, index: int) -> bool:
        saga = self.saga(record.kind)
        step = saga.steps[index]
        try:
            notes = saga.decode(record.notes)
            if isinstance(step, Remote):
                at = str(step.target(notes))
                step.act(notes)  # what it cannot say must fail here, before anything is begun
            else:
                moved, changes = _local(step).do(notes, self._shelf.book)
        except Exception as error:  # noqa: BLE001 - as above: a step's defect fails its task only
            return self.failed(record, index, fault_from(error, task=record.id, step=step.name))
        if isinstance(step, Local):
            self.mark(record, index, Mark.DONE, *changes, notes=saga.encode(moved))
            return True
        if at in self._tasks.dead:
            return self._without(record, index, at)
        self.mark(record, index, Mark.BEGUN, at=at)
        self.push(at, record.id)
        return False

    def _wait_for(self, record: TaskRecord, index: int) -> bool:
        at = record.target(index) or ""
        if at in self._tasks.dead:
            return self._without(record, index, at)
        self.push(at, record.id, ask=True)
        return False

    def _without(self, record: TaskRecord, index: int, at: str) -> bool:
        """A step whose peer is dead: before the pivot it fails, behind it the task goes on without it."""
        if index > record.pivot:
            return self.abandon(record, index)
        return self.failed(
            record, index, Fault(Unreachable.code, f"{at} was removed: it does nothing more", subject=at)
        )

    def _back(self, record: TaskRecord, index: int) -> bool:
        saga = self.saga(record.kind)
        step = saga.steps[index]
        if isinstance(step, Remote):
            at = record.target(index) or ""
            if at in self._tasks.dead:
                return self.abandon(record, index)
            self.push(at, record.id)
            if self._lanes.is_gone(at):
                self.stuck(record, index, not_there(at))
            return False
        try:
            take_back = _local(step).take_back
            changes = take_back(saga.decode(record.notes), self._shelf.book) if take_back else ()
        except Exception as error:  # noqa: BLE001 - as above: the task is stuck, seen, and tried again
            self.stuck(record, index, fault_from(error, task=record.id, step=step.name))
            self.later(record.id)
            return False
        self.mark(record, index, Mark.UNDONE, *changes)
        return True

    def abandon(self, record: TaskRecord, index: int) -> bool:
        """Write off the step, or its undo, together with what follows from that in the book."""
        saga = self.saga(record.kind)
        step = saga.steps[index]
        try:
            let_go = step.let_go if isinstance(step, Remote) else None
            changes = let_go(saga.decode(record.notes), self._shelf.book) if let_go else ()
        except Exception as error:  # noqa: BLE001 - as above
            fault = fault_from(error, task=record.id, step=step.name)
            if not record.back:
                return self.failed(record, index, fault)
            self.stuck(record, index, fault)
            self.later(record.id)
            return False
        self.mark(record, index, Mark.ABANDONED, *changes)
        return True

    def _turn(self, record: TaskRecord, fault: Fault) -> bool:
        """Nobody can say how it goes on: back, if there is a way back, else a later version must know."""
        if record.past_pivot:
            self.later(record.id)
            return False
        self._shelf.commit(TaskTurned(record.id, fault))
        return True

    def failed(self, record: TaskRecord, index: int, fault: Fault) -> bool:
        """Before the pivot it goes back at once; behind it the step is tried again, later and for ever."""
        self.mark(record, index, Mark.FAILED, fault=fault)
        turned = self._tasks.open[record.id].back
        if not turned:
            self.later(record.id)
        return turned

    def _end(self, record: TaskRecord, state: TaskState) -> None:
        self._shelf.commit(TaskEnded(record.id, state, self._now_ms()))
        self._tries.pop(record.id, None)
        for at in sorted(record.peers - self._tasks.dead):
            self._lanes.push_forgets(at)
        self._couriers.wake()
        self._ended(record.id)

    # -------------------------------------------------------------- what callees say

    def answered(self, at: str, outcome: Outcome) -> None:
        """Take in one outcome, if the task waits for it; anything else is late or doubled."""
        record = self._tasks.open.get(TaskId(outcome.task))
        if record is None:
            return
        move = self.next_move(record)
        if not isinstance(move, Wait | Back) or record.target(move.step) != at:
            return
        if outcome.step != self.key(record, move):
            return
        with self.held_up(record.id):
            if self._outcome_of(record, move, outcome):
                self.advance(record.id)

    def _outcome_of(self, record: TaskRecord, move: Wait | Back, outcome: Outcome) -> bool:
        if isinstance(move, Back):
            return self._undo_outcome(record, move.step, outcome)
        match outcome.progress:
            case Progress.DONE:
                return self._done(record, move.step, outcome)
            case Progress.FAILED | Progress.UNDONE | Progress.UNDOING:
                fault = outcome.fault or Fault(Conflict.code, f"{outcome.step} was undone at its peer")
                return self.failed(record, move.step, fault)
            case Progress.UNKNOWN:
                self.push(record.target(move.step) or "", record.id)
            case Progress.BEGUN:
                if outcome.percent != self._tasks.percent.get(record.id, 0):
                    self._tasks.percent[record.id] = outcome.percent
                    self._progressed(record.id)
        return False

    def _done(self, record: TaskRecord, index: int, outcome: Outcome) -> bool:
        saga = self.saga(record.kind)
        step = saga.steps[index]
        try:
            notes, changes = _remote(step).fold(saga.decode(record.notes), outcome.result, self._shelf.book)
        except Exception as error:  # noqa: BLE001 - as above
            fault = fault_from(error, task=record.id, step=step.name)
            if index == record.pivot and not step.can_undo:
                self.later(record.id)  # it has happened for good: there is no going back from here
                return False
            return self.failed(record, index, fault)
        self.mark(record, index, Mark.DONE, *changes, notes=saga.encode(notes))
        return True

    def action(self, record: TaskRecord, index: int) -> Action | None:
        """What the step asks of its callee. It could say so before; if it cannot any more, the step fails."""
        saga = self.saga(record.kind)
        step = saga.steps[index]
        try:
            return _remote(step).act(saga.decode(record.notes))
        except Exception as error:  # noqa: BLE001 - as above
            self.refused(record, fault_from(error, task=record.id, step=step.name), begun=True)
            return None

    def refused(self, record: TaskRecord, fault: Fault, *, begun: bool) -> None:
        """The peer does not take the call at all: a failed step, or an undo that is stuck."""
        with self.held_up(record.id):
            match self.next_move(record):
                case Wait(index) if begun:
                    if self.failed(record, index, fault):
                        self.advance(record.id)
                case Back(index):
                    self.stuck(record, index, fault)
                    self.later(record.id)
                case _:
                    self.later(record.id)

    def _undo_outcome(self, record: TaskRecord, index: int, outcome: Outcome) -> bool:
        """On the way back. A step without undo was only withdrawn: what its peer says of it then is final."""
        can_undo = self.saga(record.kind).steps[index].can_undo
        match outcome.progress:
            case Progress.UNDONE:
                self.mark(record, index, Mark.UNDONE)
                return True
            case Progress.UNDOING if outcome.fault is not None:
                self.stuck(record, index, outcome.fault)
                self.later(record.id)
            case Progress.UNKNOWN:
                self.push(record.target(index) or "", record.id)
            case Progress.DONE if not can_undo and index == record.pivot:
                return self._done(record, index, outcome)  # too late to turn back
            case Progress.DONE | Progress.FAILED if not can_undo:
                self.mark(record, index, Mark.UNDONE)
                return True
        return False

    def mark(
        self,
        record: TaskRecord,
        index: int,
        mark: Mark,
        *changes: msgspec.Struct,
        at: str = "",
        notes: msgspec.Raw | None = None,
        fault: Fault | None = None,
    ) -> None:
        """Write a mark together with what the step changes in the book."""
        saga = self.saga(record.kind)
        marked = StepMarked(
            record.id,
            saga.steps[index].name,
            index,
            mark,
            at,
            notes if notes is not None and notes != record.notes else msgspec.UNSET,
            fault,
        )
        self._shelf.commit(*changes, marked)
        if mark in {Mark.BEGUN, Mark.STUCK}:
            return
        if mark is not Mark.FAILED:
            self._tries.pop(record.id, None)
        if (asked := record.target(index)) is not None:
            self._lanes.settled(asked, record.id)

    def stuck(self, record: TaskRecord, index: int, fault: Fault) -> None:
        if record.mark is Mark.STUCK and record.trouble == fault:
            return
        _log.warning("saga.stuck", task=record.id, step=index, reason=fault.message)
        self.mark(record, index, Mark.STUCK, fault=fault)

    def show_stuck(self, at: str, fault: Fault) -> None:
        """Undos that wait for that target; what else waits there is only late."""
        for task in self._lanes.waiting(at):
            record = self._tasks.open.get(task)
            if record is None or not record.back or record.mark is Mark.STUCK:
                continue
            match self.next_move(record):
                case Back(index):
                    with self.held_up(task):
                        self.stuck(record, index, fault)

    def push(self, at: str, task: TaskId, *, ask: bool = False) -> None:
        self._lanes.push(Call(at, task, ask, self._shelf.revision))
        self._couriers.wake()

    def later(self, task: TaskId) -> None:
        """Try the task's next move again, each time after a longer pause."""
        tries = self._tries[task] = self._tries.get(task, 0) + 1
        delay_s = min(self._limits.backoff_limit_s, self._limits.backoff_s * 2.0 ** min(tries - 1, 32))
        self._couriers.remind(delay_s, Due.TASK, task)


def not_there(at: str) -> Fault:
    return Fault(Unreachable.code, f"{at} is not there: it is asked when it is back", subject=at)


def _local(step: Any) -> Local[Any]:
    return step  # type: ignore[no-any-return]  # a step is Local or Remote


def _remote(step: Any) -> Remote[Any]:
    return step  # type: ignore[no-any-return]
