"""A whole zone in virtual time, disturbed at will, and judged at every step.

    @in_a_world(cells=2)
    async def test_a_cell_that_is_killed_goes_on_where_it_was(world: World) -> None:
        vm = await world.create_instance(auto_start=True)
        world.kill("cell-1")
        await world.settle(minutes=2)
        assert world.running_copies(vm) == 1

Real: every book, shelf, engine, callee, handler, contract and watch, the cell's machinery with its files, the
simulated hypervisor that ships, the DHCP responder's store, the gateway's replicas. Simulated: the disks of
books, the network and the clock. When a cell's process dies, its machines and its responder live on.
Everything follows from the seed. After each message and each commit the invariants are checked.
"""

import asyncio
import random
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, TypeVar, cast

import structlog

from nano import wire
from nano.bell import Bell
from nano.contracts.nano import v1
from nano.model.action import StopMode
from nano.model.address import AddressPool, Provider, Range
from nano.model.errors import Exhausted, NoRoom, TimedOut, Unreachable
from nano.model.ids import AddressPoolName, CellId, ImageId, InstanceId, PoolName, TaskId
from nano.model.image import Image, ImageKind
from nano.model.instance import InstanceSpec, Power
from nano.model.peers import Peer, Role
from nano.model.pool import Pool
from nano.model.task import Task, TaskState
from nano.model.template import Devices
from nano.saga.callee import Callee
from nano.saga.engine import Engine
from nano.saga.record import Mark, StepMarked, TaskEnded, TaskOpened
from nano.steps import STEP_ROLES, RemoteCallees, StepsRpc, hear_outcomes
from services.addresspool import rpc as addresspool_rpc
from services.addresspool import steps as addresspool_steps
from services.addresspool.ledger import Ledger
from services.cell import rpc as cell_rpc
from services.cell.bindings import Bindings
from services.cell.disks import Disks
from services.cell.host import Host
from services.cell.images import StoredImages
from services.cell.life import live
from services.cell.sim import SimHypervisor, SimMachine, SimSettings
from services.cell.sim_volumes import SimVolumes
from services.gateway.feed import Feed, feed_from
from services.gateway.view import View
from services.imagestore import rpc as imagestore_rpc
from services.imagestore import steps as imagestore_steps
from services.imagestore.catalog import Catalog
from services.imagestore.files import ImageFiles
from services.imagestore.transfer import BULK_ROLES, Transfer
from services.scheduler import admissions
from services.scheduler import rpc as scheduler_rpc
from services.scheduler.cells import Cells
from services.scheduler.inventory import Inventory, PoolPut, TemplatePut
from services.scheduler.invitations import Invitations
from services.scheduler.samples import Samples
from services.scheduler.tasks import SAGAS
from services.scheduler.templates import defaults, template_id
from tests.support import invariants
from tests.support.host_responder import HostResponder
from tests.support.sim_fabric import Network, Said, SimFabric
from tests.support.sim_process import Furnish, Process
from tests.support.world_loop import WorldLoop, seeded_ids

T = TypeVar("T")

EPOCH_MS = 1_790_000_000_000
"""What the wall clock says when a world begins."""
MIB = 1 << 20
GIB = 1 << 30
ANSWER_S = 10.0
PATIENCE_S = 3600.0
"""How long a client waits for anything: what does not come within an hour never will."""
POOL = PoolName("default")
ADDRESSES = AddressPoolName("lan")
CALLEES = frozenset({Role.CELL, Role.IMAGESTORE, Role.ADDRESSPOOL})


@dataclass
class Vm:
    """An instance that somebody asked for, and the task that they were told."""

    id: InstanceId
    task: TaskId
    spec: InstanceSpec


@dataclass
class HostOf:
    """What of a host outlives its cell's process."""

    hypervisor: SimHypervisor
    responder: HostResponder
    boot: int = 1


class World:
    """All processes, and one client."""

    def __init__(self, seed: int, folder: Path, jobs: asyncio.TaskGroup, cells: int) -> None:
        self.seed, self.folder, self.jobs = seed, folder, jobs
        self.chance = random.Random(seed)
        self.network = Network(random.Random(seed + 1), jobs, said=self._said, arrived=self._arrived)
        self.is_over = False
        self.violations: list[str] = []
        self.story: list[str] = []
        """What happened, with its time."""
        self.steps = 0
        self.messages_before = 0
        """How many had been handed over when all were there."""
        self.at_message: dict[int, Callable[[], None]] = {}
        """What happens before the message of that number is handed over."""
        self.memory = invariants.Memory()
        self.patience_s = 0.0
        """After which the client's tasks are to be given up; 0: never."""
        self.view = View()
        self.hosts: dict[str, HostOf] = {}
        self.processes: dict[str, Process] = {}
        self._key = 0
        self._add("scheduler", Role.SCHEDULER, Inventory, self._furnish_scheduler)
        self._add("addresspool", Role.ADDRESSPOOL, Ledger, self._furnish_addresspool)
        self._add("imagestore", Role.IMAGESTORE, Catalog, self._furnish_imagestore)
        self._add("gateway", Role.GATEWAY, None, self._furnish_gateway)
        for number in range(1, cells + 1):
            self._add_cell(f"cell-{number}", CellId(f"Cell_00000000000{number}"))
        self.client = SimFabric(self.network, Peer(Role.GATEWAY, "client"), jobs)
        self.network.join(self.client)

    def _add(
        self, name: str, role: Role, book: type[Any] | None, furnish: Furnish, peer: str = "main"
    ) -> None:
        self.processes[name] = Process(self, name, Peer(role, peer), book, furnish)

    def _add_cell(self, name: str, cell: CellId) -> None:
        self._add(name, Role.CELL, Host, self._furnish_cell, cell)

        def binding_of(instance: InstanceId) -> Any:
            shelf = self.processes[name].shelf
            return shelf and shelf.book.binding(instance)

        self.hosts[name] = HostOf(
            SimHypervisor(
                binding_of, SimSettings(cores=4, memory_bytes=4 * GIB, disk_bytes=40 * GIB, latency_s=0.003)
            ),
            HostResponder(self.folder / f"{name}.leases.json"),
        )

    # -------------------------------------------------------------- what processes are made of

    async def _furnish_scheduler(self, process: Process, _: AsyncExitStack, jobs: asyncio.TaskGroup) -> None:
        """As `services/scheduler/__main__.py`."""
        shelf, fabric = process.shelf, cast("Any", process.fabric)
        if shelf.revision == 0:
            shelf.commit(PoolPut(Pool(POOL)), *map(TemplatePut, defaults(self.now_ms())))
        shelf.commit(*shelf.book.nobody_is_confirmed(self.now_ms()))
        samples = Samples(shelf.book.usage)
        engine = Engine(shelf, SAGAS, RemoteCallees(fabric), now_ms=self.now_ms)
        engine.resume()
        jobs.create_task(engine.run(), name="engine")
        jobs.create_task(
            Cells(shelf, engine, fabric, samples, self.now_ms, first_pool=POOL).listen(), name="cells"
        )
        jobs.create_task(hear_outcomes(fabric, engine, CALLEES), name="outcomes")
        rpc = scheduler_rpc.SchedulerRpc(shelf, engine, samples, self.now_ms)
        # Nobody here has a key: no token is made, and no authority rotated.
        door = admissions.AdmissionsRpc(shelf, engine, Invitations("", list), lambda: "", self.now_ms)
        fabric.serve([rpc, door], scheduler_rpc.ROLES | admissions.ROLES)

    async def _furnish_addresspool(
        self, process: Process, _: AsyncExitStack, jobs: asyncio.TaskGroup
    ) -> None:
        """As `services/addresspool/__main__.py`."""
        callee = Callee(process.shelf)
        addresspool_steps.offer(callee, self.now_ms)
        jobs.create_task(callee.run(), name="callee")
        rpc = addresspool_rpc.AddressPoolsRpc(process.shelf)
        process.fabric.serve([rpc, StepsRpc(callee)], addresspool_rpc.ROLES | STEP_ROLES)

    async def _furnish_imagestore(
        self, process: Process, up: AsyncExitStack, jobs: asyncio.TaskGroup
    ) -> None:
        """As `services/imagestore/__main__.py`."""
        files = ImageFiles(process.folder / "images")
        up.callback(files.close)
        transfer = Transfer(process.shelf, files, self.now_ms)
        await transfer.settle()
        callee = Callee(process.shelf)
        imagestore_steps.offer(callee)
        jobs.create_task(callee.run(), name="callee")
        jobs.create_task(transfer.tidy(), name="tidy")
        rpc = imagestore_rpc.ImageStoreRpc(process.shelf, transfer, self.now_ms)
        process.fabric.serve([rpc, StepsRpc(callee)], imagestore_rpc.ROLES | STEP_ROLES)
        process.fabric.serve_bulk(transfer, BULK_ROLES)

    async def _furnish_cell(self, process: Process, up: AsyncExitStack, _: asyncio.TaskGroup) -> None:
        """As `services/cell/__main__.py`; the host's machines and its responder were there before."""
        host, shelf = self.hosts[process.name], process.shelf
        capabilities = await host.hypervisor.probe()
        images = StoredImages()
        images.join(cast("Any", process.fabric.bulk(Role.IMAGESTORE)))
        disks = Disks(process.folder / "storage", SimVolumes(), images)
        bindings = Bindings(host.responder, shelf.book.bound())
        callee = await up.enter_async_context(
            live(shelf, host.hypervisor, disks, bindings, boot=f"boot-{host.boot}", now_ms=self.now_ms)
        )
        process.fabric.serve(
            [cell_rpc.CellRpc(shelf, capabilities, host.hypervisor), StepsRpc(callee)],
            cell_rpc.ROLES | STEP_ROLES,
        )

    async def _furnish_gateway(self, process: Process, _: AsyncExitStack, jobs: asyncio.TaskGroup) -> None:
        """The replicas of `services/gateway/__main__.py`, which live in memory only."""
        self.view = View()
        feed = Feed(self.view, Bell(), self.time_s)
        jobs.create_task(feed_from(cast("Any", process.fabric), feed), name="feed")

    # -------------------------------------------------------------- looking

    def time_s(self) -> float:
        return asyncio.get_running_loop().time()

    def now_ms(self) -> int:
        return EPOCH_MS + int(self.time_s() * 1000)

    def between(self, bounds: tuple[float, float]) -> float:
        return self.chance.uniform(*bounds)

    @property
    def inventory(self) -> Inventory:
        return cast("Inventory", self.processes["scheduler"].book)

    @property
    def ledger(self) -> Ledger:
        return cast("Ledger", self.processes["addresspool"].book)

    @property
    def catalog(self) -> Catalog:
        return cast("Catalog", self.processes["imagestore"].book)

    @property
    def cells(self) -> dict[CellId, Process]:
        return {CellId(each.peer.id): each for name, each in self.processes.items() if name in self.hosts}

    def machines(self, cell: str) -> dict[InstanceId, SimMachine]:
        return self.hosts[cell].hypervisor._machines

    def volumes(self, cell: str) -> set[str]:
        """All that lies where volumes do, whole or not."""
        folder = self.processes[cell].files / "storage" / "volumes"
        return {each.name for each in folder.iterdir()} if folder.exists() else set()

    def cell_of(self, vm: Vm) -> str:
        """The name of the process on whose host it is, or will be."""
        cell = self.inventory.instance(vm.id).cell
        return next(name for name, process in self.processes.items() if process.peer.id == cell)

    def running_copies(self, vm: Vm) -> int:
        machines = (self.machines(cell).get(vm.id) for cell in self.hosts)
        return sum(machine is not None and machine.power is not Power.STOPPED for machine in machines)

    def task(self, task: TaskId) -> Task:
        return self.inventory.tasks.view(task)

    # -------------------------------------------------------------- disturbing

    def kill(self, name: str, *, power_cut: bool = False) -> None:
        self.processes[name].kill(power_cut=power_cut)

    def restart(self, name: str) -> None:
        self.processes[name].restart()

    def break_sync(self, name: str) -> None:
        self.processes[name].break_sync()

    def lose_power(self, cell: str) -> None:
        """The whole host: its machines are off, and its kernel starts anew."""
        host = self.hosts[cell]
        self.kill(cell, power_cut=True)
        host.hypervisor.reboot_host()
        host.responder.restart()
        host.boot += 1

    def cut(self, one: str, other: str) -> None:
        self.note(f"{one} and {other} are cut off from each other")
        self.network.cut(self.processes[one].peer, self.processes[other].peer)

    def mend(self, one: str, other: str) -> None:
        self.note(f"{one} and {other} hear each other again")
        self.network.mend(self.processes[one].peer, self.processes[other].peer)

    def calm(self) -> None:
        """Nothing goes wrong from here on."""
        self.network.mend_all()
        self.network.odds.fate = 0.0
        self.patience_s = 0.0
        self.at_message.clear()
        for host in self.hosts.values():
            host.responder.is_down = False
            host.hypervisor.come_back()

    # -------------------------------------------------------------- the client

    async def create_instance(
        self,
        name: str = "",
        *,
        image: ImageId | None = None,
        auto_start: bool = False,
        cores: int = 1,
        memory_bytes: int = 512 * MIB,
        disk_bytes: int = GIB,
    ) -> Vm:
        """Ask for one until somebody answers; the task is durable then, and may be under way still."""
        self._key += 1
        spec = InstanceSpec(
            name=name or f"vm{self._key}",
            owner="admin",
            group="admin",
            pool=POOL,
            cores=cores,
            memory_bytes=memory_bytes,
            disks_bytes=(disk_bytes,),
            template=template_id("Linux (virtio)"),
            devices=Devices(),
            image=image,
            auto_start=auto_start,
        )
        asked = v1.CreateInstanceRequest(spec=wire.outgoing(spec), requester=self._requester())
        answer = await self._answered(lambda stub: stub.create_instance(asked, timeout=ANSWER_S))
        return Vm(InstanceId(answer.subject), TaskId(answer.task), spec)

    async def start(self, vm: Vm) -> TaskId:
        asked = v1.InstanceRequest(instance=vm.id, requester=self._requester())
        answer = await self._answered(lambda stub: stub.start_instance(asked, timeout=ANSWER_S))
        return TaskId(answer.task)

    async def stop(self, vm: Vm, mode: StopMode = StopMode.GRACEFUL) -> TaskId:
        asked = v1.StopInstanceRequest(instance=vm.id, mode=str(mode), requester=self._requester())
        answer = await self._answered(lambda stub: stub.stop_instance(asked, timeout=ANSWER_S))
        return TaskId(answer.task)

    async def delete(self, vm: Vm) -> TaskId:
        asked = v1.InstanceRequest(instance=vm.id, requester=self._requester())
        answer = await self._answered(lambda stub: stub.delete_instance(asked, timeout=ANSWER_S))
        return TaskId(answer.task)

    async def cancel(self, task: TaskId) -> None:
        await self._answered(lambda stub: stub.cancel_task(v1.CancelTaskRequest(task=task), timeout=ANSWER_S))

    def ended_badly(self) -> set[TaskId]:
        """The tasks that came to nothing."""
        ended = self.inventory.tasks.ended
        return {task for task, record in ended.items() if record.state is not TaskState.DONE}

    async def ended(self, task: TaskId) -> Task:
        """The task as it ended; a `TimeoutError` when it does not."""
        scheduler = self.processes["scheduler"]
        async with asyncio.timeout(PATIENCE_S):
            while not (scheduler.is_up and task in self.inventory.tasks.ended):  # noqa: ASYNC110 - virtual time
                await asyncio.sleep(0.25)
        return self.task(task)

    async def done(self, task: TaskId) -> None:
        ended = await self.ended(task)
        assert ended.state is TaskState.DONE, ended

    async def use_addresses(self, count: int = 12) -> None:
        """From here on, new instances get one of `count` addresses."""
        start = IPv4Address("10.1.0.10")
        span = Range(start, start + count - 1, IPv4Address("255.255.255.0"))
        pool = AddressPool(ADDRESSES, IPv4Address("10.1.0.1"), (), Provider.DHCP, (span,))
        stub = v1.AddressPoolsStub(cast("Any", self.client.channel(Role.ADDRESSPOOL)))
        await self.asked(lambda: stub.create_pool(wire.outgoing(pool), timeout=ANSWER_S))
        await self.put_pool(ADDRESSES)

    async def put_pool(self, address_pool: AddressPoolName | None) -> None:
        pool = wire.outgoing(Pool(POOL, address_pool=address_pool))
        await self._answered(lambda stub: stub.put_pool(pool, timeout=ANSWER_S))

    async def enable_cell(self, name: str, *, enabled: bool) -> None:
        asked = v1.EnableCellRequest(pool=POOL, cell=self.processes[name].peer.id, enabled=enabled)
        await self._answered(lambda stub: stub.enable_cell(asked, timeout=ANSWER_S))

    async def edit_range(self, start: str, end: str, *, add: bool) -> None:
        stub = v1.AddressPoolsStub(cast("Any", self.client.channel(Role.ADDRESSPOOL)))
        if add:
            span = wire.outgoing(Range(IPv4Address(start), IPv4Address(end), IPv4Address("255.255.255.0")))
            asked = v1.RangeRequest(pool=ADDRESSES, range=span)
            await self.asked(lambda: stub.add_range(asked, timeout=ANSWER_S))
        else:
            gone = v1.RangeRef(pool=ADDRESSES, start=start)
            await self.asked(lambda: stub.remove_range(gone, timeout=ANSWER_S))

    async def upload_image(self, name: str = "base") -> ImageId:
        """A disk image of one sector that a firmware would start."""
        stub = v1.ImageStoreStub(cast("Any", self.client.channel(Role.IMAGESTORE)))
        record = Image(ImageId("-"), ImageKind.DISK, name, "admin", "admin", "", (), 0, 0)
        made = await self.asked(lambda: stub.create_image(wire.outgoing(record), timeout=ANSWER_S))
        image = ImageId(made.id)
        await self.asked(lambda: self.client.bulk(Role.IMAGESTORE).put(image, _body(name)))
        return image

    async def upload_again(self, image: ImageId) -> None:
        """Other bytes in the place of the old ones, under everybody's hands."""
        self._key += 1
        bulk = self.client.bulk(Role.IMAGESTORE)
        await self.asked(lambda: bulk.put(image, _body(f"version {self._key}")))

    async def delete_image(self, image: ImageId) -> None:
        stub = v1.ImageStoreStub(cast("Any", self.client.channel(Role.IMAGESTORE)))
        gone = v1.ImageRef(id=image, kind="disk")
        await self.asked(lambda: stub.delete_image(gone, timeout=ANSWER_S))

    def _requester(self) -> v1.Requester:
        self._key += 1
        deadline_ms = self.now_ms() + int(self.patience_s * 1000) if self.patience_s else 0
        return v1.Requester(
            credential="client",
            idempotency_key=f"key-{self._key}",
            body_digest="-",
            deadline_ms=deadline_ms,
        )

    async def _answered(self, ask: Callable[[v1.SchedulerStub], Awaitable[T]]) -> T:
        stub = v1.SchedulerStub(cast("Any", self.client.channel(Role.SCHEDULER)))
        answer = await self.asked(lambda: ask(stub))
        if isinstance(answer, v1.TaskRef):
            self.memory.promised[TaskId(answer.task)] = answer.subject
        return answer

    async def asked(self, ask: Callable[[], Awaitable[T]]) -> T:
        """As a client does: until it is answered; a refusal is an answer."""
        while True:
            try:
                return await ask()
            except NoRoom:
                raise
            except (Unreachable, TimedOut, Exhausted):
                await asyncio.sleep(0.5)

    # -------------------------------------------------------------- judging

    def note(self, what: str) -> None:
        self.story.append(f"{self.time_s():9.3f} {what}")

    def judge(self, flaws: Iterator[str]) -> None:
        """Write down what is wrong, once."""
        for flaw in flaws:
            if flaw not in self.violations:
                self.violations.append(flaw)
                self.note(f"WRONG: {flaw}")

    def moment(self) -> None:
        """After each step."""
        self.steps += 1
        if not self.is_over:
            for check in invariants.ALWAYS.values():
                self.judge(check(self))

    def committed(self, process: Process, changes: tuple[Any, ...]) -> None:
        for change in changes:
            match change:
                case TaskOpened():
                    self.memory.opened[change.task] = change
                    self.note(f"task {change.task} begins: {change.kind} {change.subject}")
                case TaskEnded(task, state):
                    self.note(f"task {task} ends: {state}")
                    self.judge(invariants.whole_or_nothing(self, task, state))
                case StepMarked(task, step, _, mark) if mark in {Mark.FAILED, Mark.STUCK}:
                    self.note(f"task {task}: {step} {mark}, {change.fault and change.fault.message}")
        self.moment()

    def _said(self, said: Said) -> None:
        if not self.is_over:
            self.judge(invariants.said(self, said))

    def _arrived(self, said: Said) -> None:
        if (planned := self.at_message.pop(self.network.messages, None)) is not None:
            planned()
        if not self.is_over:
            self.judge(invariants.events_ordered(self, said))
        self.moment()

    async def settle(self, minutes: float = 10) -> None:
        """Until nothing is open, owed, due or under way anywhere; then nothing may be left over."""
        try:
            async with asyncio.timeout(minutes * 60):
                while list(invariants.unrest(self)):  # noqa: ASYNC110 - in virtual time looking again is cheap
                    await asyncio.sleep(0.5)
        except TimeoutError:
            self.judge(f"not at rest after {minutes} minutes: {why}" for why in invariants.unrest(self))
            return
        self.moment()
        for check in invariants.SETTLED.values():
            self.judge(check(self))

    @asynccontextmanager
    async def running(self) -> "AsyncIterator[World]":
        try:
            for process in self.processes.values():
                process.start()
            while not self._is_ready():  # noqa: ASYNC110 - virtual time
                await asyncio.sleep(0.1)
            self.messages_before = self.network.messages
            yield self
        finally:
            self.is_over = True
            self.client.is_alive = False
            for process in self.processes.values():
                process.stop()
            for host in self.hosts.values():
                host.responder.close()
                for timer in host.hypervisor._timers.values():
                    timer.cancel()

    def _is_ready(self) -> bool:
        return all(process.is_up for process in self.processes.values()) and all(
            cell in self.inventory.cells and self.inventory.cells[cell].confirmed for cell in self.cells
        )


async def _body(name: str) -> AsyncIterator[bytes]:
    yield (name.encode() * 512)[:510] + b"\x55\xaa"
    yield bytes(512)


# ------------------------------------------------------------------ running one


Story = Callable[[World], Coroutine[Any, Any, None]]


def tell(story: Story, seed: int = 0, *, cells: int = 2) -> World:
    """Live through a story in a world of its own; the world as it was at the end, with what was wrong."""
    shared = Path("/dev/shm")
    place = str(shared) if shared.is_dir() else None  # a sync to memory costs nothing

    async def run(folder: Path) -> World:
        async with asyncio.TaskGroup() as jobs:
            world = World(seed, folder, jobs, cells)
            async with world.running():
                await story(world)
        return world

    with (
        tempfile.TemporaryDirectory(prefix="nano-world-", dir=place) as folder,
        seeded_ids(seed + 2),
        structlog.testing.capture_logs(),
        asyncio.Runner(loop_factory=WorldLoop) as runner,
    ):
        return runner.run(run(Path(folder)))


def assert_right(world: World) -> None:
    """Nothing was wrong at any moment; else the seed, what was, and how it came to that."""
    if world.violations:
        told = "\n".join([f"seed {world.seed}", *world.violations, "", "what happened:", *world.story[-80:]])
        raise AssertionError(told)


def in_a_world(*, seed: int = 0, cells: int = 2) -> Callable[[Story], Callable[[], None]]:
    """Decorates a test that is told a world, and at whose end nothing may have been wrong."""

    def decorate(story: Story) -> Callable[[], None]:
        def test() -> None:
            assert_right(tell(story, seed, cells=cells))

        test.__name__, test.__doc__, test.__module__ = story.__name__, story.__doc__, story.__module__
        return test

    return decorate
