"""A server that was removed comes back with what was given up on it: that is switched off, however late.

The worlds are those of `tests/support/world.py`. Nothing settles in them: what was given up leaves its disks,
and its host goes on serving an address that is others' by then, which is what the invariants name.
"""

import asyncio
from collections.abc import Callable

from nano.contracts.nano import v1
from nano.model.errors import Internal
from nano.model.ids import TaskId
from nano.model.instance import Power
from nano.model.peers import Role
from nano.model.pool import Presence
from nano.model.task import Task, TaskState
from services.scheduler.given_up import PAUSE_MS
from tests.support.world import ANSWER_S, PATIENCE_S, Vm, World, tell

CELL = "cell-1"
INHERENT = "no-double-address: cell-1 serves"


def told(story: Callable[[World], object]) -> None:
    """Live through it on one cell; nothing may be wrong but what is said above."""
    world = tell(story, cells=1)  # type: ignore[arg-type]
    assert [flaw for flaw in world.violations if not flaw.startswith(INHERENT)] == []


async def until(condition: Callable[[], bool], step_s: float = 0.001) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - virtual time
            await asyncio.sleep(step_s)


async def remove_cell(world: World) -> None:
    """As `nanoctl cell remove` does, once the cell is not heard any more."""
    cell = world.processes[CELL].peer
    await until(lambda: world.inventory.cells[cell.id].presence is not Presence.ONLINE)  # type: ignore[index]
    stub = v1.AdmissionsStub(world.client.channel(Role.SCHEDULER))  # type: ignore[arg-type]
    await stub.remove_peer(v1.MemberRef(role="cell", id=cell.id), timeout=ANSWER_S)


async def forget(world: World, vm: Vm) -> TaskId:
    stub = v1.SchedulerStub(world.client.channel(Role.SCHEDULER))  # type: ignore[arg-type]
    return TaskId((await stub.forget_instance(v1.InstanceRequest(instance=vm.id), timeout=ANSWER_S)).task)


def offs(world: World) -> list[Task]:
    """The tasks that switch off, the newest first."""
    return world.inventory.tasks.page(limit=1000, kind="switch_off_forgotten")


async def running(world: World) -> Vm:
    vm = await world.create_instance(auto_start=True)
    await world.done(vm.task)
    await until(lambda: world.running_copies(vm) == 1)
    return vm


async def is_switched_off(world: World, vm: Vm) -> None:
    await until(lambda: world.running_copies(vm) == 0)
    await until(lambda: not world.inventory.tasks.open)
    (off,) = offs(world)
    assert (off.state, off.subject, off.name, off.owner) == (
        TaskState.DONE,
        vm.id,
        vm.spec.full_name,
        vm.spec.owner,
    )


def test_a_guest_whose_creation_was_taken_back_without_its_cell() -> None:
    """The cell built and started it; that it did was lost, and the address is free."""

    async def story(world: World) -> None:
        await world.use_addresses()
        vm = await world.create_instance(auto_start=True)
        await until(lambda: vm.id in world.machines(CELL))
        world.cut("scheduler", CELL)
        await remove_cell(world)
        assert (await world.ended(vm.task)).state is TaskState.FAILED
        assert not world.ledger.leases
        assert vm.id not in world.inventory.instances
        await until(lambda: world.running_copies(vm) == 1)
        world.restart("scheduler")  # what was given up is no matter of memory
        await until(lambda: world.processes["scheduler"].is_up)
        world.mend("scheduler", CELL)
        await is_switched_off(world, vm)

    told(story)


def test_a_guest_whose_deletion_went_on_without_its_cell() -> None:
    async def story(world: World) -> None:
        vm = await world.create_instance()
        await world.done(vm.task)
        world.cut("scheduler", CELL)
        deletion = await world.delete(vm)
        await remove_cell(world)
        await world.done(deletion)
        assert vm.id not in world.inventory.instances
        await world.hosts[CELL].hypervisor.start(vm.id)  # whoever sits at that server may
        world.mend("scheduler", CELL)
        await is_switched_off(world, vm)

    told(story)


def test_a_server_that_is_back_before_its_guest_is_forgotten_to_the_end() -> None:
    """The address pool is away: the address is not free yet, nor the record gone, when the cell is back."""

    async def story(world: World) -> None:
        await world.use_addresses()
        vm = await running(world)
        world.cut("scheduler", CELL)
        await remove_cell(world)
        world.cut("scheduler", "addresspool")
        forgetting = await forget(world, vm)
        world.mend("scheduler", CELL)
        await until(lambda: world.running_copies(vm) == 0)
        assert (forgetting in world.inventory.tasks.open, len(world.ledger.leases)) == (True, 1)
        world.mend("scheduler", "addresspool")
        await world.done(forgetting)
        assert not world.inventory.instances
        assert not world.ledger.leases
        await is_switched_off(world, vm)

    told(story)


def test_a_switch_off_that_failed_is_tried_again_after_a_pause() -> None:
    async def story(world: World) -> None:
        vm = await running(world)
        world.cut("scheduler", CELL)
        await remove_cell(world)
        await world.done(await forget(world, vm))
        world.hosts[CELL].hypervisor.fail_next("stop", vm.id, Internal("it hangs"))
        world.mend("scheduler", CELL)
        await until(lambda: [one.state for one in offs(world)] == [TaskState.FAILED])
        failed_ms = world.now_ms()
        await until(lambda: world.running_copies(vm) == 0)
        assert world.now_ms() - failed_ms >= PAUSE_MS / 2
        await until(lambda: not world.inventory.tasks.open)
        assert [one.state for one in offs(world)] == [TaskState.DONE, TaskState.FAILED]

    told(story)


def test_a_guest_that_comes_on_again_and_again_fills_no_history() -> None:
    async def story(world: World) -> None:
        vm = await running(world)
        world.cut("scheduler", CELL)
        await remove_cell(world)
        await world.done(await forget(world, vm))
        world.mend("scheduler", CELL)
        await until(lambda: world.running_copies(vm) == 0)
        host = world.hosts[CELL].hypervisor
        for _ in range(300):
            if world.machines(CELL)[vm.id].power is Power.STOPPED:
                await host.start(vm.id)
            else:
                host.power_off_inside(vm.id)
            await asyncio.sleep(3)
        if world.running_copies(vm) == 0:
            await host.start(vm.id)
        assert len(offs(world)) <= 6  # in a quarter of an hour, with a pause that doubles
        await until(lambda: world.running_copies(vm) == 0, 1.0)
        await until(lambda: not world.inventory.tasks.open)
        assert all(one.state is TaskState.DONE for one in offs(world))
        assert vm.id in world.inventory.given_up.known  # as long as it lies there

    told(story)
