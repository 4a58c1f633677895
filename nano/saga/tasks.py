"""The tasks of one service: the part of its book that every service with sagas has.

A book embeds it as `tasks`, passes it the changes it does not know itself, and gives its snapshot along:

    case _: self.tasks.apply(change)

Pure, and the same for the live book and the replay. Claims follow from the open tasks, so they are there
again before anything is served.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import msgspec

from nano.model.errors import Conflict, Invalid, NotFound
from nano.model.ids import TaskId
from nano.model.task import Task, TaskState
from nano.saga.claims import Claims
from nano.saga.record import (
    Idempotency,
    Mark,
    PeerDeclaredDead,
    PeerReadmitted,
    StepMarked,
    TaskChange,
    TaskEnded,
    TaskOpened,
    TaskRecord,
    TasksForgotten,
    TaskTurned,
)

HISTORY_LIMIT = 10_000
"""How many ended tasks stay readable. Open ones are never dropped."""
KEY_LIFE_MS = 24 * 3_600_000
"""How long an `Idempotency-Key` names its task."""

_NO_NOTES = msgspec.Raw(b"null")
_PERCENT = 100


class KeyRecord(msgspec.Struct, frozen=True, gc=False):
    """The task that a credential's idempotency key names."""

    requester: str
    idempotency: Idempotency
    task: TaskId
    created_ms: int


class Debt(msgspec.Struct, frozen=True, gc=False):
    """A target that must still be told that a task has ended."""

    at: str
    task: TaskId


class Tasks:
    """Open tasks, claims, keys, debts, and a bounded history."""

    kinds: ClassVar[Mapping[str, Any]] = {
        "tasks": TaskRecord,
        "task_keys": KeyRecord,
        "task_debts": Debt,
        "task_dead_peers": str,
    }

    def __init__(self, *, history_limit: int = HISTORY_LIMIT) -> None:
        self.open: dict[TaskId, TaskRecord] = {}
        self.ended: dict[TaskId, TaskRecord] = {}
        self.claims = Claims()
        self.debts: dict[str, dict[TaskId, None]] = {}
        """By target: the ended tasks that it must be told of."""
        self.dead: set[str] = set()
        """Targets that were declared dead."""
        self.percent: dict[TaskId, int] = {}
        """What callees report of the steps under way; not kept over a restart."""
        self._keys: dict[tuple[str, str], KeyRecord] = {}
        self._history_limit = history_limit

    # -------------------------------------------------------------- reading

    def record(self, task: TaskId) -> TaskRecord:
        """NotFound when it never was, or is out of the history."""
        found = self.open.get(task) or self.ended.get(task)
        if found is None:
            raise NotFound(f"there is no task {task}, or it ended too long ago", field="task", subject=task)
        return found

    def knows(self, task: TaskId) -> bool:
        return task in self.open or task in self.ended

    def view(self, task: TaskId) -> Task:
        return self._view(self.record(task))

    def page(
        self,
        *,
        limit: int,
        after: TaskId | None = None,
        states: Iterable[TaskState] = (),
        kind: str = "",
        subject: str = "",
    ) -> list[Task]:
        """Up to `limit` tasks from behind `after` on: open ones first, the newest first in both groups."""
        wanted = frozenset(states)
        found: list[Task] = []
        for record in self._from(after):
            if (kind and record.kind != kind) or (subject and record.subject != subject):
                continue
            task = self._view(record)
            if wanted and task.state not in wanted:
                continue
            found.append(task)
            if len(found) >= limit:
                break
        return found

    def _from(self, after: TaskId | None) -> Iterator[TaskRecord]:
        groups = (self.open, self.ended)
        if after is not None:
            self.record(after)  # a cursor that fell out of the history is NotFound: read from the start again
        passed = after is None
        for group in groups:
            if not passed and after not in group:
                continue
            for record in reversed(group.values()):
                if passed:
                    yield record
                passed = passed or record.id == after

    def __len__(self) -> int:
        return len(self.open) + len(self.ended)

    def repeated(self, requester: str, idempotency: Idempotency, *, now_ms: int) -> TaskId | None:
        """The task that this key names already; Invalid when it came with another body then."""
        known = self._keys.get((requester, idempotency.key))
        if known is None or now_ms - known.created_ms >= KEY_LIFE_MS:
            return None
        if known.idempotency.digest != idempotency.digest:
            raise Invalid(
                "Idempotency-Key",
                f"this key named another request (task {known.task}): use a new key for a new request",
                subject=known.task,
            )
        return known.task

    def check_cancellable(self, task: TaskId) -> None:
        """Conflict when it has ended or only goes forward by now."""
        record = self.record(task)
        if not record.cancellable:
            why = "has ended" if record.state.ended else "can only go forward from here"
            raise Conflict(f"task {task} {why}: it cannot be cancelled", field="task", subject=task)

    # -------------------------------------------------------------- one way in

    def apply(self, change: TaskChange) -> None:
        match change:
            case TaskOpened():
                self._opened(change)
            case StepMarked():
                self.open[change.task] = _marked(self.open[change.task], change)
                self.percent.pop(change.task, None)
            case TaskTurned(task, fault):
                self.open[task] = msgspec.structs.replace(
                    self.open[task], back=True, cancelled=fault is None, error=fault
                )
            case TaskEnded():
                self._ended(change)
            case TasksForgotten(at, tasks):
                self._paid(at, tasks)
            case PeerDeclaredDead(at):
                self.dead.add(at)
                self.debts.pop(at, None)
            case PeerReadmitted(at):
                self.dead.discard(at)

    def _opened(self, change: TaskOpened) -> None:
        fields = {name: getattr(change, name) for name in _OPENING}
        record = TaskRecord(id=change.task, **fields)
        self.claims.take(change.claims, change.task)
        self.open[change.task] = record
        if change.idempotency is None:
            return
        self._drop_old_keys(change.created_ms)
        named = (change.requester, change.idempotency.key)
        self._keys.pop(named, None)
        self._keys[named] = KeyRecord(*named[:1], change.idempotency, change.task, change.created_ms)

    def _drop_old_keys(self, now_ms: int) -> None:
        """Keys are in order of age, so the old ones are at the front."""
        old = []
        for named, known in self._keys.items():
            if now_ms - known.created_ms < KEY_LIFE_MS:
                break
            old.append(named)
        for named in old:
            del self._keys[named]

    def _ended(self, change: TaskEnded) -> None:
        record = self.open.pop(change.task)
        self.percent.pop(change.task, None)
        self.claims.release(record.claims, record.id)
        for at in sorted(record.peers - self.dead):
            self.debts.setdefault(at, {})[record.id] = None
        self.ended[record.id] = msgspec.structs.replace(
            record,
            state=change.state,
            ended_ms=change.ended_ms,
            notes=_NO_NOTES,
            claims=(),
            at=(),
            ran=0,
            trouble=None,
        )
        while len(self.ended) > self._history_limit:
            del self.ended[next(iter(self.ended))]

    def _paid(self, at: str, tasks: Sequence[TaskId]) -> None:
        owed = self.debts.get(at, {})
        for task in tasks:
            owed.pop(task, None)
        if not owed:
            self.debts.pop(at, None)

    # -------------------------------------------------------------- showing

    def _view(self, record: TaskRecord) -> Task:
        return Task(
            id=record.id,
            kind=record.kind,
            subject=record.subject,
            state=_state(record),
            step=record.step,
            step_index=max(record.index, 0),
            step_count=record.step_count,
            progress_percent=self._progress(record),
            cancellable=record.cancellable,
            created_ms=record.created_ms,
            ended_ms=record.ended_ms,
            deadline_ms=record.deadline_ms,
            error=record.trouble or record.error,
            requester=record.requester,
            name=record.about.name,
            owner=record.about.owner,
            group=record.about.group,
        )

    def _progress(self, record: TaskRecord) -> int:
        if record.state is TaskState.DONE:
            return _PERCENT
        done = record.index + (record.mark in {Mark.DONE, Mark.ABANDONED})
        return (max(done, 0) * _PERCENT + self.percent.get(record.id, 0)) // record.step_count

    # -------------------------------------------------------------- on disk

    def snapshot(self) -> dict[str, Sequence[Any]]:
        return {
            "tasks": [*self.ended.values(), *self.open.values()],
            "task_keys": list(self._keys.values()),
            "task_debts": [Debt(at, task) for at, tasks in self.debts.items() for task in tasks],
            "task_dead_peers": sorted(self.dead),
        }

    @classmethod
    def restore(cls, snapshot: Mapping[str, Sequence[Any]], *, history_limit: int = HISTORY_LIMIT) -> "Tasks":
        tasks = cls(history_limit=history_limit)
        for record in snapshot["tasks"]:
            if record.state.ended:
                tasks.ended[record.id] = record
                continue
            tasks.open[record.id] = msgspec.structs.replace(record, notes=_compact(record.notes))
            tasks.claims.take(record.claims, record.id)
        for key in snapshot["task_keys"]:
            tasks._keys[key.requester, key.idempotency.key] = key
        for debt in snapshot["task_debts"]:
            tasks.debts.setdefault(debt.at, {})[debt.task] = None
        tasks.dead.update(snapshot["task_dead_peers"])
        return tasks


_OPENING = tuple(name for name in TaskOpened.__struct_fields__ if name in TaskRecord.__struct_fields__)


def _compact(notes: msgspec.Raw) -> msgspec.Raw:
    """Notes of their own, without the white space of a snapshot and without the file behind them."""
    return msgspec.Raw(msgspec.json.format(bytes(notes), indent=-1))


def _state(record: TaskRecord) -> TaskState:
    if record.state.ended:
        return record.state
    if record.mark is Mark.STUCK:
        return TaskState.STUCK
    return TaskState.UNDOING if record.back else TaskState.RUNNING


def _marked(old: TaskRecord, change: StepMarked) -> TaskRecord:
    """The record after one mark. Notes from the journal are copied: they are a view of the whole file."""
    bit = 1 << change.index
    fields: dict[str, Any] = {
        "step": change.step,
        "index": change.index,
        "mark": change.mark,
        "trouble": None,
    }
    if not isinstance(change.notes, msgspec.UnsetType):
        fields["notes"] = change.notes.copy()
    match change.mark:
        case Mark.BEGUN:
            again = change.index == old.index and old.mark is Mark.FAILED
            at = (change.index, change.at)
            fields |= {
                "ran": old.ran | bit,
                "at": old.at if at in old.at else (*old.at, at),
                "attempt": old.attempt if again else 1,
            }
        case Mark.DONE:
            fields |= {"ran": old.ran | bit, "attempt": 1}
            if old.back:  # it came to the pivot while it was asked to turn back: too late
                fields |= {"back": False, "cancelled": False, "error": None}
        case Mark.FAILED if old.past_pivot or change.index > old.pivot:
            fields |= {"trouble": change.fault, "attempt": old.attempt + 1}
        case Mark.FAILED if old.back:
            pass  # why it turned back is known already
        case Mark.FAILED:
            fields |= {"back": True, "error": change.fault}
        case Mark.STUCK:
            fields["trouble"] = change.fault
        case Mark.UNDONE | Mark.ABANDONED:
            fields |= {"ran": old.ran & ~bit, "attempt": 1, "error": old.error or change.fault}
    return msgspec.structs.replace(old, **fields)
