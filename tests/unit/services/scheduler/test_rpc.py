"""What callers of the scheduler get: tasks that are durable, refusals that say why."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from nano import wire
from nano.contracts.nano import v1
from nano.model.errors import Busy, Conflict, Exists, Invalid, NoRoom, NotFound
from nano.model.ids import PoolName, TaskId
from nano.model.instance import InstanceStatus, Power, Wanted
from nano.model.pool import Pool
from nano.saga.engine import Engine
from nano.shelf import Shelf
from services.scheduler.inventory import (
    CellPut,
    InstanceGone,
    InstancePut,
    Inventory,
    PoolPut,
    StatusPut,
    TemplatePut,
)
from services.scheduler.rpc import ROLES, SchedulerRpc, told, whole
from services.scheduler.samples import Samples
from services.scheduler.tasks import SAGAS
from services.scheduler.templates import defaults
from tests.support.absent import Nobody
from tests.support.nouns import BINDING, CELL, INSTANCE, SPEC

TEMPLATE = defaults(0)[0]
KNOWN = replace(SPEC, template=TEMPLATE.id)


@pytest.fixture
async def shelf(tmp_path: Path) -> AsyncIterator[Shelf[Inventory]]:
    async with Shelf.open(tmp_path, Inventory) as opened:
        opened.commit(PoolPut(Pool(PoolName("default"))), TemplatePut(TEMPLATE), CellPut(CELL))
        yield opened


@pytest.fixture
def rpc(shelf: Shelf[Inventory]) -> SchedulerRpc:
    engine = Engine(shelf, SAGAS, Nobody(), now_ms=lambda: 1000)
    return SchedulerRpc(shelf, engine, Samples(shelf.book.usage), lambda: 1000)


def creation(key: str = "", digest: str = "", **changes: object) -> v1.CreateInstanceRequest:
    spec = replace(KNOWN, **changes)  # type: ignore[arg-type]
    return v1.CreateInstanceRequest(
        spec=wire.outgoing(spec),
        requester=v1.Requester(credential="me", idempotency_key=key, body_digest=digest),
    )


def asked() -> v1.InstanceRequest:
    return v1.InstanceRequest(instance=INSTANCE.id)


def report(shelf: Shelf[Inventory], power: Power) -> None:
    number = len(shelf.book.tasks) + shelf.revision
    shelf.commit(StatusPut(InstanceStatus(INSTANCE.id, 1, number, power)))


def test_every_method_says_who_may_call_it() -> None:
    methods = {f"/nano.v1.Scheduler/{_camel(name)}" for name in vars(v1.SchedulerBase) if name.islower()}
    methods = {name for name in methods if not name.endswith("/") and "_Mapping" not in name}
    assert methods == set(ROLES)
    assert all(ROLES.values())


def _camel(name: str) -> str:
    return "" if name.startswith("_") else "".join(part.capitalize() for part in name.split("_"))


async def test_a_creation_reserves_room_and_is_durable_when_it_is_answered(
    shelf: Shelf[Inventory], rpc: SchedulerRpc
) -> None:
    answer = await rpc.create_instance(creation())
    assert shelf.durable_revision >= answer.revision
    (made,) = shelf.book.instances.values()
    assert (made.id, made.cell, made.created, made.task) == (answer.subject, CELL.id, False, answer.task)
    assert made.spec.devices == TEMPLATE.devices
    assert made.mac.startswith("00:16:3e:")
    assert shelf.book.load(CELL.id).instances == 1


@pytest.mark.parametrize(
    ("changes", "error", "field"),
    [
        ({"cores": 3}, Invalid, "cores"),
        ({"pool": "nowhere"}, NotFound, "pool"),
        ({"template": "none"}, NotFound, "template"),
        ({"memory_bytes": 2**60}, NoRoom, "pool"),
    ],
)
async def test_a_creation_that_cannot_be_is_refused_at_once_and_leaves_nothing(
    shelf: Shelf[Inventory], rpc: SchedulerRpc, changes: dict[str, object], error: type[Exception], field: str
) -> None:
    with pytest.raises(error) as refused:
        await rpc.create_instance(creation(**changes))  # type: ignore[arg-type]
    assert getattr(refused.value, "field") == field  # noqa: B009 - all of them have one
    assert not shelf.book.instances
    assert not shelf.book.tasks.open


async def test_a_name_is_taken_from_the_request_on(rpc: SchedulerRpc) -> None:
    await rpc.create_instance(creation())
    with pytest.raises((Exists, Busy)):
        await rpc.create_instance(creation())


async def test_the_same_key_names_the_same_task_and_another_body_is_refused(rpc: SchedulerRpc) -> None:
    first = await rpc.create_instance(creation("key", "digest"))
    again = await rpc.create_instance(creation("key", "digest"))
    assert (again.task, again.subject) == (first.task, first.subject)
    with pytest.raises(Invalid, match="another request"):
        await rpc.create_instance(creation("key", "other"))


async def test_a_start_is_recorded_as_wanted_and_nothing_else_gets_hold_of_the_instance(
    shelf: Shelf[Inventory], rpc: SchedulerRpc
) -> None:
    shelf.commit(InstancePut(replace(INSTANCE, binding=BINDING)))
    answer = await rpc.start_instance(asked())
    assert shelf.book.instances[INSTANCE.id].wanted is Wanted.RUNNING
    for call in (rpc.start_instance(asked()), rpc.delete_instance(asked())):
        with pytest.raises(Busy, match=answer.task):
            await call


async def test_a_cancel_takes_the_wish_back(shelf: Shelf[Inventory], rpc: SchedulerRpc) -> None:
    shelf.commit(InstancePut(INSTANCE))
    answer = await rpc.start_instance(asked())
    await rpc.cancel_task(v1.CancelTaskRequest(task=answer.task))
    assert shelf.book.tasks.record(TaskId(answer.task)).back
    with pytest.raises(NotFound):
        await rpc.cancel_task(v1.CancelTaskRequest(task="nobody's"))


@pytest.mark.parametrize("mode", ["graceful", "force", "reboot", "reset"])
async def test_what_is_off_cannot_be_stopped_or_restarted(
    shelf: Shelf[Inventory], rpc: SchedulerRpc, mode: str
) -> None:
    shelf.commit(InstancePut(INSTANCE))
    with pytest.raises(Conflict, match="start it first"):
        await rpc.stop_instance(v1.StopInstanceRequest(instance=INSTANCE.id, mode=mode))


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        ("graceful", "stop_instance"),
        ("force", "stop_instance"),
        ("reboot", "reboot_instance"),
        ("reset", "reboot_instance"),
    ],
)
async def test_a_task_is_called_what_people_call_it_and_knows_whose_instance_it_is_about(
    shelf: Shelf[Inventory], rpc: SchedulerRpc, mode: str, kind: str
) -> None:
    spec = replace(SPEC, owner="ann", group="red")
    shelf.commit(InstancePut(replace(INSTANCE, spec=spec)))
    report(shelf, Power.RUNNING)
    answer = await rpc.stop_instance(v1.StopInstanceRequest(instance=INSTANCE.id, mode=mode))
    shelf.commit(InstanceGone(INSTANCE.id))
    restored = Inventory.restore(shelf.book.snapshot())
    for book in (shelf.book, restored):
        task = book.tasks.view(TaskId(answer.task))
        assert (task.kind, task.name, task.owner, task.group) == (kind, "red.vm", "ann", "red")
    (shown,) = whole(restored).tasks
    assert (shown.name, shown.owner, shown.group) == ("red.vm", "ann", "red")


async def test_whoever_presses_reset_does_not_wait_for_a_guest_that_was_asked_to_restart(
    shelf: Shelf[Inventory], rpc: SchedulerRpc
) -> None:
    shelf.commit(InstancePut(INSTANCE))
    report(shelf, Power.RUNNING)
    asked = await rpc.stop_instance(v1.StopInstanceRequest(instance=INSTANCE.id, mode="reboot"))
    with pytest.raises(Busy, match=asked.task):
        await rpc.stop_instance(v1.StopInstanceRequest(instance=INSTANCE.id, mode="reset"))
    assert shelf.book.tasks.record(TaskId(asked.task)).back  # it was told to give up


async def test_a_mode_that_is_none_is_named(rpc: SchedulerRpc) -> None:
    with pytest.raises(Invalid, match="give one of graceful") as refused:
        await rpc.stop_instance(v1.StopInstanceRequest(instance=INSTANCE.id, mode="gently"))
    assert refused.value.field == "mode"


async def test_what_runs_cannot_be_deleted_and_a_deletion_only_goes_forward(
    shelf: Shelf[Inventory], rpc: SchedulerRpc
) -> None:
    shelf.commit(InstancePut(INSTANCE))
    report(shelf, Power.RUNNING)
    with pytest.raises(Conflict, match="stop it first"):
        await rpc.delete_instance(asked())
    report(shelf, Power.STOPPED)
    answer = await rpc.delete_instance(asked())
    assert shelf.book.instances[INSTANCE.id].deleting
    with pytest.raises(Conflict):
        await rpc.cancel_task(v1.CancelTaskRequest(task=answer.task))


async def test_a_watch_shows_the_book_and_then_what_happens(
    shelf: Shelf[Inventory], rpc: SchedulerRpc
) -> None:
    messages = rpc.watch(v1.WatchRequest())
    first = await anext(messages)
    assert first.whole
    assert [cell.id for cell in first.cells] == [CELL.id]
    answer = await rpc.create_instance(creation())
    change = await anext(messages)
    assert [one.id for one in change.instances] == [answer.subject]
    assert [one.id for one in change.tasks] == [answer.task]


def test_changes_that_nobody_sees_are_no_message() -> None:
    assert told(Inventory(), ()) is None
