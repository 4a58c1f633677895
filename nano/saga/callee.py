"""The side that acts: takes steps of others' tasks, keeps what became of them, takes them back.

    callee = Callee(shelf)
    callee.immediate(LeaseAddress, do=lease_address, undo=release_address)
    callee.job(CreateVolumes, run=disks.create, undo=disks.remove)
    jobs.create_task(callee.run())

`begin`, `undo`, `ask` and `forget` answer at once and durably, and the same when asked again. Jobs go on
behind them; their outcomes come by `outcomes()`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Protocol, TypeVar

import msgspec
import structlog

from nano.model.action import Action, Outcome, Progress
from nano.model.errors import Conflict, Exhausted, Unsupported
from nano.model.ids import TaskId
from nano.model.task import Fault
from nano.saga.callees import split_key
from nano.saga.faults import fault_from
from nano.saga.handlers import Did, Errand, Handler, Immediate, Job, Report, errand
from nano.saga.jobs import Jobs, Key
from nano.saga.listeners import Listener, Listeners
from nano.saga.outcomes import OutcomePut, OutcomeRecord, Outcomes, OutcomesForgotten
from nano.saga.step import Changes

_log = structlog.get_logger(__name__)
A = TypeVar("A", bound=Action)

_FULL_DISK_PAUSE_S = 1.0
"""How long a job that is done waits before it tries again to say so on a disk that was full."""


class OutcomeBook(Protocol):
    """A book with outcomes in it."""

    @property
    def outcomes(self) -> Outcomes: ...


class OutcomeShelf(Protocol):
    """What a callee needs of the shelf that holds such a book."""

    @property
    def book(self) -> OutcomeBook: ...
    def commit(self, *changes: Any) -> int: ...
    async def durable(self, revision: int | None = None) -> None: ...


class Callee:
    """Steps on this service's book. One for each shelf."""

    def __init__(self, shelf: OutcomeShelf, *, jobs_at_once: int = 8, jobs_waiting: int = 1000) -> None:
        """At most `jobs_at_once` jobs run; when `jobs_waiting` wait, a new one is refused with Exhausted."""
        self._shelf = shelf
        self._handlers: dict[type[Action], Handler] = {}
        self._forgetting: list[Callable[[TaskId, Any], Changes]] = []
        self._jobs = Jobs(self._work, at_once=jobs_at_once)
        self._jobs_waiting = jobs_waiting
        self._percent: dict[Key, int] = {}
        self._deadlines: dict[Key, int] = {}
        self._listeners = Listeners()
        self._settled = asyncio.Event()

    # -------------------------------------------------------------- what it can do

    def immediate(
        self,
        kind: type[A],
        do: Callable[[A, Any], Did],
        undo: Callable[[A, Any, Any], Changes] | None = None,
    ) -> None:
        """Do actions of that kind in the book, at once; without `undo` what is done stays done."""
        self._handlers[kind] = Immediate(do, undo)

    def job(
        self,
        kind: type[A],
        run: Callable[[A, Report], Awaitable[Did]],
        undo: Callable[[A], Awaitable[Changes]] | None = None,
    ) -> None:
        """Do actions of that kind by a job; without `undo` one that has begun cannot be taken back."""
        self._handlers[kind] = Job(run, undo)

    def when_forgotten(self, hook: Callable[[TaskId, Any], Changes]) -> None:
        """`(task, book) -> changes`, committed when the task has ended: drop what is held for it."""
        self._forgetting.append(hook)

    # -------------------------------------------------------------- the four calls

    async def begin(self, task: TaskId, step: str, action: Action, deadline_ms: int = 0) -> Outcome:
        """Take a step, or say what became of it. Unsupported, Exhausted or Conflict: it was not taken."""
        await self._settled.wait()
        record = self._known(task, step) or self._take(task, step, action, deadline_ms)
        await self._shelf.durable()
        return self._said(record)

    async def undo(self, task: TaskId, step: str) -> Outcome:
        """Take a step back, seen or not. UNDOING with a fault: it did not succeed yet, ask again."""
        await self._settled.wait()
        record = self._known(task, step)
        if record is None:
            name, attempt = split_key(step)
            record = self._put(OutcomeRecord(task, name, Progress.UNDONE, attempt))
        elif record.progress is not Progress.UNDONE:
            record = self._take_back(record)
        await self._shelf.durable()
        return self._said(record)

    async def ask(self, task: TaskId, step: str) -> Outcome:
        """What is known of a step; UNKNOWN if nothing is."""
        record = self._known(task, step)
        await self._shelf.durable()
        return self._said(record) if record else Outcome(task, step, Progress.UNKNOWN)

    async def forget(self, tasks: Iterable[TaskId]) -> None:
        """The tasks have ended: drop their outcomes and what is held for them. Again is as good as once."""
        book = self._shelf.book
        ended = tuple(task for task in tasks if not book.outcomes.is_forgotten(task))
        held = [change for task in ended for hook in self._forgetting for change in hook(task, book)]
        for key in [(task, name) for task in ended for name in book.outcomes.of(task)]:
            self._jobs.stop(key)
            self._percent.pop(key, None)
        if ended:
            self._shelf.commit(*held, OutcomesForgotten(ended))
        await self._shelf.durable()

    def outcomes(self) -> Listener:
        """Each outcome and each progress of jobs from now on; `leave` it when done.

        It ends when its reader is too slow: then ask for what is open.
        """
        return self._listeners.listen()

    def leave(self, listener: Listener) -> None:
        self._listeners.leave(listener)

    # -------------------------------------------------------------- running

    def settle(self) -> int:
        """After a restart: put what was begun here in front of all new steps, to be run again or undone.

        Says how many there are. What is new runs beside them when there is room: each works on what its own
        task has claimed.
        """
        if not self._settled.is_set():
            intents = [
                (record.task, record.step)
                for record in self._shelf.book.outcomes
                if record.progress in {Progress.BEGUN, Progress.UNDOING} and record.fault is None
            ]
            self._jobs.add_first(intents)
            self._settled.set()
            if intents:
                _log.info("saga.settling", steps=len(intents))
        return self._jobs.waiting

    async def run(self) -> None:
        """Settle, then carry out jobs until cancelled; what runs then is run again after the next start."""
        self.settle()
        try:
            await self._jobs.run()
        finally:
            self._listeners.end()

    # -------------------------------------------------------------- forward

    def _known(self, task: TaskId, step: str) -> OutcomeRecord | None:
        if self._shelf.book.outcomes.is_forgotten(task):
            name, attempt = split_key(step)
            return OutcomeRecord(task, name, Progress.UNDONE, attempt)
        return self._shelf.book.outcomes.find(task, step)

    def _take(self, task: TaskId, step: str, action: Action, deadline_ms: int) -> OutcomeRecord:
        name, attempt = split_key(step)
        earlier = self._shelf.book.outcomes.of(task).get(name)
        if earlier is not None and earlier.progress is not Progress.FAILED:
            raise Conflict(f"step {earlier.key} of task {task} is {earlier.progress}: it is not begun again")
        handler = self._handler(action)
        taken = OutcomeRecord(task, name, Progress.BEGUN, attempt, action)  # type: ignore[arg-type]
        if isinstance(handler, Immediate):
            return self._do(handler, taken, deadline_ms)
        if self._jobs.waiting >= self._jobs_waiting:
            raise Exhausted(f"{self._jobs_waiting} jobs wait here: ask again later", retry_after_s=1.0)
        self._put(taken)
        self._deadlines[task, name] = deadline_ms
        self._jobs.add((task, name))
        return taken

    def _do(self, handler: Immediate, record: OutcomeRecord, deadline_ms: int) -> OutcomeRecord:
        before = errand.set(Errand(record.task, record.key, deadline_ms))
        try:
            changes, result = handler.do(record.action, self._shelf.book)
        except Exception as error:  # noqa: BLE001 - as in the engine: a step's defect fails that step only
            fault = fault_from(error, task=record.task, step=record.step)
            return self._put(_with(record, progress=Progress.FAILED, fault=fault))
        finally:
            errand.reset(before)
        return self._put(_with(record, progress=Progress.DONE, result=result), changes)

    async def _work(self, key: Key) -> None:
        """One job: forward if the step is begun, back if it is to be undone, nothing if that is over."""
        await self._shelf.durable()  # journal before act: a kill from here on must find what was begun
        record = self._record(key)
        if record is None:
            return
        errand.set(Errand(record.task, record.key, self._deadlines.pop(key, 0)))
        if record.progress is Progress.BEGUN:
            await self._run_job(key, record)
        elif record.progress is Progress.UNDOING:
            await self._undo_job(key, record)

    async def _run_job(self, key: Key, record: OutcomeRecord) -> None:
        changes: Changes = ()
        try:
            run = self._job(record).run
            changes, result = await run(record.action, lambda percent: self._report(key, percent))
            ended = _with(record, progress=Progress.DONE, result=result)
        except Exception as error:  # noqa: BLE001 - as above
            fault = fault_from(error, task=record.task, step=record.step)
            ended = _with(record, progress=Progress.FAILED, fault=fault)
        await self._finish(key, record, ended, changes)

    def _report(self, key: Key, percent: int) -> None:
        record = self._record(key)
        if record is None or record.progress is not Progress.BEGUN or self._percent.get(key) == percent:
            return
        self._percent[key] = percent
        self._listeners.put(record.outcome(percent))

    # -------------------------------------------------------------- back

    def _take_back(self, record: OutcomeRecord) -> OutcomeRecord:
        handler = self._handler(record.action)
        if record.progress is Progress.FAILED and (isinstance(handler, Immediate) or handler.undo is None):
            return self._put(_tombstone(record))
        if handler.undo is None:
            return record  # it stays as it is, and who asks is told how that is
        if isinstance(handler, Immediate):
            return self._undo_now(handler.undo, record)
        if record.progress is Progress.UNDOING and record.fault is None:
            return record
        key = (record.task, record.step)
        undoing = self._put(_with(record, progress=Progress.UNDOING, fault=None))
        self._jobs.stop(key)
        self._jobs.add(key)
        return undoing

    def _undo_now(self, undo: Callable[[Any, Any, Any], Changes], record: OutcomeRecord) -> OutcomeRecord:
        before = errand.set(Errand(record.task, record.key))
        try:
            changes = undo(record.action, record.result, self._shelf.book)
        except Exception as error:  # noqa: BLE001 - as above: it is kept, told, and tried when asked again
            fault = fault_from(error, task=record.task, step=record.step)
            return self._put(_with(record, progress=Progress.UNDOING, fault=fault))
        finally:
            errand.reset(before)
        return self._put(_tombstone(record), changes)

    async def _undo_job(self, key: Key, record: OutcomeRecord) -> None:
        changes: Changes = ()
        try:
            undo = self._job(record).undo
            changes = await undo(record.action) if undo else ()
            ended = _tombstone(record)
        except Exception as error:  # noqa: BLE001 - as above
            fault = fault_from(error, task=record.task, step=record.step)
            ended = _with(record, fault=fault)
        await self._finish(key, record, ended, changes)

    # -------------------------------------------------------------- small parts

    async def _finish(self, key: Key, begun: OutcomeRecord, ended: OutcomeRecord, changes: Changes) -> None:
        """Write what a job came to, unless the step was taken back or forgotten meanwhile; then say it."""
        while self._record(key) == begun:
            try:
                self._put(ended, changes)
            except Exhausted as error:
                _log.warning("saga.held_up", task=begun.task, step=begun.step, reason=error.message)
                await asyncio.sleep(_FULL_DISK_PAUSE_S)
            else:
                await self._shelf.durable()
                self._listeners.put(ended.outcome())
                return

    def _put(self, record: OutcomeRecord, changes: Changes = ()) -> OutcomeRecord:
        """One line of the journal: what the step changes here, and its outcome."""
        self._shelf.commit(*changes, OutcomePut(record))
        if record.progress is not Progress.BEGUN:
            self._percent.pop((record.task, record.step), None)
        return record

    def _said(self, record: OutcomeRecord) -> Outcome:
        return record.outcome(self._percent.get((record.task, record.step), 0))

    def _record(self, key: Key) -> OutcomeRecord | None:
        return self._shelf.book.outcomes.of(key[0]).get(key[1])

    def _job(self, record: OutcomeRecord) -> Job:
        """How an open step goes on; Unsupported when the version that began it was another one."""
        handler = self._handler(record.action)
        if isinstance(handler, Job):
            return handler
        raise Unsupported(f"{type(record.action).__name__} is not done by a job here any more")

    def _handler(self, action: Action | None) -> Handler:
        handler = self._handlers.get(type(action)) if action is not None else None
        if handler is None:
            raise Unsupported(f"{type(action).__name__} is not done here", subject=type(action).__name__)
        return handler


def _with(
    record: OutcomeRecord, *, progress: Progress | None = None, result: Any = None, fault: Fault | None = None
) -> OutcomeRecord:
    return msgspec.structs.replace(
        record, progress=progress or record.progress, result=result or record.result, fault=fault
    )


def _tombstone(record: OutcomeRecord) -> OutcomeRecord:
    """What is left of a step that was taken back: its name, so that it does not come a second time."""
    return OutcomeRecord(record.task, record.step, Progress.UNDONE, record.attempt)
