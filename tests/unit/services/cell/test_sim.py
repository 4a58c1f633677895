"""The simulated hypervisor keeps the contract, and does what only a simulation can be made to do."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nano.model.action import StopMode
from nano.model.errors import Conflict, StorageFull, Unreachable
from nano.model.instance import Power
from services.cell.hypervisor import Changed, Domain, Resync
from services.cell.sim import SimHypervisor, SimSettings
from tests.support.hypervisor import (
    CLONE,
    HypervisorContract,
    Rig,
    binding_of,
    power_of,
    spec_of,
    until,
)

pytestmark = pytest.mark.looptime


def _no_disk(path: Path, size_bytes: int) -> None:
    """The simulated machine never opens its volumes."""


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with SimHypervisor(binding_of, SimSettings(latency_s=0.01)).opened() as driver:
        rig = Rig(driver, tmp_path, _no_disk)
        yield rig
        await rig.clear()


class TestSimulated(HypervisorContract):
    """The whole contract, in virtual time."""


async def test_a_clone_boots_connects_its_agent_and_says_the_address_it_was_bound_to(rig: Rig) -> None:
    instance = await rig.defined(spec_of(image=CLONE))
    events = rig.hypervisor.events()
    await rig.hypervisor.start(instance)
    await until(events, lambda event: isinstance(event, Changed) and event.domain.agent)
    assert asyncio.get_running_loop().time() == pytest.approx(3.0, abs=0.1)
    assert await rig.hypervisor.guest_addresses(instance) == (binding_of(instance).address,)


async def test_a_clone_that_has_booted_obeys_the_button(rig: Rig) -> None:
    instance = await rig.defined(spec_of(image=CLONE))
    events = rig.hypervisor.events()
    await rig.hypervisor.start(instance)
    await until(events, lambda event: isinstance(event, Changed) and event.domain.agent)
    await rig.hypervisor.stop(instance, StopMode.GRACEFUL, 60)
    assert await rig.hypervisor.domain(instance) == Domain(instance, 1, Power.STOPPED)


async def test_a_reboot_loses_the_agent_until_the_guest_is_up_again(rig: Rig) -> None:
    instance = await rig.defined(spec_of(image=CLONE))
    events = rig.hypervisor.events()
    await rig.hypervisor.start(instance)
    agent_there = [False, True]
    for connected in agent_there:
        if connected:
            await rig.hypervisor.stop(instance, StopMode.REBOOT, 1)
            assert not (await rig.hypervisor.domain(instance)).agent
        await until(events, lambda event: isinstance(event, Changed) and event.domain.agent)


async def test_a_failure_that_was_asked_for_happens_once_and_changes_nothing(rig: Rig) -> None:
    assert isinstance(rig.hypervisor, SimHypervisor)
    instance = await rig.defined()
    rig.hypervisor.fail_next("start", instance, StorageFull("no room", subject=instance))
    with pytest.raises(StorageFull):
        await rig.hypervisor.start(instance)
    assert (await rig.hypervisor.domain(instance)).power is Power.STOPPED
    await rig.hypervisor.start(instance)


async def test_while_the_daemon_is_away_calls_fail_and_its_return_asks_for_a_full_read(rig: Rig) -> None:
    assert isinstance(rig.hypervisor, SimHypervisor)
    instance = await rig.running()
    events = rig.hypervisor.events()
    rig.hypervisor.vanish()
    with pytest.raises(Unreachable):
        await rig.hypervisor.domains()
    rig.hypervisor.crash(instance)
    rig.hypervisor.come_back()
    assert await anext(events) == Resync()
    assert await rig.hypervisor.domain(instance) == Domain(
        instance, 1, Power.STOPPED, reason="the emulator ended without being asked"
    )


async def test_who_switches_off_inside_is_told_apart(rig: Rig) -> None:
    assert isinstance(rig.hypervisor, SimHypervisor)
    instance = await rig.running()
    events = rig.hypervisor.events()
    rig.hypervisor.power_off_inside(instance)
    event = await until(events, power_of(instance, Power.STOPPED))
    assert isinstance(event, Changed)
    assert event.domain.reason == "the guest switched itself off"


async def test_machines_in_a_state_file_outlive_the_process(tmp_path: Path) -> None:
    kept = tmp_path / "machines.json"
    async with SimHypervisor(binding_of, state_file=kept).opened() as first:
        rig = Rig(first, tmp_path, _no_disk)
        running, off = await rig.running(), await rig.defined(epoch=4)
    async with SimHypervisor(binding_of, state_file=kept).opened() as second:
        assert {each.instance: each for each in await second.domains()} == {
            running: Domain(running, 1, Power.RUNNING),
            off: Domain(off, 4, Power.STOPPED),
        }
        with pytest.raises(Conflict):
            await second.undefine(running)


async def test_a_consumer_that_is_too_slow_is_told_to_read_everything_again(tmp_path: Path) -> None:
    async with SimHypervisor(binding_of).opened() as driver:
        rig = Rig(driver, tmp_path, _no_disk)
        slow, instance = driver.events(), await rig.defined()
        for _ in range(600):
            await driver.start(instance)
            await driver.stop(instance, StopMode.FORCE, 0)
        assert await anext(slow) == Resync()
        await rig.clear()
