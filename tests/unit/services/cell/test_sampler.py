"""Samples: every one is sent, in datagrams that fit a path."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nano import wire
from nano.contracts.nano import v1
from nano.model.ids import CellId, InstanceId
from nano.model.pool import Usage
from services.cell.sampler import ROWS, Sampler, datagrams
from services.cell.sim import SimHypervisor
from tests.support.hypervisor import Rig, binding_of


@given(st.integers(0, 40))
def test_datagrams_carry_every_sample_and_fit_a_path(count: int) -> None:
    samples = [
        Usage(f"7c9e6679-7425-40de-944b-{number:012d}", 1_790_000_000_000, 99.5, *([2**50] * 8))
        for number in range(count)
    ]
    made = datagrams(samples)
    assert [each for data in made for each in wire.usages(wire.decode(v1.Usages, data))] == samples
    assert all(len(data) <= 1100 for data in made)
    assert len(made) == -(-count // ROWS)


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with SimHypervisor(binding_of).opened() as driver:
        yield Rig(driver, tmp_path, lambda _path, _size: None)


async def test_a_round_holds_host_and_running_instances(rig: Rig, tmp_path: Path) -> None:
    instance = await rig.running()
    sampler = Sampler(CellId("Cell_00163e000001"), rig.hypervisor, tmp_path, len, lambda: 7)
    await sampler.look()
    found = {sample.subject for sample in await sampler.look()}
    assert instance in found
    assert found <= {instance, InstanceId("Cell_00163e000001")}


async def test_without_the_hypervisor_there_are_the_hosts_own_figures(rig: Rig, tmp_path: Path) -> None:
    assert isinstance(rig.hypervisor, SimHypervisor)
    await rig.running()
    rig.hypervisor.vanish()
    sampler = Sampler(CellId("Cell_00163e000001"), rig.hypervisor, tmp_path, len, lambda: 7)
    await sampler.look()
    assert {sample.subject for sample in await sampler.look()} <= {"Cell_00163e000001"}
