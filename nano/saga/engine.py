"""The runner of all tasks of one service.

Event-driven: a task that waits is a record in the book and a line in two dictionaries, never a job of the
loop. Decisions are synchronous; what they change and their mark are one commit. The couriers wait for the
journal and for the callees, and come back here with what they learned.

    async with asyncio.TaskGroup() as jobs:
        engine = Engine(shelf, SAGAS, callees, now_ms=clock)
        engine.resume()
        jobs.create_task(engine.run())
        task = engine.start(CREATE_INSTANCE, notes, subject=notes.instance, claims=[...])
        await shelf.durable()
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import msgspec
import structlog

from nano.model.action import Outcome
from nano.model.errors import Conflict, Corrupt, Exhausted, Exists, TimedOut
from nano.model.ids import TaskId, new_task_id
from nano.model.peers import Peer
from nano.model.task import Fault, Task, TaskState
from nano.saga.callees import Callees
from nano.saga.couriers import Ask, Begin, Couriers, Undo
from nano.saga.journal import Back, Wait
from nano.saga.lanes import Call, Lanes
from nano.saga.mover import Limits, Mover, TaskShelf, not_there
from nano.saga.record import (
    NOBODYS,
    About,
    Idempotency,
    Mark,
    PeerDeclaredDead,
    PeerReadmitted,
    StepMarked,
    TaskOpened,
    TasksForgotten,
    TaskTurned,
)
from nano.saga.step import Changes, Local, Saga
from nano.saga.targets import same_peer
from nano.saga.tasks import Tasks
from nano.saga.timers import Due

_log = structlog.get_logger(__name__)
N = TypeVar("N")

_TIMERS_SLACK = 10_000
"""How many timers of ended tasks may lie about before they are swept out."""

_OF_PEERS = frozenset({Due.LANE, Due.FORGETS})


class Engine:
    """Starts, moves and ends tasks. One for each shelf."""

    def __init__(
        self,
        shelf: TaskShelf,
        sagas: Iterable[Saga[Any]],
        callees: Callees,
        *,
        now_ms: Callable[[], int],
        limits: Limits | None = None,
        progressed: Callable[[TaskId], None] = lambda _task: None,
    ) -> None:
        """`now_ms` is the wall clock, milliseconds since 1970; `progressed` hears of measured progress."""
        self._shelf = shelf
        self._now_ms = now_ms
        self._limits = limits or Limits()
        self._lanes = Lanes(
            lane_limit=self._limits.calls_per_peer,
            backoff_s=self._limits.backoff_s,
            backoff_limit_s=self._limits.backoff_limit_s,
        )
        self._couriers = Couriers(callees, self._lanes, workers=self._limits.workers)
        self._mover = Mover(
            shelf,
            sagas,
            self._lanes,
            self._couriers,
            self._limits,
            now_ms=now_ms,
            progressed=progressed,
            ended=self._wake_waiters,
        )
        self._waiters: dict[TaskId, list[asyncio.Future[None]]] = {}

    @property
    def _tasks(self) -> Tasks:
        return self._shelf.book.tasks

    # -------------------------------------------------------------- for the service

    def start(
        self,
        saga: Saga[N],
        notes: N,
        *,
        subject: str,
        claims: Sequence[str] = (),
        requester: str = "",
        about: About = NOBODYS,
        deadline_ms: int = 0,
        idempotency: Idempotency | None = None,
        task: TaskId | None = None,
    ) -> TaskId:
        """Open a task and do at once what is local; wait for `shelf.durable()` before telling anyone.

        Busy names who holds one of the claims. What the first step refuses, if it is a local one, is raised,
        and nothing has happened. A key that was used before gives the task that it named, or Invalid.
        """
        now_ms = self._now_ms()
        if idempotency and (known := self._tasks.repeated(requester, idempotency, now_ms=now_ms)):
            return known
        self._tasks.claims.check(claims)
        if len(self._tasks.open) >= self._limits.open_tasks:
            raise Exhausted(
                f"{self._limits.open_tasks} tasks are under way: try again later", retry_after_s=5.0
            )
        self._mover.saga(saga.name)
        if task is not None and self._tasks.knows(task):
            raise Exists(f"task {task} is there already", field="task", subject=task)
        opened = TaskOpened(
            task=task or new_task_id(),
            kind=saga.name,
            subject=subject,
            notes=saga.encode(notes),
            step_count=len(saga),
            pivot=saga.pivot,
            created_ms=now_ms,
            deadline_ms=deadline_ms,
            requester=requester,
            about=about,
            claims=tuple(claims),
            idempotency=idempotency,
        )
        self._shelf.commit(opened, *self._first_local(saga, notes, opened.task))
        if deadline_ms:
            self._set_deadline(opened.task, deadline_ms)
        self._mover.advance(opened.task)
        return opened.task

    def cancel(self, task: TaskId) -> None:
        """Turn it back. Conflict behind the pivot; nothing new for one that is on its way back already."""
        self._tasks.check_cancellable(task)
        if not self._tasks.record(task).back:
            self._shelf.commit(TaskTurned(task))
            self._mover.advance(task)

    async def wait(self, task: TaskId) -> Task:
        """The task as it ended, once that is durable."""
        if task in self._tasks.open:
            ended = asyncio.get_running_loop().create_future()
            self._waiters.setdefault(task, []).append(ended)
            await ended
        await self._shelf.durable()
        return self._tasks.view(task)

    def resume(self) -> None:
        """After a restart: go on with every open task, asking the callees what became of what was begun."""
        for record in list(self._tasks.open.values()):
            saga = self._mover.saga(record.kind)
            if record.step and saga.index(record.step) != record.index:
                raise Corrupt(
                    f"task {record.id} is at step {record.step}, which saga {saga.name} does not have there: "
                    "finish it with the version that began it",
                    subject=record.id,
                )
            if record.deadline_ms:
                self._set_deadline(record.id, record.deadline_ms)
            self._mover.advance(record.id)
        for at in self._tasks.debts:
            self._lanes.push_forgets(at)
        self._couriers.wake()

    async def run(self) -> None:
        """Carry calls and watch the clock, until cancelled."""
        await self._couriers.run(self)

    # -------------------------------------------------------------- from the fabric

    def outcome(self, peer: Peer, outcome: Outcome) -> None:
        """What a callee says of a step, however late, often or out of order; nothing of others' steps."""
        record = self._tasks.open.get(TaskId(outcome.task))
        awaited = self._mover.awaited(record) if record else None
        if awaited is not None and same_peer(awaited[1], peer):
            self._mover.answered(awaited[1], outcome)

    def peer_up(self, peer: Peer) -> None:
        """It is there (again): ask for all that is open there, and tell it what has ended."""
        for at in (str(peer), str(peer.role)):
            self._lanes.wake(at)
            for task in self._lanes.waiting(at):
                self._mover.push(at, task, ask=True)
        self._couriers.wake()

    def peer_down(self, peer: Peer) -> None:
        """It is gone: what waits for it waits on, and undos that do are shown as stuck."""
        for at in (str(peer), str(peer.role)):
            self._lanes.sleep(at)
            self._mover.show_stuck(at, not_there(at))

    # -------------------------------------------------------------- giving up

    def abandon_peer(self, peer: Peer, *changes: msgspec.Struct) -> None:
        """It will never come back: what it owes is written off, and all that waits for it goes on without.

        `changes` of the book, such as its removal, are made in the same breath.
        """
        at = str(peer)
        waiting = self._lanes.waiting(at)
        self._shelf.commit(*changes, PeerDeclaredDead(at))
        self._lanes.drop(at)
        for task in waiting:
            self._mover.advance(task)

    def readmit_peer(self, peer: Peer) -> None:
        """A peer that was declared dead takes steps again."""
        self._shelf.commit(PeerReadmitted(str(peer)))

    def abandon(self, task: TaskId) -> None:
        """Write off the one undo that the task is stuck at; Conflict when it is not stuck."""
        record = self._tasks.record(task)
        if self._tasks.view(task).state is not TaskState.STUCK:
            raise Conflict(
                f"task {task} is not stuck: there is nothing to abandon", field="task", subject=task
            )
        match self._mover.next_move(record):
            case Back(index):
                if self._mover.abandon(record, index):
                    self._mover.advance(task)

    # -------------------------------------------------------------- for the couriers

    def message(self, call: Call) -> Begin | Undo | Ask | None:
        record = self._tasks.open.get(call.task)
        move = self._mover.next_move(record) if record else None
        if record is None or not isinstance(move, Wait | Back) or record.target(move.step) != call.at:
            return None
        key = self._mover.key(record, move)
        if isinstance(move, Back):
            return Undo(record.id, key)
        if call.ask:
            return Ask(record.id, key)
        action = self._mover.action(record, move.step)
        return Begin(record.id, key, action, record.deadline_ms) if action else None

    def answered(self, at: str, outcome: Outcome) -> None:
        self._mover.answered(at, outcome)

    def forgettable(self, at: str) -> Sequence[TaskId]:
        owed = self._tasks.debts.get(at, {})
        return tuple(task for _, task in zip(range(self._limits.forgets_per_call), owed, strict=False))

    async def durable(self, revision: int | None) -> None:
        await self._shelf.durable(revision)

    def refused(self, call: Call, message: Begin | Undo | Ask, fault: Fault) -> None:
        """The peer does not take the call at all."""
        if self.message(call) == message:
            self._mover.refused(self._tasks.open[call.task], fault, begun=isinstance(message, Begin))

    def silent(self, at: str, fault: Fault) -> None:
        if self._lanes.failures(at) >= self._limits.stuck_after:
            self._mover.show_stuck(at, fault)

    def forgotten(self, at: str, tasks: Sequence[TaskId]) -> None:
        try:
            self._shelf.commit(TasksForgotten(at, tuple(tasks)))
        except Exhausted as error:  # told again later, which does no harm
            _log.warning("saga.held_up", peer=at, reason=error.message)
            self._couriers.remind(self._limits.backoff_limit_s, Due.FORGETS, at)
            return
        if self._tasks.debts.get(at):
            self._lanes.push_forgets(at)

    def due(self, due: Due, key: str) -> None:
        match due:
            case Due.TASK:
                self._mover.advance(TaskId(key))
            case Due.LANE:
                self._lanes.wake(key)
                self._couriers.wake()
            case Due.FORGETS:
                self._lanes.push_forgets(key)
                self._couriers.wake()
            case Due.DEADLINE:
                self._deadline(TaskId(key))

    # -------------------------------------------------------------- small parts

    def _deadline(self, task: TaskId) -> None:
        record = self._tasks.open.get(task)
        if record is None or record.back or record.past_pivot:
            return
        late_ms = self._now_ms() - record.deadline_ms
        if late_ms < 0:
            self._set_deadline(task, record.deadline_ms)
            return
        fault = Fault(TimedOut.code, f"task {task} did not end before its deadline", subject=record.subject)
        try:
            self._shelf.commit(TaskTurned(task, fault))
        except Exhausted as error:
            _log.warning("saga.held_up", task=task, reason=error.message)
            self._couriers.remind(self._limits.backoff_limit_s, Due.DEADLINE, task)
            return
        self._mover.advance(task)

    def _set_deadline(self, task: TaskId, deadline_ms: int) -> None:
        self._couriers.remind((deadline_ms - self._now_ms()) / 1000, Due.DEADLINE, task)
        if len(self._couriers.timers) > 2 * len(self._tasks.open) + _TIMERS_SLACK:
            self._couriers.timers.sift(lambda due, key: due in _OF_PEERS or key in self._tasks.open)

    def _wake_waiters(self, task: TaskId) -> None:
        for waiter in self._waiters.pop(task, ()):
            if not waiter.done():
                waiter.set_result(None)

    def _first_local(self, saga: Saga[N], notes: N, task: TaskId) -> Changes:
        """The changes and the mark of a first step in the service's own book; its refusal is the caller's."""
        wanted = (index for index, step in enumerate(saga.steps) if step.wanted(notes))
        index = next(wanted, None)
        if index is None or not isinstance(first := saga.steps[index], Local):
            return ()
        moved, changes = first.do(notes, self._shelf.book)
        encoded = saga.encode(moved)
        kept = msgspec.UNSET if encoded == saga.encode(notes) else encoded
        return *changes, StepMarked(task, first.name, index, Mark.DONE, notes=kept)
