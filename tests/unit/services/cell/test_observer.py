"""What becomes of events, lost daemons, slow guests and watchers; and telling the responder."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from nano import wire
from nano.bindings.client import Responder
from nano.contracts.nano import v1
from nano.model.errors import Unreachable
from nano.model.instance import InstanceStatus, Power
from nano.model.peers import Role
from nano.model.pool import Capabilities
from services.cell import bindings as bindings_module
from services.cell.bindings import Bindings
from services.cell.rpc import ROLES, CellRpc
from tests.support.cell import BINDING, INSTANCE, MAC, CellRig, build, cell, create, delete, start
from tests.support.hypervisor import binding_of


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[CellRig]:
    async with cell(tmp_path) as rig:
        yield rig


@pytest.fixture
async def running(rig: CellRig) -> CellRig:
    await rig.made()
    await rig.step(start())
    await rig.until(lambda status: bool(status.addresses))
    return rig


def off(status: InstanceStatus) -> bool:
    return status.power is Power.STOPPED


async def test_a_crash_is_told_with_its_reason(running: CellRig) -> None:
    running.sim.crash(INSTANCE)
    status = await running.until(off)
    assert (status.reason, status.agent, status.addresses, status.started_ms) == (
        "the emulator ended without being asked",
        False,
        (),
        0,
    )


async def test_what_happened_while_the_daemon_was_away_is_told_when_it_is_back(running: CellRig) -> None:
    running.sim.vanish()
    running.sim.power_off_inside(INSTANCE)
    assert running.status().power is Power.RUNNING
    running.sim.come_back()
    status = await running.until(off)
    assert status.reason == "the guest switched itself off"


async def test_a_definition_that_somebody_removes_is_told(running: CellRig) -> None:
    running.sim.crash(INSTANCE)
    await running.until(off)
    await running.sim.undefine(INSTANCE)
    status = await running.until(lambda status: "definition" in status.reason)
    assert status.power is Power.STOPPED


@pytest.mark.looptime
async def test_a_guest_whose_address_comes_late_is_asked_again(rig: CellRig) -> None:
    await rig.made()
    for _ in range(3):
        rig.sim.fail_next("guest_addresses", INSTANCE, Unreachable("not yet", subject=INSTANCE))
    await rig.step(start())
    status = await rig.until(lambda status: bool(status.addresses), patience_s=100)
    assert status.addresses == (BINDING.address,)


async def test_a_guest_that_booted_anew_is_asked_for_its_address_again(running: CellRig) -> None:
    newer = binding_of(INSTANCE, "10.77.0.44")
    running.sim.crash(INSTANCE)
    await running.until(off)
    await running.step(start(binding=newer), name="start_again")
    status = await running.until(lambda status: bool(status.addresses))
    assert status.addresses == (newer.address,)


# Watching


async def next_report(
    reports: AsyncIterator[v1.CellReport], wanted: Callable[[v1.CellReport], bool]
) -> v1.CellReport:
    async with asyncio.timeout(10):
        async for report in reports:
            if wanted(report):
                return report
    raise AssertionError("the stream ended")


async def test_a_watcher_gets_the_account_then_each_status_then_what_is_forgotten(rig: CellRig) -> None:
    can = await rig.hypervisor.probe()
    await rig.made()
    reports = CellRpc(rig.shelf, can, rig.hypervisor).watch(v1.CellWatchRequest())
    first = await anext(reports)
    assert first.account is not None
    assert first.account.incarnation == rig.shelf.incarnation
    assert wire.incoming(first.account.capabilities, Capabilities) == can
    assert [wire.incoming(each, InstanceStatus) for each in first.account.statuses] == [rig.status()]
    await rig.step(start())
    seen = await next_report(reports, lambda report: report.status is not None)
    assert wire.incoming(seen.status, InstanceStatus).power is Power.RUNNING
    await rig.step(delete())
    gone = await next_report(reports, lambda report: bool(report.forgotten))
    assert gone.forgotten == INSTANCE


async def test_an_instance_that_is_undone_is_forgotten_by_its_watchers(rig: CellRig) -> None:
    reports = CellRpc(rig.shelf, await rig.hypervisor.probe(), rig.hypervisor).watch(v1.CellWatchRequest())
    await anext(reports)
    await rig.step(create())
    await rig.step(build())
    await rig.back("build_instance")
    gone = await next_report(reports, lambda report: bool(report.forgotten))
    assert gone.forgotten == INSTANCE


def test_only_the_scheduler_may_watch_and_only_the_gateway_may_look() -> None:
    assert {
        "/nano.v1.CellHost/Watch": frozenset({Role.SCHEDULER}),
        "/nano.v1.CellHost/OpenDisplay": frozenset({Role.GATEWAY}),
    } == ROLES


# The responder


async def test_binding_needs_a_responder_that_answers(tmp_path: Path) -> None:
    bindings = Bindings(Responder(str(tmp_path / "nobody.sock")), {})
    with pytest.raises(Unreachable):
        await bindings.bind(MAC, BINDING, "web1")
    with pytest.raises(Unreachable):
        await bindings.unbind(MAC)
    assert bindings.served == []


async def test_a_responder_that_comes_late_is_told_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bindings_module, "RETRY_S", 0.01)
    asked: list[bytes] = []

    async def answer(lines: asyncio.StreamReader, answers: asyncio.StreamWriter) -> None:
        asked.append(await lines.readline())
        answers.write(b'{"entries": []}\n')
        await answers.drain()
        answers.close()

    bindings = Bindings(Responder(str(tmp_path / "dhcp.sock")), {MAC: (BINDING, "web_1")})
    async with asyncio.timeout(10), asyncio.TaskGroup() as jobs:
        telling = jobs.create_task(bindings.tell_all())
        server = await asyncio.start_unix_server(answer, tmp_path / "dhcp.sock")
        await telling
        server.close()
        await server.wait_closed()
    assert len(asked) == 1
    assert b'"replace"' in asked[0]
    assert b'"web-1"' in asked[0]
    assert str(BINDING.address).encode() in asked[0]
