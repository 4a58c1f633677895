"""Instances come and go while everything around them dies, is cut off and comes back; the invariants hold.

The worlds are those of `tests/support/world.py`: all that Nano is made of, over a network that loses, holds
back and doubles, on disks that lose power. After every message and every commit the invariants of the design
(section 14) are checked; once all is quiet nothing may be left that nobody knows. The last tests test these.

    NANO_SEED=4711 pytest tests/simulation/test_lifecycle.py -k seeds     the world of that seed again
    NANO_SEEDS=2000 pytest tests/simulation/test_lifecycle.py -k seeds    a long hunt
"""

import asyncio
import os
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from nano.contracts.nano import v1
from nano.model.action import StopMode
from nano.model.errors import Conflict, Forbidden, Internal, NanoError, NoRoom, TimedOut, Unreachable
from nano.model.ids import ImageId, InstanceId, TaskId
from nano.model.peers import Peer, Role
from nano.model.task import TaskState
from nano.saga.step import Saga
from nano.shelf import Cursor, Shelf
from nano.steps import STEP_ROLES
from services.cell.host import Host
from services.scheduler import rpc as scheduler_rpc
from services.scheduler.inventory import InstancePut, Inventory
from services.scheduler.tasks import SAGAS
from services.scheduler.tasks.delete_instance import DELETE_INSTANCE, DeleteInstance
from tests.support import invariants
from tests.support.sim_fabric import SimFabric
from tests.support.sim_process import Process
from tests.support.world import ADDRESSES, GIB, MIB, Story, Vm, World, assert_right, in_a_world, tell

SEEDS = (
    [int(os.environ["NANO_SEED"])]
    if "NANO_SEED" in os.environ
    else range(int(os.environ.get("NANO_SEEDS", "20")))
)

STRIDE = int(os.environ.get("NANO_STRIDE", "7"))
"""Of the sweep over all messages: 1 is every one of them."""

PACE_S = 1.5
"""How long a user, and whoever makes trouble, pauses between two deeds, in the mean."""
USERS = 5
DEEDS = 7
"""What each user does to one instance after another."""
TROUBLES = (3, 16)
TROUBLE = ("kill", "kill", "power cut", "restart", "sync", "cut", "host", "hypervisor", "responder", "call")


# ------------------------------------------------------------------ users, and those who disturb them


class Traffic:
    """Users with instances of their own, an administrator, and trouble."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.chance = random.Random(world.seed + 3)
        self.images: list[ImageId] = []
        self.tasks: list[TaskId] = []

    async def flow(self) -> None:
        world, chance = self.world, self.chance
        world.network.odds.fate = chance.choice([0.0, 0.02, 0.1, 0.3])
        world.patience_s = chance.choice([0.0, 0.0, 3.0, 20.0])
        async with asyncio.TaskGroup() as jobs:
            trouble = jobs.create_task(self.trouble())
            async with asyncio.TaskGroup() as users:
                users.create_task(self.administer())
                for _ in range(USERS):
                    users.create_task(self.use())
            trouble.cancel()
        world.calm()

    async def use(self) -> None:
        """One user: one instance at a time, most often waiting for what was begun."""
        vm: Vm | None = None
        for _ in range(DEEDS):
            await asyncio.sleep(self.chance.expovariate(1 / PACE_S))
            try:
                if vm is None or (vm.task in self.world.ended_badly()):
                    vm = await self.create()
                elif await self.do_something(vm):
                    vm = None
            except NanoError as error:
                self.refused("a user", error)

    def refused(self, who: str, error: NanoError) -> None:
        """A refusal is an answer, and a defect is none."""
        self.world.note(f"{who} is refused: {error}")
        if isinstance(error, Internal):
            self.world.judge(iter([f"a defect: {error}"]))

    async def create(self) -> Vm:
        vm = await self.world.create_instance(
            image=self.chance.choice([None, *self.images]),
            auto_start=self.chance.random() < 0.4,
            cores=self.chance.choice([1, 2, 4]),
            memory_bytes=self.chance.choice([1, 2, 4]) << 29,
        )
        await self.wait_for(vm.task)
        return vm

    async def do_something(self, vm: Vm) -> bool:
        """Whether the instance is gone."""
        world, chance = self.world, self.chance
        match chance.choice(["start", "start", "stop", "delete", "delete", "crash"]):
            case "start":
                await self.wait_for(await world.start(vm))
            case "stop":
                mode = chance.choice([*StopMode, StopMode.FORCE])
                await self.wait_for(await world.stop(vm, mode))
            case "delete":
                await self.wait_for(await world.delete(vm))
                return True
            case "crash":
                cell = chance.choice([*world.hosts])
                with suppress(NanoError):
                    world.hosts[cell].hypervisor.crash(vm.id)
        return False

    async def wait_for(self, task: TaskId) -> None:
        self.tasks.append(task)
        match self.chance.choice(["wait", "wait", "hurry", "cancel"]):
            case "wait":
                await self.world.ended(task)
            case "cancel":
                await asyncio.sleep(self.chance.uniform(0, 0.3))
                await self.world.cancel(task)

    async def administer(self) -> None:
        """Address pools, ranges, images and cells change under everybody's hands."""
        world, chance = self.world, self.chance
        for number in range(DEEDS * 2):
            try:
                match (
                    chance.choice(["pool", "more", "fewer", "image", "other image", "no image", "cell"])
                    if number > 2
                    else number
                ):
                    case 0:
                        await world.use_addresses(chance.choice([2, 4, 8]))
                    case 1 | 2:
                        self.images.append(await world.upload_image(f"base{number}"))
                    case "pool":
                        await world.put_pool(chance.choice([None, ADDRESSES, ADDRESSES]))
                    case "more":
                        await world.edit_range("10.1.0.100", "10.1.0.102", add=True)
                    case "fewer":
                        start = chance.choice(["10.1.0.10", *["10.1.0.100"] * 4])
                        await world.edit_range(start, "", add=False)
                    case "image":
                        self.images.append(await world.upload_image(f"base{number}"))
                    case "other image" if self.images:
                        await world.upload_again(chance.choice(self.images))
                    case "no image" if self.images:
                        await world.delete_image(self.images.pop(0))
                    case "cell":
                        await world.enable_cell(chance.choice([*world.hosts]), enabled=chance.random() < 0.7)
            except NanoError as error:
                self.refused("the administrator", error)
            await asyncio.sleep(chance.expovariate(1 / 3))

    async def trouble(self) -> None:
        world, chance = self.world, self.chance
        for _ in range(chance.randint(*TROUBLES)):
            message = world.network.messages + chance.randrange(1, 20)
            cell = chance.choice([*world.hosts])
            name = chance.choice(["scheduler", "scheduler", cell, cell, *world.processes])
            match chance.choice(TROUBLE):
                case "kill":
                    world.at_message[message] = partial(world.kill, name)
                case "power cut":
                    world.at_message[message] = partial(world.kill, name, power_cut=True)
                case "restart":
                    world.at_message[message] = partial(world.restart, name)
                case "sync":
                    world.at_message[message] = partial(world.break_sync, name)
                case "host":
                    world.at_message[message] = partial(world.lose_power, cell)
                case "cut":
                    other = chance.choice([each for each in world.processes if each != name])
                    world.cut(name, other)
                    world.jobs.create_task(self._later(partial(world.mend, name, other)))
                case "hypervisor":
                    world.hosts[cell].hypervisor.vanish()
                    world.jobs.create_task(self._later(world.hosts[cell].hypervisor.come_back))
                case "responder":
                    world.hosts[cell].responder.is_down = True
                    world.jobs.create_task(self._later(partial(self._is_down, cell, False)))
                case "call":
                    self._fail_a_call(cell)
            await asyncio.sleep(chance.expovariate(1 / PACE_S))

    async def _later(self, do: Callable[[], None]) -> None:
        await asyncio.sleep(self.chance.expovariate(1 / (2 * PACE_S)))
        do()

    def _is_down(self, cell: str, is_down: bool) -> None:
        self.world.hosts[cell].responder.is_down = is_down

    def _fail_a_call(self, cell: str) -> None:
        """The hypervisor refuses something that is asked of it next."""
        instance = self.chance.choice([*self.world.inventory.instances, InstanceId("")])
        call = self.chance.choice(["define", "undefine", "start", "stop", "domain"])
        error = self.chance.choice([Conflict, Unreachable, TimedOut, Internal])
        self.world.hosts[cell].hypervisor.fail_next(call, instance, error(f"{call} was told to fail"))


async def a_life(world: World) -> None:
    await Traffic(world).flow()
    await world.settle(minutes=20)


@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_happens_the_invariants_hold_in_the_world_of_seeds(seed: int) -> None:
    assert_right(tell(a_life, seed, cells=2 + seed % 2))


# ------------------------------------------------------------------ told stories


@in_a_world(cells=2)
async def test_an_instance_that_is_to_run_runs_exactly_once_after_its_cell_was_killed(world: World) -> None:
    image = await world.upload_image()
    vm = await world.create_instance(image=image, auto_start=True)
    world.kill(world.cell_of(vm))
    await world.settle(minutes=2)
    assert world.running_copies(vm) == 1


@in_a_world(cells=2)
async def test_a_host_that_lost_its_power_starts_what_may_start_by_itself(world: World) -> None:
    await world.use_addresses()
    stays_off, comes_back = await world.create_instance(), await world.create_instance(auto_start=True)
    for vm in (stays_off, comes_back):
        await world.done(vm.task)
    await world.done(await world.start(stays_off))
    await world.settle(minutes=2)
    for cell in world.hosts:
        world.lose_power(cell)
    await world.settle(minutes=2)
    assert [world.running_copies(vm) for vm in (stays_off, comes_back)] == [0, 1]


@in_a_world(cells=2)
async def test_a_creation_whose_cell_is_cut_off_ends_when_it_is_heard_again(world: World) -> None:
    await world.use_addresses(count=2)
    vm = await world.create_instance()
    cell = world.cell_of(vm)
    world.cut("scheduler", cell)
    await asyncio.sleep(300)
    assert not world.task(vm.task).state.ended
    world.mend("scheduler", cell)
    await world.done(vm.task)
    await world.settle(minutes=2)


@in_a_world(cells=1)
async def test_a_stop_that_is_cancelled_while_its_guest_thinks_about_it_still_ends(world: World) -> None:
    """A step without a way back is waited for: what it came to decides."""
    vm = await world.create_instance()
    await world.done(vm.task)
    await world.done(await world.start(vm))
    task = await world.stop(vm, StopMode.GRACEFUL)  # a blank disk: nobody hears the button
    await asyncio.sleep(5)
    await world.cancel(task)
    await world.settle(minutes=3)
    assert world.task(task).state is TaskState.CANCELLED
    assert world.running_copies(vm) == 1


@in_a_world(cells=1)
async def test_whoever_loses_its_journal_ends_at_once_and_comes_back_with_all_that_it_said(
    world: World,
) -> None:
    await world.use_addresses()
    vm = await world.create_instance()
    await world.done(vm.task)
    for name in ("scheduler", "cell-1", "addresspool", "imagestore"):
        life = world.processes[name].life
        world.break_sync(name)
        with suppress(NanoError):  # it says that it cannot go on
            await world.edit_range("10.1.0.100", "10.1.0.102", add=name == "addresspool")
        with suppress(NanoError):
            await world.upload_image(f"image-{name}")
        with suppress(NanoError):
            await world.create_instance(memory_bytes=128 * MIB)
        await world.settle(minutes=5)
        assert world.processes[name].life > life
    assert vm.id in world.inventory.instances


@in_a_world(cells=1)
async def test_a_callee_that_loses_its_journal_has_not_refused_what_it_was_asked(world: World) -> None:
    """It may have happened: behind the pivot a second attempt would be refused for ever, as it was done."""
    await world.use_addresses()
    vm = await world.create_instance()
    await world.done(vm.task)
    await world.settle(minutes=1)
    world.break_sync("addresspool")
    await world.done(await world.delete(vm))
    await world.settle(minutes=5)


@in_a_world(cells=1)
async def test_bytes_that_were_replaced_go_when_the_last_task_lets_go_of_them(world: World) -> None:
    image = await world.upload_image()
    world.cut("scheduler", "cell-1")
    vm = await world.create_instance(image=image)  # pins the image, and waits for its cell
    await asyncio.sleep(5)
    await world.upload_again(image)
    assert len(world.catalog.kept()) == 2
    world.mend("scheduler", "cell-1")
    await world.done(vm.task)
    await world.settle(minutes=5)  # no orphan: of image files, too


@in_a_world(cells=2)
async def test_a_deleted_instance_leaves_its_address_to_the_next(world: World) -> None:
    await world.use_addresses(count=1)
    first = await world.create_instance()
    await world.done(first.task)
    refused = await world.create_instance()
    assert (await world.ended(refused.task)).state is TaskState.FAILED
    await world.done(await world.delete(first))
    await world.done((await world.create_instance()).task)
    await world.settle(minutes=2)


# ------------------------------------------------------------------ one death at each message

CASTS = ("scheduler", "addresspool", "imagestore", "gateway", "cell-1")


async def _come_and_go(world: World) -> None:
    """One instance from an image, with an address, until it is gone again; and one that is given up."""
    await world.use_addresses(count=2)
    image = await world.upload_image()
    vm = await world.create_instance(image=image, auto_start=True)
    given_up = await world.create_instance(image=image)
    await asyncio.sleep(0.03)
    with suppress(NanoError):
        await world.cancel(given_up.task)
    await world.done(vm.task)
    await asyncio.sleep(6)
    with suppress(NanoError):
        await world.ended(await world.stop(vm))
    with suppress(NanoError):
        await world.ended(await world.stop(vm, StopMode.FORCE))
    with suppress(NanoError):
        await world.done(await world.delete(vm))
    await world.settle(minutes=10)


@pytest.mark.parametrize("power_cut", [False, True], ids=["kill", "power cut"])
@pytest.mark.parametrize("name", CASTS)
def test_whoever_dies_at_whichever_message_nothing_is_left_over(name: str, power_cut: bool) -> None:
    undisturbed = tell(_come_and_go, cells=1)
    assert_right(undisturbed)
    for message in range(undisturbed.messages_before, undisturbed.network.messages, STRIDE):

        async def story(world: World, message: int = message) -> None:
            world.at_message[message] = lambda: world.kill(name, power_cut=power_cut)
            await _come_and_go(world)

        assert_right(tell(story, seed=message, cells=1))


# ------------------------------------------------------------------ nobody-unnamed, by the contracts


def test_every_method_of_every_contract_is_served_by_somebody_and_names_who_may_call_it() -> None:
    async def nothing(_world: World) -> None:
        """Everybody is up: that is enough."""

    world = tell(nothing, cells=1)
    served = {name for process in world.processes.values() for name in process.fabric.served}
    assert served == invariants.contract_methods()
    assert list(invariants.everybody_named(world)) == []


@in_a_world(cells=1)
async def test_a_peer_whose_role_is_not_named_is_refused_by_every_method(world: World) -> None:
    callers = {role: SimFabric(world.network, Peer(role, "stranger"), world.jobs) for role in Role}
    answered = [
        f"{role} may call {route} of {name}"
        for name, process in world.processes.items()
        for route in process.fabric.served
        for role in Role
        if role not in process.fabric.roles[route] and not await _is_refused(callers[role], process, route)
    ]
    assert answered == []


async def _is_refused(caller: SimFabric, process: Process, route: str) -> bool:
    method = process.fabric._calls._methods[route]
    channel = caller.channel(process.peer.role, process.peer.id)
    try:
        async with channel.request(
            route, method.cardinality, method.request_type, method.reply_type, timeout=5.0
        ) as call:
            await call.send_message(method.request_type(), end=True)
            await call.recv_message()
    except Forbidden:
        return True
    return False


# ------------------------------------------------------------------ each check can fail


def found_out(story: Story, *, seed: int = 0, cells: int = 1) -> set[str]:
    """The names of the invariants that a broken world was seen to break."""
    return {flaw.partition(":")[0] for flaw in tell(story, seed, cells=cells).violations}


async def _one_comes_and_goes(world: World) -> None:
    """Without trouble; whoever waits for an end waits for a while only, since the world is broken."""
    with suppress(TimeoutError, NanoError):
        async with asyncio.timeout(120):
            await world.use_addresses(count=4)
            image = await world.upload_image()
            vm = await world.create_instance(image=image)
            await world.ended(vm.task)
            other = await world.create_instance(image=image, disk_bytes=GIB)
            await world.ended(other.task)
            await world.ended(await world.delete(vm))
    await world.settle(minutes=1)


async def _one_is_refused_late(world: World) -> None:
    """The hypervisor does not take it: all that was made before is taken back."""
    await world.use_addresses(count=4)
    hypervisor = world.hosts["cell-1"].hypervisor
    vm = await world.create_instance()
    hypervisor.fail_next("define", vm.id, Conflict("this host does not want it"))
    await world.ended(vm.task)
    await world.settle(minutes=1)


def test_the_stories_of_the_broken_worlds_are_right_in_a_whole_one() -> None:
    assert found_out(_one_comes_and_goes) == set()
    assert found_out(_one_is_refused_late) == set()


def test_an_instance_that_runs_twice_is_found_out() -> None:
    async def story(world: World) -> None:
        vm = await world.create_instance()
        await world.done(vm.task)
        await world.done(await world.start(vm))
        here = world.cell_of(vm)
        there = next(cell for cell in world.hosts if cell != here)
        world.machines(there)[vm.id] = world.machines(here)[vm.id]  # a second copy, by whoever's hand
        world.moment()

    assert "never-twice" in found_out(story, cells=2)


def test_an_address_that_two_hold_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(world: World) -> None:
        await world.use_addresses()
        for _ in range(2):
            await world.ended((await world.create_instance()).task)

    monkeypatch.setattr("services.addresspool.ledger._Vacancy.lowest", lambda free, _held: free._next)
    assert "no-double-address" in found_out(story)


def test_an_address_that_is_freed_before_its_host_lets_go_is_found_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, delete, release, last = DELETE_INSTANCE.steps
    hasty = Saga(DELETE_INSTANCE.name, DeleteInstance, (first, release, delete, last), pivot=first)
    sagas = [hasty if saga is DELETE_INSTANCE else saga for saga in SAGAS]
    monkeypatch.setattr("tests.support.world.SAGAS", sagas)
    assert "no-double-address" in found_out(_one_comes_and_goes)


def test_an_answer_before_the_disk_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hasty(_shelf: object, _revision: int | None = None) -> None:
        return None

    monkeypatch.setattr("nano.shelf.shelf.Shelf.durable", hasty)
    assert "acked-is-durable" in found_out(_one_comes_and_goes)


def test_a_disk_that_goes_back_in_time_is_found_out() -> None:
    async def story(world: World) -> None:
        scheduler = world.processes["scheduler"]
        earlier = deepcopy(scheduler.disk.volume)
        await world.create_instance()
        world.kill("scheduler")
        scheduler.disk.volume = earlier  # all that was synced since is gone
        await asyncio.sleep(10)

    assert "acked-is-durable" in found_out(story)


def test_a_book_that_forgets_over_a_restart_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the cell's once did: the names of ended tasks were lost with a snapshot."""

    async def story(world: World) -> None:
        for _ in range(10):
            vm = await world.create_instance(memory_bytes=128 * MIB)
            await world.done(vm.task)
            await world.settle(minutes=1)
        world.kill("cell-1")
        await asyncio.sleep(10)

    assert found_out(story) == set()
    restored = Host.restore.__func__  # type: ignore[attr-defined]

    def restore(kind: type[Host], snapshot: Mapping[str, Sequence[Any]]) -> Host:
        book: Host = restored(kind, snapshot)
        book.outcomes._forgotten.clear()
        return book

    monkeypatch.setattr(Host, "restore", classmethod(restore))
    assert "acked-is-durable" in found_out(story)


def test_a_task_that_ends_by_halves_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    async def shrugs(_disks: object, _instance: InstanceId) -> None:
        return None

    monkeypatch.setattr("services.cell.disks.Disks.remove", shrugs)
    assert {"whole-or-nothing", "no-orphan"} <= found_out(_one_is_refused_late)


def test_a_pin_that_nobody_lets_go_of_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.imagestore.catalog.Catalog.unpin", lambda _book, _task: [])
    assert "no-orphan" in found_out(_one_comes_and_goes)


def test_outcomes_that_nobody_forgets_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    async def forget(_callee: object, _tasks: object) -> None:
        return None

    monkeypatch.setattr("nano.saga.callee.Callee.forget", forget)
    assert "no-orphan" in found_out(_one_comes_and_goes)


def test_a_cell_that_is_promised_more_than_it_has_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(world: World) -> None:
        with suppress(NoRoom):
            for _ in range(3):
                await world.create_instance(memory_bytes=2 * GIB)

    assert found_out(story) == set()
    monkeypatch.setattr("services.scheduler.placement.refuse", lambda *_: None)
    assert "reservation-bounded" in found_out(story)


def test_an_epoch_that_falls_is_found_out() -> None:
    async def story(world: World) -> None:
        vm = await world.create_instance()
        await world.done(vm.task)
        scheduler = world.processes["scheduler"].shelf
        await scheduler.durable()
        world.moment()
        scheduler.commit(InstancePut(replace(world.inventory.instance(vm.id), epoch=0)))

    assert "epoch-grows" in found_out(story)


def test_a_watch_that_leaves_something_out_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    whole_truth = scheduler_rpc.told

    def told(book: Inventory, changes: tuple[Any, ...]) -> v1.SchedulerChange | None:
        """Nobody hears of leases."""
        is_binding = any(isinstance(each, InstancePut) and each.instance.binding for each in changes)
        return None if is_binding else whole_truth(book, changes)

    monkeypatch.setattr("services.scheduler.rpc.told", told)
    assert "events-ordered" in found_out(_one_comes_and_goes)


def test_a_watch_that_tells_twice_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    once = Shelf.follow

    async def twice(shelf: Shelf[Any], since: Cursor) -> AsyncIterator[tuple[int, tuple[Any, ...]]]:
        async for revision, changes in once(shelf, since):
            yield revision, changes
            yield revision, changes

    monkeypatch.setattr("nano.shelf.shelf.Shelf.follow", twice)
    assert "events-ordered" in found_out(_one_comes_and_goes)


@pytest.mark.parametrize(
    ("table", "route", "roles"),
    [
        (scheduler_rpc.ROLES, "/nano.v1.Scheduler/CancelTask", None),
        (scheduler_rpc.ROLES, "/nano.v1.Scheduler/DeletePool", frozenset()),
        (STEP_ROLES, "/nano.v1.Steps/Begin", frozenset({Role.SCHEDULER, Role.GATEWAY})),
    ],
    ids=["no row", "nobody in the row", "a row that lets the gateway take steps"],
)
def test_a_method_that_names_the_wrong_callers_is_found_out(
    monkeypatch: pytest.MonkeyPatch,
    table: dict[str, frozenset[Role]],
    route: str,
    roles: frozenset[Role] | None,
) -> None:
    async def story(world: World) -> None:
        await world.settle(minutes=1)

    assert found_out(story) == set()
    if roles is None:
        monkeypatch.delitem(table, route)
    else:
        monkeypatch.setitem(table, route, roles)
    assert "nobody-unnamed" in found_out(story)


def test_a_seed_tells_the_same_story_again() -> None:
    assert tell(a_life, 7, cells=2).story == tell(a_life, 7, cells=2).story
