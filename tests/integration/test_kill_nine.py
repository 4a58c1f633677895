"""kill -9 in the middle of create and delete, of real processes: the task ends whole or leaves no trace.

The scheduler dies after each line of its journal; each other service on entering and on leaving each remote
step, each job behind it and the word that the task has ended; two die at once and come back in both orders.
After each trial the disks of all services are read: books, volumes, the simulated host's machines.
"""

import tempfile
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path

import pytest
import pytest_asyncio

from nano import wire
from nano.contracts.nano import v1
from nano.fleet.network_namespace import own_network
from nano.model.ids import InstanceId, TaskId
from nano.model.task import TaskState
from tests.support.processes import PORTS, Asked, Blow, Zone, leftovers, whereabouts, zone

pytestmark = pytest.mark.asyncio(loop_scope="module")

EVERYWHERE = {"record", "status", "lease", "held", "domain", "volumes", "cell status"}
LAST_STEP = Blow("cell", "job build_instance entering")
"""Where a creation is held to be cancelled: all its steps have left something, and none has passed the pivot."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world() -> AsyncIterator[Zone]:
    with (
        own_network(),
        tempfile.TemporaryDirectory(prefix="nano-kill-") as folder,
    ):  # a socket's path is short
        async with zone(Path(folder)) as made:
            yield made


# ------------------------------------------------------------------ what is asked for


def creation(world: Zone) -> Asked:
    """Always of the same name: it must be free again after whatever went before."""
    spec = wire.outgoing(world.spec("web1"))

    async def ask(scheduler: v1.SchedulerStub, requester: v1.Requester) -> v1.TaskRef:
        return await scheduler.create_instance(v1.CreateInstanceRequest(spec=spec, requester=requester))

    return ask


def deletion(instance: InstanceId) -> Asked:
    async def ask(scheduler: v1.SchedulerStub, requester: v1.Requester) -> v1.TaskRef:
        return await scheduler.delete_instance(v1.InstanceRequest(instance=instance, requester=requester))

    return ask


def cancellation(world: Zone, task: TaskId) -> Asked:
    async def ask(scheduler: v1.SchedulerStub, _requester: v1.Requester) -> v1.TaskRef:
        if not world.scheduler().tasks.record(task).back:  # else it was heard, and only the answer was lost
            await scheduler.cancel_task(v1.CancelTaskRequest(task=task))
        return v1.TaskRef(task=task)

    return ask


# ------------------------------------------------------------------ trials


async def created(world: Zone, blow: Blow | None = None) -> tuple[InstanceId, bool]:
    """A creation that is hit by the blow is whole in the end, and everything but the instance is gone."""
    with world.trial(blow):
        await world.acquainted()
        task, struck = await world.ended(blow, creation(world))
        instance = InstanceId(task.subject)
        books = world.books()
        assert (task.state, task.error) == (TaskState.DONE, None)
        assert whereabouts(books, instance) == EVERYWHERE
        record = books.scheduler.instances[instance]
        assert (record.created, record.task, record.deleting) == (True, None, False)
        assert record.binding == books.cell.binding(instance)
        assert leftovers(books) == {}
        assert await world.seen() == ({instance}, {instance})
    return instance, struck


async def deleted(world: Zone, instance: InstanceId, blow: Blow | None = None) -> bool:
    """A deletion that is hit by the blow leaves nothing at all."""
    with world.trial(blow):
        task, struck = await world.ended(blow, deletion(instance))
        assert task.state is TaskState.DONE
        await assert_empty(world, instance)
    return struck


async def taken_back(world: Zone, blow: Blow) -> bool:
    """A creation that is cancelled at its last step, and hit on its way back, leaves nothing at all."""
    with world.trial(blow):
        await world.acquainted()
        task = await world.held(LAST_STEP, creation(world))
        ended, struck = await world.ended(blow, cancellation(world, task))
        assert ended.state is TaskState.CANCELLED
        await assert_empty(world, InstanceId(ended.subject))
    return struck


async def assert_empty(world: Zone, instance: InstanceId) -> None:
    books = world.books()
    assert whereabouts(books, instance) == set()
    assert leftovers(books) == {}
    assert (books.scheduler.instances, books.addresspool.leases, books.cell.instances) == ({}, {}, {})
    assert (books.machines, books.files) == ([], [])
    assert await world.seen() == (set(), set())


# ------------------------------------------------------------------ the scheduler, after each of its lines


async def test_a_creation_survives_the_scheduler_after_each_line(world: Zone) -> None:
    for number in count(1):
        instance, struck = await created(world, Blow("scheduler", "line", number))
        await deleted(world, instance)
        if not struck:
            break
    assert number > 13  # opened, four steps begun and done, ended, forgotten by three


async def test_a_deletion_survives_the_scheduler_after_each_line(world: Zone) -> None:
    for number in count(1):
        instance, _ = await created(world)
        if not await deleted(world, instance, Blow("scheduler", "line", number)):
            break
    assert number > 9  # opened, two steps begun and done, the record, ended, forgotten by two


async def test_a_way_back_survives_the_scheduler_after_each_line(world: Zone) -> None:
    for number in count(1):
        if not await taken_back(world, Blow("scheduler", "line", number)):
            break
    assert number > 10  # turned, five steps undone, ended, forgotten by three


# ------------------------------------------------------------------ the others, in each step


def points(service: str, *works: str) -> list[Blow]:
    """Before and behind each of the works, and for jobs also between the world and the book."""
    found = []
    for work in works:
        is_job = work.startswith(("job ", "back "))
        moments = ("entering", "worked", "leaving") if is_job else ("entering", "leaving")
        found += [Blow(service, f"{work} {moment}") for moment in moments]
    return found


CREATION = [
    *points("imagestore", "begin pin_image", "forget"),
    *points("addresspool", "begin lease_address", "forget"),
    *points("cell", "begin create_volumes", "job create_volumes", "begin build_instance"),
    *points("cell", "job build_instance", "forget"),
]
DELETION = [
    *points("cell", "begin delete_instance", "job delete_instance", "forget"),
    *points("addresspool", "begin release_address", "forget"),
]
WAY_BACK = [
    *points("cell", "undo build_instance", "back build_instance", "undo create_volumes"),
    *points("cell", "back create_volumes", "forget"),
    *points("addresspool", "undo lease_address", "forget"),
    *points("imagestore", "undo pin_image", "forget"),
]


@pytest.mark.parametrize("blow", CREATION, ids=str)
async def test_a_creation_survives_a_callee_at_each_point(world: Zone, blow: Blow) -> None:
    instance, struck = await created(world, blow)
    assert struck
    await deleted(world, instance)


@pytest.mark.parametrize("blow", DELETION, ids=str)
async def test_a_deletion_survives_a_callee_at_each_point(world: Zone, blow: Blow) -> None:
    instance, _ = await created(world)
    assert await deleted(world, instance, blow)


@pytest.mark.parametrize("blow", WAY_BACK, ids=str)
async def test_a_way_back_survives_a_callee_at_each_point(world: Zone, blow: Blow) -> None:
    assert await taken_back(world, blow)


# ------------------------------------------------------------------ two at once


def pairs(blows: list[Blow]) -> list[Blow]:
    """Each point in a remote step, with each other service beside it, in both orders of restarts."""
    return [
        Blow(blow.service, blow.at, also=other, order=order)
        for blow in blows
        if blow.at.startswith(("begin ", "undo "))
        for other in PORTS
        if other != blow.service
        for order in ((blow.service, other), (other, blow.service))
    ]


@pytest.mark.parametrize("blow", pairs(CREATION), ids=str)
async def test_a_creation_survives_two_in_any_order(world: Zone, blow: Blow) -> None:
    instance, struck = await created(world, blow)
    assert struck
    await deleted(world, instance)


@pytest.mark.parametrize("blow", pairs(DELETION), ids=str)
async def test_a_deletion_survives_two_in_any_order(world: Zone, blow: Blow) -> None:
    instance, _ = await created(world)
    assert await deleted(world, instance, blow)


@pytest.mark.parametrize("blow", pairs(WAY_BACK), ids=str)
async def test_a_way_back_survives_two_in_any_order(world: Zone, blow: Blow) -> None:
    assert await taken_back(world, blow)
