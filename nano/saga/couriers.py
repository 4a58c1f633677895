"""The few jobs that carry the calls of all tasks, and the one that watches the clock.

What to send, and what follows from an answer, is decided by the `Desk` (the engine), synchronously. Here is
only the waiting: for the journal, for the callee, for the time.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from nano.model.action import Action, Outcome
from nano.model.errors import Exhausted, NanoError, TimedOut, Unreachable
from nano.model.ids import TaskId
from nano.model.task import Fault, fault_of
from nano.saga.callees import Callees
from nano.saga.faults import defect
from nano.saga.lanes import Call, Forgets, Lanes
from nano.saga.targets import target_of
from nano.saga.timers import Due, Timers

_log = structlog.get_logger(__name__)

_PASSING = (Unreachable, TimedOut, Exhausted)
"""Errors after which the same call is made again: nothing is known to have happened."""


@dataclass(frozen=True, slots=True)
class Begin:
    task: TaskId
    step: str
    action: Action
    deadline_ms: int


@dataclass(frozen=True, slots=True)
class Undo:
    task: TaskId
    step: str


@dataclass(frozen=True, slots=True)
class Ask:
    task: TaskId
    step: str


class Desk(Protocol):
    """Who decides."""

    def message(self, call: Call) -> Begin | Undo | Ask | None:
        """What the task's marks say now; nothing when it no longer waits for that target."""

    def forgettable(self, at: str) -> Sequence[TaskId]:
        """Ended tasks that the target must still be told of."""

    async def durable(self, revision: int | None) -> None: ...

    def answered(self, at: str, outcome: Outcome) -> None: ...

    def refused(self, call: Call, message: Begin | Undo | Ask, fault: Fault) -> None: ...

    def silent(self, at: str, fault: Fault) -> None:
        """A call got no answer; the lane sleeps."""

    def forgotten(self, at: str, tasks: Sequence[TaskId]) -> None: ...

    def due(self, due: Due, key: str) -> None: ...


class Couriers:
    """A bounded number of workers over the lanes, and the timers."""

    def __init__(self, callees: Callees, lanes: Lanes, *, workers: int) -> None:
        self._callees = callees
        self._lanes = lanes
        self._workers = workers
        self._idle: deque[asyncio.Future[None]] = deque()
        self._timers = Timers()
        self._earlier = asyncio.Event()

    def wake(self) -> None:
        """There is something to send. One idle worker is enough: each looks for more when it has done."""
        while self._idle:
            idle = self._idle.popleft()
            if not idle.done():
                idle.set_result(None)
                return

    def remind(self, delay_s: float, due: Due, key: str) -> None:
        if self._timers.set(asyncio.get_running_loop().time() + delay_s, due, key):
            self._earlier.set()

    @property
    def timers(self) -> Timers:
        return self._timers

    async def run(self, desk: Desk) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as jobs:
            for number in range(self._workers):
                jobs.create_task(self._carry(desk), name=f"saga.courier.{number}")
            jobs.create_task(self._watch_clock(desk), name="saga.clock")

    async def _carry(self, desk: Desk) -> None:
        while True:
            call = self._lanes.take()
            if call is None:
                self._idle.append(idle := asyncio.get_running_loop().create_future())
                await idle
                continue
            if self._lanes.is_ready():
                self.wake()
            if isinstance(call, Forgets):
                await self._tell_ended(desk, call)
            else:
                await self._deliver(desk, call)

    async def _deliver(self, desk: Desk, call: Call) -> None:
        await desk.durable(call.revision)
        message = desk.message(call)
        if message is None:
            self._lanes.skipped(call.at)
            return
        try:
            outcome = await self._send(call.at, message)
        except _PASSING as error:
            self._unanswered(desk, call, fault_of(error), error.retry_after_s)
        except NanoError as error:
            self._lanes.finished(call.at)
            desk.refused(call, message, fault_of(error))
        except Exception as error:  # noqa: BLE001 - the runner's lawful one: a task outlives its carrier's defect
            self._unanswered(desk, call, defect(error, task=call.task, step=message.step), 0.0)
        else:
            self._lanes.finished(call.at)
            desk.answered(call.at, outcome)

    async def _send(self, at: str, message: Begin | Undo | Ask) -> Outcome:
        target = target_of(at)
        match message:
            case Begin(task, step, action, deadline_ms):
                return await self._callees.begin(target, task, step, action, deadline_ms)
            case Undo(task, step):
                return await self._callees.undo(target, task, step)
            case Ask(task, step):
                return await self._callees.ask(target, task, step)

    async def _tell_ended(self, desk: Desk, call: Forgets) -> None:
        tasks = desk.forgettable(call.at)
        if not tasks:
            self._lanes.skipped(call.at)
            return
        await desk.durable(None)  # else a restart could find a task open that its callee forgot
        try:
            await self._callees.forget(target_of(call.at), tasks)
        except NanoError as error:
            self._unanswered(desk, call, fault_of(error), error.retry_after_s)
        except Exception as error:  # noqa: BLE001 - as above: the debt stays written until it is paid
            self._unanswered(desk, call, defect(error, task=tasks[0], step="forget"), 0.0)
        else:
            self._lanes.finished(call.at)
            desk.forgotten(call.at, tasks)

    def _unanswered(self, desk: Desk, call: Call | Forgets, fault: Fault, retry_after_s: float) -> None:
        delay_s = max(self._lanes.failed(call), retry_after_s)
        _log.info("saga.peer_silent", peer=call.at, reason=fault.message, retry_s=delay_s)
        self.remind(delay_s, Due.LANE, call.at)
        desk.silent(call.at, fault)

    async def _watch_clock(self, desk: Desk) -> None:
        loop = asyncio.get_running_loop()
        while True:
            while (found := self._timers.pop_due(loop.time())) is not None:
                desk.due(*found)
            self._earlier.clear()
            next_s = self._timers.next_s()
            try:
                async with asyncio.timeout_at(next_s):
                    await self._earlier.wait()
            except TimeoutError:
                continue
