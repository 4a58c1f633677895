"""Instances come and go while everything around them dies, is cut off and comes back; the invariants hold throughout.

The worlds are those of `tests/support/world.py`: all that Nano is made of, over a network that loses, holds back and
doubles, on disks that lose power. After every message and every commit the invariants of the design (section 14)
are checked; once all is quiet nothing may be left that nobody knows.

    NANO_SEED=4711 pytest tests/simulation/test_lifecycle.py -k seeds     the world of that seed again
    NANO_SEEDS=2000 pytest tests/simulation/test_lifecycle.py -k seeds    a long hunt
"""

import asyncio
import os
import random
from contextlib import suppress

import pytest

from nano.model.action import StopMode
from nano.model.errors import Internal, NanoError
from nano.model.ids import ImageId, TaskId
from nano.model.task import TaskState
from tests.support.world import ADDRESSES, Vm, World, assert_right, in_a_world, tell

SEEDS = [int(os.environ["NANO_SEED"])] if "NANO_SEED" in os.environ else range(int(os.environ.get("NANO_SEEDS", "24")))

STRIDE = int(os.environ.get("NANO_STRIDE", "5"))
"""Of the sweep over all messages: 1 is every one of them."""

USERS = 5
DEEDS = 6
"""What each user does to one instance after another."""
TROUBLES = (3, 9)


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
            await asyncio.sleep(self.chance.expovariate(1 / 3))
            try:
                if vm is None or (vm.task in self.world.ended_badly()):
                    vm = await self.create()
                elif await self.do_something(vm):
                    vm = None
            except Internal as error:
                self.world.judge(iter([f"a defect: {error}"]))
            except NanoError as error:
                self.world.note(f"a user is refused: {error}")

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
                match chance.choice(["pool", "more", "fewer", "image", "no image", "cell"]) if number > 2 else number:
                    case 0:
                        await world.use_addresses(chance.choice([2, 4, 8]))
                    case 1 | 2:
                        self.images.append(await world.upload_image(f"base{number}"))
                    case "pool":
                        await world.put_pool(chance.choice([None, ADDRESSES, ADDRESSES]))
                    case "more":
                        await world.edit_range("10.1.0.100", "10.1.0.102", add=True)
                    case "fewer":
                        await world.edit_range(chance.choice(["10.1.0.10", "10.1.0.100"]), "", add=False)
                    case "image":
                        self.images.append(await world.upload_image(f"base{number}"))
                    case "no image" if self.images:
                        await world.delete_image(self.images.pop(0))
                    case "cell":
                        await world.enable_cell(chance.choice([*world.hosts]), enabled=chance.random() < 0.7)
            except Internal as error:
                world.judge(iter([f"a defect: {error}"]))
            except NanoError as error:
                world.note(f"the administrator is refused: {error}")
            await asyncio.sleep(chance.expovariate(1 / 3))

    async def trouble(self) -> None:
        world, chance = self.world, self.chance
        for _ in range(chance.randint(*TROUBLES)):
            message = world.network.messages + chance.randrange(1, 120)
            name = chance.choice([*world.processes])
            match chance.choice(["kill", "kill", "power cut", "cut", "host"]):
                case "kill":
                    world.at_message[message] = lambda name=name: world.kill(name)  # type: ignore[misc]
                case "power cut":
                    world.at_message[message] = lambda name=name: world.kill(name, power_cut=True)  # type: ignore[misc]
                case "cut":
                    other = chance.choice([each for each in world.processes if each != name])
                    world.cut(name, other)
                    await asyncio.sleep(chance.expovariate(1 / 6))
                    world.mend(name, other)
                case "host":
                    cell = chance.choice([*world.hosts])
                    world.at_message[message] = lambda cell=cell: world.lose_power(cell)  # type: ignore[misc]
            await asyncio.sleep(chance.expovariate(1 / 4))


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
