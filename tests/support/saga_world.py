"""A front desk, an address pool and a host as processes on a simulated network, disturbed at will.

Everything that happens is a *moment* (a disk operation, a message handed over), counted from 1; a `Plan` says
what goes wrong at which. Shelves, books, engine and callees are the real ones; disks, the network, the clock
and the hardware are simulated. A killed process loses all that its disk has not been given; its messages that
are under way still arrive.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from copy import deepcopy
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from nano.model.action import (
    Action,
    BuildInstance,
    CreateVolumes,
    DeleteInstance,
    LeaseAddress,
    Outcome,
    ReleaseAddress,
    StartInstance,
)
from nano.model.errors import Conflict, NanoError, TimedOut, Unreachable
from nano.model.ids import InstanceId, TaskId
from nano.model.peers import Peer, Role
from nano.model.task import Task, TaskState
from nano.saga.callee import Callee
from nano.saga.engine import Engine
from nano.saga.handlers import Did
from nano.saga.mover import Limits
from nano.saga.record import Idempotency
from nano.saga.step import Changes, Saga
from nano.saga.targets import Target
from nano.saga.tasks import Tasks
from nano.shelf import Shelf
from tests.support import saga_books as books
from tests.support.disk import Operation, SimDisk
from tests.support.nouns import SPEC

T = TypeVar("T")

FOLDER = Path("/data")
INSTANCE = InstanceId("7c9e6679-7425-40de-944b-e07fc1f90ae7")
TASK = TaskId("2d4cf1c2-6b0a-4f0e-9c39-3a1c7f9f2d11")
"""The task that is disturbed."""
BEFORE = TaskId("00000000-0000-4000-8000-000000000000")
"""The one that made what a removal removes."""

CLAIM = f"instance/{INSTANCE}"

LATENCY_S = 0.001
CALL_TIMEOUT_S = 2.0
RESTART_S = 0.7
HELD_S = (0.5, 9.0)
"""How late a held message comes: while its task goes on, and after everything else is over."""
PATIENCE_S = 120.0


class Fate(Enum):
    """What the network does to a message."""

    LOSE = "lose"
    HOLD = "hold"
    HOLD_LONG = "hold long"
    DOUBLE = "double"

    @property
    def delays(self) -> tuple[float, ...]:
        return {
            Fate.LOSE: (),
            Fate.HOLD: (HELD_S[0],),
            Fate.HOLD_LONG: (HELD_S[1],),
            Fate.DOUBLE: (LATENCY_S, HELD_S[0], HELD_S[1]),
        }[self]


class When(Enum):
    """Where in a handler its step fails."""

    BEFORE = "before"
    AFTER = "after"


@dataclass(frozen=True)
class Plan:
    """What goes wrong. Numbers of moments and messages count from 1."""

    kills: tuple[tuple[int, str], ...] = ()
    """At that moment the process of that name dies, and comes back."""
    cancel_at: int = 0
    deadline_s: float = 0.0
    fates: tuple[tuple[int, Fate], ...] = ()
    """What happens to the message of that number."""
    failing: tuple[str, When] | None = None
    """The handler (`build`, `demolish`, ...) that fails, and how."""
    failures: int = 1_000_000
    """How often it does."""
    defect: bool = False
    """It fails by an error that nobody expected."""
    power_cut: bool = False
    """Who dies loses also what the system had not synced, or any part of that."""
    seed: int = 0


class Node:
    """One service's disk and, while it lives, its process."""

    def __init__(self, world: "World", name: str, peer: Peer, book: type[Any]) -> None:
        self.world, self.name, self.peer, self.book_type = world, name, peer, book
        self.disk = self._disk(None)
        self.life = 0
        self.up = False
        self.shelf: Shelf[Any]
        self.engine: Engine
        self.callee: Callee
        self._jobs: asyncio.TaskGroup
        self._process: asyncio.Task[None] | None = None

    def _disk(self, volume: Any) -> SimDisk:
        disk = SimDisk(volume, chance=self.world.chance)

        def happens(_operation: Operation) -> bool:
            if disk is self.disk:
                self.world.moment()
            return disk is not self.disk  # a dead process writes nothing any more

        disk.ignores = happens
        return disk

    def kill(self) -> None:
        """kill -9: what the system has been given stays, the rest is gone. A power cut takes of that, too."""
        if self._process is None:
            return
        self.up = False
        self.life += 1
        self._process.cancel()
        self._process = None
        volume = deepcopy(self.disk.volume)
        if self.world.plan.power_cut:
            volume = volume.after([self.world.chance.randrange(ways) for ways in volume.choices()])
        self.disk = self._disk(volume)
        self.world.jobs.create_task(self._restart())

    async def _restart(self) -> None:
        await asyncio.sleep(RESTART_S)
        self.start()

    def start(self) -> None:
        self._process = self.world.jobs.create_task(self._live(self.life), name=self.name)

    async def _live(self, life: int) -> None:
        try:
            async with (
                Shelf.open(FOLDER, self.book_type, disk=self.disk) as shelf,
                asyncio.TaskGroup() as jobs,
            ):
                if life == self.life:  # else it was killed while it read its disk
                    self.shelf, self._jobs = shelf, jobs
                    self.world.furnish(self, jobs)
                    self.up = True
        except Exception:
            if life == self.life:
                raise  # it did not die by our hand

    async def inside(self, work: Coroutine[Any, Any, T]) -> T | None:
        """Do it in the process, if it lives; nothing when the process dies meanwhile."""
        if not self.up:
            work.close()
            return None
        life = self.life
        job = self._jobs.create_task(_caught(work))
        await asyncio.wait([job])
        if job.cancelled() or life != self.life:
            return None
        result = job.result()
        if isinstance(result, NanoError):
            raise result
        return result


async def _caught(work: Coroutine[Any, Any, T]) -> T | NanoError:
    """A refusal is an answer, not a reason for the process to end."""
    try:
        return await work
    except NanoError as error:
        return error


class World:
    """The three processes, and one client who wants one instance."""

    def __init__(self, plan: Plan, saga: Saga[books.Create] = books.CREATE) -> None:
        self.plan = plan
        self.saga = saga
        self.removes = saga.name == books.REMOVE.name
        self.chance = random.Random(plan.seed)
        self.hardware = books.Hardware()
        self.jobs: asyncio.TaskGroup
        self.over = False
        self.moments = 0
        self.messages = 0
        self.under_way = 0
        self.faults_left = plan.failures
        self.violations: list[str] = []
        self.desk = Node(self, "desk", Peer(Role.SCHEDULER, "scheduler"), books.Desk)
        self.pool = Node(self, "pool", books.ADDRESSES, books.Ledger)
        self.host = Node(self, "host", books.HOST, books.Host)
        self.nodes = {node.name: node for node in (self.desk, self.pool, self.host)}
        self._disturbed = asyncio.Event()

    # -------------------------------------------------------------- wiring

    def furnish(self, node: Node, jobs: asyncio.TaskGroup) -> None:
        """What a process of that name consists of."""
        if node is self.desk:
            self._furnish_desk(jobs)
            return
        node.callee = Callee(node.shelf, jobs_at_once=2)
        if node is self.pool:
            node.callee.immediate(LeaseAddress, self._lease, self._release)
            node.callee.immediate(ReleaseAddress, self._release_all)
        else:
            iron = self.hardware
            node.callee.job(
                CreateVolumes,
                self._flaky("create_volumes", iron.create_volumes),
                self._flaky("remove_volumes", iron.remove_volumes),
            )
            node.callee.job(
                BuildInstance, self._flaky("build", iron.build), self._flaky("demolish", iron.demolish)
            )
            node.callee.job(StartInstance, self._flaky("start", iron.start))
            node.callee.job(DeleteInstance, self._flaky("delete", iron.delete))
        jobs.create_task(node.callee.run())

    def _furnish_desk(self, jobs: asyncio.TaskGroup) -> None:
        desk = self.desk
        desk.engine = Engine(
            desk.shelf,
            [self.saga, books.CREATE] if self.removes else [self.saga],
            Network(self, desk.life),
            now_ms=self.now_ms,
            limits=Limits(workers=4, backoff_s=0.25, backoff_limit_s=2.0, stuck_after=2),
        )
        desk.engine.resume()
        jobs.create_task(desk.engine.run())
        for node in (self.pool, self.host):
            jobs.create_task(self._listen(desk.engine, node))

    async def _listen(self, engine: Engine, node: Node) -> None:
        """The link from the desk to a callee: listen first, then ask for what is open."""
        while True:
            if node.up:
                life = node.life
                listener = node.callee.outcomes()
                engine.peer_up(node.peer)
                async for outcome in listener:
                    if life != node.life or engine is not self.desk.engine or not self.desk.up:
                        break  # the dead say nothing
                    if not self._send(partial(self._tell, engine, node, outcome)):
                        break  # a stream loses nothing while it lasts: what is lost takes the link with it
                node.callee.leave(listener)
                engine.peer_down(node.peer)
            await asyncio.sleep(0.2)

    async def _tell(self, engine: Engine, node: Node, outcome: Outcome) -> None:
        if engine is self.desk.engine and self.desk.up:
            engine.outcome(node.peer, outcome)

    # -------------------------------------------------------------- what goes wrong

    def moment(self) -> None:
        """Something happens now; whatever the plan has for this moment happens first."""
        if self.over:
            return
        self.moments += 1
        self._check_claim()
        for moment, name in self.plan.kills:
            if moment == self.moments:
                self.nodes[name].kill()
        if self.moments == self.plan.cancel_at:
            self._disturbed.set()

    def _check_claim(self) -> None:
        """At every moment: the claim is held exactly while its task is open."""
        if self.desk.up:
            tasks = self.desk.shelf.book.tasks
            if tasks.claims.holder(CLAIM) != next(iter(tasks.open), None):
                self.violations.append(f"moment {self.moments}: the claim is not its task's")

    def _fails(self, handler: str, when: When) -> None:
        if self.plan.failing == (handler, when) and self.faults_left:
            self.faults_left -= 1
            message = f"{handler} was told to fail {when.value}"
            raise RuntimeError(message) if self.plan.defect else Conflict(message)

    def _flaky(self, name: str, handler: Callable[..., Awaitable[T]]) -> Callable[..., Awaitable[T]]:
        life = self.host.life

        async def flaky(*arguments: Any) -> T:
            if life != self.host.life:
                raise asyncio.CancelledError  # the dead touch nothing
            self._fails(name, When.BEFORE)
            result = await handler(*arguments)
            self._fails(name, When.AFTER)
            return result

        return flaky

    def _lease(self, action: LeaseAddress, ledger: books.Ledger) -> Did:
        self._fails("lease", When.BEFORE)
        did = books.lease_in(action, ledger)
        self._fails("lease", When.AFTER)
        return did

    def _release_all(self, action: ReleaseAddress, ledger: books.Ledger) -> Did:
        self._fails("release", When.BEFORE)
        self._nobody_uses_it(action.instance)
        return books.release_all(action, ledger)

    def _nobody_uses_it(self, instance: InstanceId) -> None:
        if self.hardware.holds(instance):
            self.violations.append("an address was freed while hardware still used it")

    def _release(self, action: LeaseAddress, result: Any, ledger: books.Ledger) -> Changes:
        self._fails("release", When.BEFORE)
        self._nobody_uses_it(action.instance)
        changes = books.release_from(action, result, ledger)
        self._fails("release", When.AFTER)
        return changes

    # -------------------------------------------------------------- the network

    def _send(self, deliver: Callable[[], Coroutine[Any, Any, None]]) -> bool:
        """Hand a message over, as often and as late as its fate wants; false if it is lost."""
        self.moment()
        self.messages += 1
        fate = dict(self.plan.fates).get(self.messages)
        for delay_s in fate.delays if fate else (LATENCY_S,):
            self.under_way += 1
            self.jobs.create_task(self._arrive(delay_s, deliver))
        return fate is not Fate.LOSE

    async def _arrive(self, delay_s: float, deliver: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            await asyncio.sleep(delay_s)
            await deliver()
        finally:
            self.under_way -= 1

    async def call(self, life: int, node: Node, ask: Callable[[Callee], Coroutine[Any, Any, T]]) -> T:
        """A request and its reply, each a message of its own."""
        reply: asyncio.Future[T | NanoError] = asyncio.get_running_loop().create_future()

        async def come_back(answer: T | NanoError) -> None:
            if life == self.desk.life and not reply.done():
                reply.set_result(answer)

        async def go() -> None:
            if not node.up:
                return
            try:
                answer = await node.inside(ask(node.callee))
            except NanoError as error:
                self._send(partial(come_back, error))
            else:
                if answer is not None:
                    self._send(partial(come_back, answer))

        if life != self.desk.life:
            await reply  # the dead ask nothing
        if not node.up:
            raise Unreachable(f"{node.name} is down")
        self._send(go)
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                answer = await reply
        except TimeoutError:
            raise TimedOut(f"{node.name} did not answer") from None
        if isinstance(answer, NanoError):
            raise answer
        return answer

    # -------------------------------------------------------------- the client

    async def ask_for(self, saga: Saga[books.Create], task: TaskId) -> None:
        """As a client does: ask until it is answered, under one key."""
        while True:
            if self.desk.up:
                with suppress(NanoError):
                    if await self.desk.inside(self._start(saga, task)) is not None:
                        return
            await asyncio.sleep(0.3)

    async def _start(self, saga: Saga[books.Create], task: TaskId) -> TaskId:
        deadline_ms = self.now_ms() + int(self.plan.deadline_s * 1000)
        self.desk.engine.start(
            saga,
            books.Create(INSTANCE, SPEC),
            subject=INSTANCE,
            claims=[CLAIM],
            requester="tester",
            deadline_ms=deadline_ms if self.plan.deadline_s else 0,
            idempotency=Idempotency(task, "digest"),
            task=task,
        )
        await self.desk.shelf.durable()
        return task

    async def cancel_when_planned(self) -> None:
        await self._disturbed.wait()
        while not self.desk.up:  # noqa: ASYNC110 - in virtual time looking again costs nothing
            await asyncio.sleep(0.1)
        with suppress(NanoError):  # too late, or too early: both are answers
            self.desk.engine.cancel(TASK)

    # -------------------------------------------------------------- running

    @asynccontextmanager
    async def running(self) -> "AsyncIterator[World]":
        async with asyncio.TaskGroup() as self.jobs:
            for node in self.nodes.values():
                node.start()
            canceller = self.jobs.create_task(self.cancel_when_planned())
            try:
                yield self
            finally:
                self.over = True
                canceller.cancel()
                for node in self.nodes.values():
                    if node._process is not None:
                        node._process.cancel()

    async def prepare(self) -> None:
        """What is to be removed is made first, and undisturbed."""
        self.over, disturbed = True, self.plan
        self.plan = Plan()
        await self.ask_for(books.CREATE, BEFORE)
        await self.settled()
        self.over, self.plan = False, disturbed
        self.messages = 0

    async def settled(self) -> None:
        """Until nothing is open, owed or under way anywhere; what does not come to rest is a violation."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not self.is_quiet():  # noqa: ASYNC110 - as above
                    await asyncio.sleep(0.1)
        except TimeoutError:
            self.violations.append(f"not at rest after {PATIENCE_S:.0f} s: {self.holdings()}")

    def is_quiet(self) -> bool:
        if self.under_way or not all(node.up for node in self.nodes.values()):
            return False
        tasks = self.desk.shelf.book.tasks
        return not tasks.open and not tasks.debts

    def now_ms(self) -> int:
        return int(asyncio.get_running_loop().time() * 1000)

    # -------------------------------------------------------------- judging

    def task(self) -> Task:
        tasks: Tasks = self.desk.shelf.book.tasks
        return tasks.view(TASK)

    def verdict(self) -> list[str]:
        """What is wrong now that all is quiet: whole or nothing, and nothing left of the way there."""
        tasks = self.desk.shelf.book.tasks
        found = [*self.violations]
        if not len(tasks) or tasks.open:
            return [*found, "the task has not ended"]
        state = self.task().state
        expected = _WHOLE if (state is TaskState.DONE) is not self.removes else _NOTHING
        for what, held in self.holdings().items():
            if held != expected[what]:
                found.append(f"task {state.value}: {what} is {held!r}, not {expected[what]!r}")
        if len(tasks.claims):
            found.append("a claim is left")
        found += [
            f"{node.name} still keeps {one.step}, {one.progress.value}"
            for node in (self.pool, self.host)
            for one in node.shelf.book.outcomes
        ]
        return found

    def holdings(self) -> dict[str, Any]:
        """All that exists of the instance, by where it is."""
        return {
            "record": self.desk.shelf.book.instances.get(INSTANCE),
            "lease": INSTANCE in self.pool.shelf.book.leases,
            "volumes": len(self.hardware.volumes),
            "hardware domain": self.hardware.domains.get(INSTANCE),
            "host's domain": self.host.shelf.book.domains.get(INSTANCE),
        }


_WHOLE = {
    "record": "running",
    "lease": True,
    "volumes": 1,
    "hardware domain": "running",
    "host's domain": "running",
}
_NOTHING = {
    "record": None,
    "lease": False,
    "volumes": 0,
    "hardware domain": None,
    "host's domain": None,
}


@dataclass
class Network:
    """The desk's `Callees`: every call is two messages."""

    world: World
    life: int
    asked: int = field(default=0)

    def _node(self, target: Target) -> Node:
        return self.world.pool if target in {Role.ADDRESSPOOL, books.ADDRESSES} else self.world.host

    async def begin(
        self, target: Target, task: TaskId, step: str, action: Action, deadline_ms: int
    ) -> Outcome:
        return await self.world.call(
            self.life, self._node(target), lambda callee: callee.begin(task, step, action, deadline_ms)
        )

    async def undo(self, target: Target, task: TaskId, step: str) -> Outcome:
        return await self.world.call(self.life, self._node(target), lambda callee: callee.undo(task, step))

    async def ask(self, target: Target, task: TaskId, step: str) -> Outcome:
        return await self.world.call(self.life, self._node(target), lambda callee: callee.ask(task, step))

    async def forget(self, target: Target, tasks: Sequence[TaskId]) -> None:
        async def forget(callee: Callee) -> bool:
            await callee.forget(tasks)
            return True

        await self.world.call(self.life, self._node(target), forget)


async def play(plan: Plan, saga: Saga[books.Create] = books.CREATE) -> World:
    """One run of the world under a plan, up to the moment when all is quiet."""
    async with World(plan, saga).running() as world:
        if world.removes:
            await world.prepare()
        await world.ask_for(saga, TASK)
        await world.settled()
        return world
