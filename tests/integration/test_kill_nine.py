"""kill -9 in the middle of create and delete, of real processes: the task ends whole or leaves no trace.

The scheduler dies after each line of its journal; each other service on entering and on leaving each remote
step, in each job behind it, and around the word that the task has ended; two die at once and come back in
both orders. After each trial the disks of all services are read: books, volumes, the pretended host's
machines.
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
from tests.support.killing import Asked, Blow, Zone
from tests.support.processes import PORTS
from tests.support.remains import EVERYWHERE, Remains

pytestmark = pytest.mark.asyncio(loop_scope="module")

LAST_STEP = Blow("cell", "job build_instance entering")
"""Where creations are held to be cancelled: all their steps have left something, none is past the pivot."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def zone() -> AsyncIterator[Zone]:
    with (
        own_network(),
        tempfile.TemporaryDirectory(prefix="nano-kill-") as folder,
    ):  # a socket's path is short
        async with Zone.opened(Path(folder)) as opened:
            yield opened


# ------------------------------------------------------------------ what is asked for


def creation(zone: Zone) -> Asked:
    spec = wire.outgoing(zone.spec())

    async def ask(scheduler: v1.SchedulerStub, requester: v1.Requester) -> v1.TaskRef:
        return await scheduler.create_instance(v1.CreateInstanceRequest(spec=spec, requester=requester))

    return ask


def deletion(instance: InstanceId) -> Asked:
    async def ask(scheduler: v1.SchedulerStub, requester: v1.Requester) -> v1.TaskRef:
        return await scheduler.delete_instance(v1.InstanceRequest(instance=instance, requester=requester))

    return ask


def cancellation(zone: Zone, task: TaskId) -> Asked:
    async def ask(scheduler: v1.SchedulerStub, _requester: v1.Requester) -> v1.TaskRef:
        record = Remains.read(zone.folder).scheduler.tasks.record(task)
        if not record.back:  # else it was heard, and only the answer was lost
            await scheduler.cancel_task(v1.CancelTaskRequest(task=task))
        return v1.TaskRef(task=task)

    return ask


# ------------------------------------------------------------------ trials


async def created(zone: Zone, blow: Blow | None = None) -> tuple[InstanceId, bool]:
    """A creation that meets the blow is whole in the end, and of the task itself nothing is left."""
    with zone.trial(blow):
        await zone.acquainted()
        task, struck = await zone.ended(blow, creation(zone))
        instance, remains = InstanceId(task.subject), Remains.read(zone.folder)
        assert (task.state, task.error) == (TaskState.DONE, None)
        assert remains.where(instance) == EVERYWHERE
        record = remains.scheduler.instances[instance]
        assert (record.created, record.task, record.deleting) == (True, None, False)
        assert record.binding == remains.cell.binding(instance)
        assert set(remains.scheduler.instances) == {instance}, "another one came of being asked again"
        assert remains.of_tasks() == {}
        assert await zone.seen() == ({instance}, {instance})
    return instance, struck


async def deleted(zone: Zone, instance: InstanceId, blow: Blow | None = None) -> bool:
    """A deletion that meets the blow leaves nothing at all; whether it was struck."""
    with zone.trial(blow):
        task, struck = await zone.ended(blow, deletion(instance))
        assert task.state is TaskState.DONE
        await assert_empty(zone)
    return struck


async def taken_back(zone: Zone, blow: Blow | None = None, held: Blow = LAST_STEP) -> bool:
    """A creation that is cancelled, and meets the blow on its way back, leaves nothing at all."""
    with zone.trial(blow):
        await zone.acquainted()
        task = await zone.held(held, creation(zone))
        ended, struck = await zone.ended(blow, cancellation(zone, task))
        assert ended.state is TaskState.CANCELLED
        await assert_empty(zone)
    return struck


async def assert_empty(zone: Zone) -> None:
    remains = Remains.read(zone.folder)
    assert remains.of_instances() == {}
    assert remains.of_tasks() == {}
    assert await zone.seen() == (set(), set())


# ------------------------------------------------------------------ the scheduler, after each of its lines


async def test_a_creation_survives_the_scheduler_after_each_line(zone: Zone) -> None:
    for number in count(1):
        instance, struck = await created(zone, Blow("scheduler", "line", number))
        await deleted(zone, instance)
        if not struck:
            break
    assert number > 13  # opened, four steps begun and done, ended, forgotten by three


async def test_a_deletion_survives_the_scheduler_after_each_line(zone: Zone) -> None:
    for number in count(1):
        instance, _ = await created(zone)
        if not await deleted(zone, instance, Blow("scheduler", "line", number)):
            break
    assert number > 9  # opened, two steps begun and done, the record, ended, forgotten by two


async def test_a_way_back_survives_the_scheduler_after_each_line(zone: Zone) -> None:
    for number in count(1):
        if not await taken_back(zone, Blow("scheduler", "line", number)):
            break
    assert number > 10  # turned, five steps undone, ended, forgotten by three


# ------------------------------------------------------------------ the others, in each step


def points(service: str, *works: str) -> list[Blow]:
    """Before and behind each of the works, and in jobs also between the world and the book."""
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
async def test_a_creation_survives_a_callee_at_each_point(zone: Zone, blow: Blow) -> None:
    instance, struck = await created(zone, blow)
    assert struck
    await deleted(zone, instance)


@pytest.mark.parametrize("blow", DELETION, ids=str)
async def test_a_deletion_survives_a_callee_at_each_point(zone: Zone, blow: Blow) -> None:
    instance, _ = await created(zone)
    assert await deleted(zone, instance, blow)


@pytest.mark.parametrize("blow", WAY_BACK, ids=str)
async def test_a_way_back_survives_a_callee_at_each_point(zone: Zone, blow: Blow) -> None:
    assert await taken_back(zone, blow)


STEPS = [point for point in CREATION if point.at.endswith(" entering") and point.at != "forget entering"]


@pytest.mark.parametrize("held", STEPS, ids=str)
async def test_a_creation_can_be_taken_back_from_each_step(zone: Zone, held: Blow) -> None:
    """The undo overtakes a step that its callee has not taken in yet, or meets its job under way."""
    await taken_back(zone, held=held)


async def test_no_job_touches_the_world_before_its_step_is_on_the_disk(zone: Zone) -> None:
    """Else a kill between the two, and a cancel, would leave what nobody knows of."""
    instance, _ = await created(zone)
    reached = [*zone.trace]
    await deleted(zone, instance)
    reached += zone.trace
    jobs = [told.at.split()[1] for told in reached if told.at.startswith("job ") and "entering" in told.at]
    assert jobs == ["create_volumes", "build_instance", "delete_instance"]
    for step in jobs:
        begun = f'"step":"{step}","progress":"begun"'
        at = [told.at for told in reached].index(f"job {step} entering")
        assert any(told.service == "cell" and begun in told.text for told in reached[:at]), step


# ------------------------------------------------------------------ two at once


def pairs(blows: list[Blow]) -> list[Blow]:
    """Each end of each remote step, with each other service beside it, in both orders of restarts."""
    return [
        Blow(blow.service, blow.at, also=other, order=order)
        for blow in blows
        if blow.at.startswith(("begin ", "undo "))
        for other in PORTS
        if other != blow.service
        for order in ((blow.service, other), (other, blow.service))
    ]


@pytest.mark.parametrize("blow", pairs(CREATION), ids=str)
async def test_a_creation_survives_two_in_any_order(zone: Zone, blow: Blow) -> None:
    instance, struck = await created(zone, blow)
    assert struck
    await deleted(zone, instance)


@pytest.mark.parametrize("blow", pairs(DELETION), ids=str)
async def test_a_deletion_survives_two_in_any_order(zone: Zone, blow: Blow) -> None:
    instance, _ = await created(zone)
    assert await deleted(zone, instance, blow)


@pytest.mark.parametrize("blow", pairs(WAY_BACK), ids=str)
async def test_a_way_back_survives_two_in_any_order(zone: Zone, blow: Blow) -> None:
    assert await taken_back(zone, blow)
