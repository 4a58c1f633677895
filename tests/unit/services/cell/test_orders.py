"""What the cell does with the scheduler's steps, on the real book, shelf and callee."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from nano.model.action import Nothing, Progress, Reported, StopInstance, StopMode
from nano.model.errors import StorageFull, Unsupported
from nano.model.ids import InstanceId, TaskId
from nano.model.instance import InstanceStatus, Power, Wanted
from services.cell.hypervisor import Machine
from services.cell.sim import SimSettings
from services.cell.statuses import HOST_RESTARTED
from tests.support.cell import (
    BINDING,
    CONTENT,
    IMAGE,
    INSTANCE,
    MAC,
    NOW_MS,
    OTHER_TASK,
    SPEC,
    CellRig,
    build,
    cell,
    content_of,
    create,
    delete,
    start,
)
from tests.support.hypervisor import MIB, binding_of, spec_of

SECOND = InstanceId("0f8fad5b-d9cb-469f-a165-70867728950e")
AUTO_STARTED = replace(SPEC, auto_start=True)


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[CellRig]:
    async with cell(tmp_path) as rig:
        yield rig


def stop(mode: StopMode = StopMode.FORCE, *, epoch: int = 1, patience_s: float = 0.05) -> StopInstance:
    return StopInstance(INSTANCE, epoch, mode, patience_s)


async def test_creating_makes_a_clone_and_blank_data_disks(rig: CellRig) -> None:
    done = await rig.step(create())
    assert (done.progress, done.result) == (Progress.DONE, Nothing())
    system, data = rig.disks.paths(INSTANCE, 2)
    assert CONTENT.blake3 in system.read_text()
    assert '"backing": null' in data.read_text()
    assert rig.disks.bases() == rig.book.bases() == {f"{CONTENT.blake3}.qcow2"}


async def test_an_instance_is_built_stopped_bound_and_reported(rig: CellRig) -> None:
    assert (await rig.step(create())).progress is Progress.DONE
    done = await rig.step(build())
    status = InstanceStatus(INSTANCE, 1, number=1)
    assert done.result == Reported(status)
    assert rig.status() == status
    held = rig.book.built(INSTANCE)
    assert (held.spec, held.mac, held.binding, held.wanted) == (SPEC, MAC, BINDING, Wanted.STOPPED)
    assert [(entry.mac, entry.binding, entry.hostname) for entry in rig.bindings.served] == [
        (MAC, BINDING, "web1")
    ]


async def test_a_started_instance_is_reported_running_and_later_with_its_address(rig: CellRig) -> None:
    await rig.made()
    done = await rig.step(start())
    assert isinstance(done.result, Reported)
    assert done.result.status.power is Power.RUNNING
    assert done.result.status.started_ms == NOW_MS
    status = await rig.until(lambda status: bool(status.addresses))
    assert status.agent
    assert status.addresses == (BINDING.address,)
    assert status.number > done.result.status.number
    assert rig.book.built(INSTANCE).wanted is Wanted.RUNNING


async def test_a_newer_binding_comes_with_the_start(rig: CellRig) -> None:
    await rig.made()
    newer = binding_of(INSTANCE, "10.77.0.33")
    await rig.step(start(binding=newer))
    assert rig.book.binding(INSTANCE) == newer
    assert [entry.binding for entry in rig.bindings.served] == [newer]


async def test_starting_mends_a_definition_that_somebody_removed(rig: CellRig) -> None:
    await rig.made()
    await rig.sim.undefine(INSTANCE)
    assert (await rig.step(start())).progress is Progress.DONE
    assert (await rig.sim.domain(INSTANCE)).power is Power.RUNNING


async def test_a_forced_stop_needs_no_reason(rig: CellRig) -> None:
    await rig.made()
    await rig.step(start())
    done = await rig.step(stop())
    assert isinstance(done.result, Reported)
    assert (done.result.status.power, done.result.status.reason) == (Power.STOPPED, "")
    assert done.result.status.started_ms == 0
    assert rig.book.built(INSTANCE).wanted is Wanted.STOPPED


async def test_a_guest_that_does_not_obey_fails_the_step_and_stays_wanted(tmp_path: Path) -> None:
    blank = spec_of(disks_bytes=(8 * MIB,))
    async with cell(tmp_path) as rig:
        await rig.made(blank)
        await rig.step(start())
        failed = await rig.step(stop(StopMode.GRACEFUL))
        assert failed.progress is Progress.FAILED
        assert failed.fault is not None
        assert (failed.fault.code, failed.fault.subject) == ("timed_out", INSTANCE)
        assert rig.book.built(INSTANCE).wanted is Wanted.RUNNING


async def test_a_reset_keeps_it_wanted_and_running(rig: CellRig) -> None:
    await rig.made()
    await rig.step(start())
    done = await rig.step(stop(StopMode.RESET))
    assert isinstance(done.result, Reported)
    assert done.result.status.power is Power.RUNNING
    assert rig.book.built(INSTANCE).wanted is Wanted.RUNNING


async def test_deleting_a_running_instance_leaves_nothing_but_the_cached_base(rig: CellRig) -> None:
    await rig.made()
    await rig.step(start())
    done = await rig.step(delete())
    assert (done.progress, done.result) == (Progress.DONE, Nothing())
    assert await rig.traces() == {}


async def test_deleting_what_is_not_there_is_success(rig: CellRig) -> None:
    assert (await rig.step(delete())).progress is Progress.DONE


async def test_undoing_in_reverse_leaves_no_trace(rig: CellRig) -> None:
    await rig.made()
    await rig.step(start())
    for name in ("build_instance", "create_volumes"):
        assert (await rig.back(name)).progress is Progress.UNDONE
    assert await rig.traces() == {}


async def test_undoing_the_machine_keeps_the_volumes_for_their_own_undo(rig: CellRig) -> None:
    await rig.made()
    await rig.back("build_instance")
    assert await rig.traces() == {"volumes": [INSTANCE], "instances": [INSTANCE]}


async def test_an_order_of_an_older_epoch_is_too_late(rig: CellRig) -> None:
    await rig.step(create(epoch=3))
    await rig.step(build(epoch=3))
    for order in (start(epoch=2), stop(epoch=2), delete(epoch=2)):
        refused = await rig.step(order)
        assert refused.fault is not None
        assert (refused.fault.code, refused.fault.subject) == ("conflict", INSTANCE)
    assert (await rig.sim.domain(INSTANCE)).power is Power.STOPPED


async def test_a_start_under_an_epoch_that_was_never_built_here_is_refused(rig: CellRig) -> None:
    await rig.made()
    refused = await rig.step(start(epoch=2))
    assert refused.fault is not None
    assert refused.fault.code == "conflict"
    assert (await rig.sim.domain(INSTANCE)).power is Power.STOPPED


async def test_a_second_creation_is_refused_and_its_undo_harms_nobody(rig: CellRig) -> None:
    await rig.made()
    before = await rig.traces()
    refused = await rig.step(create(), task=OTHER_TASK)
    assert refused.fault is not None
    assert refused.fault.code == "exists"
    assert (await rig.back("create_volumes", task=OTHER_TASK)).progress is Progress.UNDONE
    assert await rig.traces() == before


async def test_who_comes_second_to_an_instance_is_told_by_whom_it_is_held(rig: CellRig) -> None:
    await rig.made()
    with rig.book.claimed(INSTANCE, TaskId("auto-start")):
        refused = await rig.step(start())
    assert refused.fault is not None
    assert refused.fault.code == "busy"
    assert "auto-start" in refused.fault.message
    assert (await rig.step(start(), name="start_again")).progress is Progress.DONE


async def test_a_disk_smaller_than_its_image_is_refused_by_name(rig: CellRig) -> None:
    refused = await rig.step(create(replace(SPEC, disks_bytes=(2 * MIB,))))
    assert refused.fault is not None
    assert (refused.fault.code, refused.fault.field) == ("invalid", "disks")
    assert await rig.traces() == {}


async def test_an_image_that_is_not_what_it_claims_leaves_nothing_behind(rig: CellRig) -> None:
    refused = await rig.step(create(content=content_of(b"\1" * CONTENT.size_bytes)))
    assert refused.fault is not None
    assert (refused.fault.code, refused.fault.subject) == ("corrupt", IMAGE)
    assert await rig.traces() == {}
    assert rig.disks.bases() == set()


async def test_a_machine_that_cannot_be_defined_is_taken_back_whole(rig: CellRig) -> None:
    await rig.step(create())
    rig.sim.fail_next("define", INSTANCE, StorageFull("no room", subject=INSTANCE))
    failed = await rig.step(build())
    assert failed.fault is not None
    assert failed.fault.code == "storage_full"
    for name in ("build_instance", "create_volumes"):
        assert (await rig.back(name)).progress is Progress.UNDONE
    assert await rig.traces() == {}


async def test_after_a_reboot_of_the_host_what_may_start_by_itself_does(tmp_path: Path) -> None:
    async with cell(tmp_path) as rig:
        await rig.made(AUTO_STARTED)
        await rig.started_by_itself()
        rig.sim.reboot_host()
    async with cell(tmp_path, boot="boot-2") as rig:
        assert (rig.status().power, rig.status().reason) == (Power.STOPPED, HOST_RESTARTED)
        await rig.started_by_itself()


async def test_without_auto_start_a_reboot_leaves_it_off_and_says_why(tmp_path: Path) -> None:
    async with cell(tmp_path) as rig:
        await rig.made()
        await rig.step(start())
        rig.sim.reboot_host()
    async with cell(tmp_path, boot="boot-2") as rig:
        assert (rig.status().power, rig.status().reason) == (Power.STOPPED, HOST_RESTARTED)
        assert rig.book.due() == []
    async with cell(tmp_path, boot="boot-2") as rig:
        assert rig.status().reason == HOST_RESTARTED


async def test_a_restart_of_the_cell_alone_starts_nothing(tmp_path: Path) -> None:
    async with cell(tmp_path) as rig:
        await rig.made(AUTO_STARTED)
        await rig.started_by_itself()
        rig.sim.power_off_inside(INSTANCE)
    async with cell(tmp_path) as rig:
        assert (rig.status().power, rig.status().reason) == (
            Power.STOPPED,
            "the guest switched itself off",
        )
        assert rig.book.due() == []


async def test_an_instance_that_shall_start_by_itself_does_so_when_its_creation_is_done(rig: CellRig) -> None:
    await rig.step(create(AUTO_STARTED))
    done = await rig.step(build(AUTO_STARTED))
    assert isinstance(done.result, Reported)
    assert done.result.status.power is Power.STOPPED
    await rig.started_by_itself()
    held = rig.book.built(INSTANCE)
    assert (held.wanted, held.due) == (Wanted.RUNNING, False)


async def test_what_is_removed_while_another_starts_by_itself_stays_removed(tmp_path: Path) -> None:
    slow = SimSettings(latency_s=0.05)
    async with cell(tmp_path, settings=slow) as rig:
        for each in (INSTANCE, SECOND):
            for action in (create(AUTO_STARTED), build(AUTO_STARTED)):
                step = f"{type(action).__name__} {each}"
                await rig.step(msgspec.structs.replace(action, instance=each), name=step)
        await rig.until(lambda _: all(_running(rig, each) for each in (INSTANCE, SECOND)))
        rig.sim.reboot_host()
    async with cell(tmp_path, settings=slow, boot="boot-2") as rig:
        assert {held.id for held in rig.book.due()} == {INSTANCE, SECOND}
        removal = msgspec.structs.replace(delete(), instance=SECOND)
        assert (await rig.step(removal)).progress is Progress.DONE
        await rig.started_by_itself()
        await rig.step(start(), name="start_again")  # as long as a start of the other would take
        assert [domain.instance for domain in await rig.sim.domains()] == [INSTANCE]
        assert list(rig.book.instances) == [INSTANCE]


def _running(rig: CellRig, instance: InstanceId) -> bool:
    status = rig.book.statuses.of(instance)
    return status is not None and status.power is Power.RUNNING


async def test_one_that_cannot_be_started_by_itself_says_why(rig: CellRig) -> None:
    rig.sim.fail_next("start", INSTANCE, Unsupported("no such processor here", subject=INSTANCE))
    await rig.step(create(AUTO_STARTED))
    await rig.step(build(AUTO_STARTED))
    status = await rig.until(lambda status: bool(status.reason))
    assert status.power is Power.STOPPED
    assert "no such processor here" in status.reason
    assert rig.book.due() == []


async def test_a_running_instance_keeps_its_start_time_over_a_restart_of_the_cell(tmp_path: Path) -> None:
    async with cell(tmp_path) as rig:
        await rig.made()
        await rig.step(start())
        last = rig.status().number
    async with cell(tmp_path, now_ms=NOW_MS + 60_000) as rig:
        assert (rig.status().power, rig.status().started_ms) == (Power.RUNNING, NOW_MS)
        await rig.step(StopInstance(INSTANCE, 1, StopMode.FORCE))
        assert rig.status().number > last


async def test_a_stopped_domain_without_record_or_volumes_is_removed_at_the_start(tmp_path: Path) -> None:
    async with cell(tmp_path) as rig:
        await rig.sim.define(Machine(INSTANCE, 1, SPEC, MAC, ()))
    async with cell(tmp_path) as rig:
        assert await rig.sim.domains() == []


async def test_a_running_domain_without_record_is_left_alone(tmp_path: Path) -> None:
    async with cell(tmp_path) as rig:
        await rig.sim.define(Machine(INSTANCE, 1, SPEC, MAC, ()))
        await rig.sim.start(INSTANCE)
    async with cell(tmp_path) as rig:
        assert [domain.instance for domain in await rig.sim.domains()] == [INSTANCE]


async def test_a_domain_whose_volumes_are_here_is_left_alone(tmp_path: Path) -> None:
    async with cell(tmp_path) as rig:
        await rig.sim.define(Machine(INSTANCE, 1, SPEC, MAC, ()))
        (rig.disks.folder / INSTANCE).mkdir()
    async with cell(tmp_path) as rig:
        assert [domain.instance for domain in await rig.sim.domains()] == [INSTANCE]
