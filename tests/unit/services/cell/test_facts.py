"""What the cell reads of its host and of libvirt, and the names it makes of it."""

from collections.abc import AsyncIterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nano import wire
from nano.bindings.messages import Entry, entry_from, entry_json
from nano.contracts.nano import v1
from nano.model.errors import Invalid, Unsupported
from nano.model.ids import CellId, InstanceId
from nano.model.pool import Usage, VirtType
from services.cell.bindings import host_name
from services.cell.config import Config, Driver, cell_id
from services.cell.hypervisor import Counters
from services.cell.kvm import VirtChoice, virt_type
from services.cell.libvirt_driver import addresses, counters
from services.cell.sampler import ROWS, Sampler, datagrams
from services.cell.sim import SimHypervisor
from services.cell.usage import (
    HostCounters,
    Meter,
    disk_bytes,
    memory_bytes,
    network_bytes,
    processor_ticks,
    read_host,
)
from tests.support.cell import BINDING, INSTANCE
from tests.support.hypervisor import MIB, Rig, binding_of

# KVM


@pytest.mark.parametrize(
    ("choice", "flags", "opens", "found"),
    [
        (VirtChoice.AUTO, "fpu vmx", True, VirtType.KVM),
        (VirtChoice.AUTO, "fpu svm", True, VirtType.KVM),
        (VirtChoice.AUTO, "fpu", True, VirtType.QEMU),
        (VirtChoice.AUTO, "fpu vmx", False, VirtType.QEMU),
        (VirtChoice.AUTO, "fpu svm_lock", True, VirtType.QEMU),
        (VirtChoice.KVM, "fpu vmx", True, VirtType.KVM),
        (VirtChoice.QEMU, "fpu vmx", True, VirtType.QEMU),
    ],
)
def test_kvm_is_believed_only_with_flag_and_device(
    choice: VirtChoice, flags: str, opens: bool, found: VirtType
) -> None:
    assert virt_type(choice, cpuinfo=f"processor : 0\nflags\t\t: {flags}\n", device_opens=opens) is found


@pytest.mark.parametrize(
    ("flags", "opens", "lack"), [("fpu", True, "neither vmx nor svm"), ("vmx", False, "/dev/kvm")]
)
def test_demanding_kvm_where_it_is_not_says_what_lacks(flags: str, opens: bool, lack: str) -> None:
    with pytest.raises(Unsupported, match=lack) as caught:
        virt_type(VirtChoice.KVM, cpuinfo=f"flags : {flags}\n", device_opens=opens)
    assert caught.value.field == "virt_type"


# Names


def test_a_cell_is_named_by_its_bridge_or_as_configured() -> None:
    assert cell_id(Config(), "02:4E:0a:39:00:00", "h") == "Cell_024e0a390000"
    assert cell_id(Config(id="Cell_00163e000001"), "02:4e:0a:39:00:00", "h") == "Cell_00163e000001"


@pytest.mark.parametrize("wrong", ["cell-1", "Cell_00163E000001", "Cell_123"])
def test_a_name_of_another_form_is_refused(wrong: str) -> None:
    with pytest.raises(Invalid) as caught:
        cell_id(Config(id=wrong), None, "h")
    assert caught.value.field == "id"


@pytest.mark.parametrize("mac", [None, "00:00:00:00:00:00"])
def test_without_a_bridge_a_real_cell_has_no_name(mac: str | None) -> None:
    with pytest.raises(Invalid) as caught:
        cell_id(Config(), mac, "h")
    assert caught.value.field == "bridge"


def test_a_pretended_cell_without_a_bridge_keeps_its_name() -> None:
    pretended = Config(hypervisor=Driver.SIMULATED)
    name = cell_id(pretended, None, "laptop")
    assert name == cell_id(pretended, None, "laptop")
    assert name != cell_id(pretended, None, "other")
    assert name.startswith("Cell_02")


@given(st.text(alphabet="ABCxyz019_.-", min_size=0, max_size=80))
def test_every_instance_name_makes_a_host_name_that_the_responder_takes(name: str) -> None:
    entry = Entry("00:16:3e:00:00:01", BINDING, host_name(name))
    assert entry_from(entry_json(entry)) == entry


# libvirt's answers


def test_a_row_of_libvirts_statistics_is_summed_over_disks_and_cards() -> None:
    row = {
        "vcpu.current": 2,
        "cpu.time": 5_000,
        "balloon.current": 1024,
        "balloon.usable": 256,
        "balloon.unused": 128,
        "balloon.rss": 2048,
        "block.count": 2,
        "block.0.allocation": 10,
        "block.0.capacity": 100,
        "block.0.rd.bytes": 1,
        "block.0.wr.bytes": 2,
        "block.1.capacity": 100,
        "block.1.rd.bytes": 3,
        "block.1.wr.bytes": 4,
        "net.count": 1,
        "net.0.rx.bytes": 5,
        "net.0.tx.bytes": 6,
    }
    assert counters(INSTANCE, row) == Counters(
        INSTANCE,
        2,
        5_000,
        768 * 1024,
        MIB,
        10,
        200,
        read_bytes=4,
        written_bytes=6,
        received_bytes=5,
        sent_bytes=6,
    )


def test_without_a_balloon_driver_the_hosts_own_figure_counts() -> None:
    seen = counters(INSTANCE, {"balloon.current": 1024, "balloon.rss": 512})
    assert (seen.memory_used_bytes, seen.memory_total_bytes) == (512 * 1024, MIB)
    seen = counters(INSTANCE, {"balloon.current": 1024, "balloon.rss": 4096})
    assert seen.memory_used_bytes == seen.memory_total_bytes


def test_an_empty_row_is_no_error() -> None:
    assert counters(INSTANCE, {}).cores == 1


ANSWER = {
    "lo": {"addrs": [{"addr": "127.0.0.1", "prefix": 8, "type": 0}]},
    "eth0": {
        "addrs": [
            {"addr": "10.57.0.9", "prefix": 24, "type": 0},
            {"addr": "fe80::216:3eff:fe00:1", "prefix": 64, "type": 1},
        ],
        "hwaddr": "00:16:3e:00:00:01",
    },
    "eth1": {"addrs": None},
}


def test_the_guests_addresses_leave_out_loopback_and_version_six() -> None:
    assert addresses(ANSWER) == (IPv4Address("10.57.0.9"),)
    assert addresses(None) == ()


NONSENSE = st.recursive(
    st.none() | st.integers() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
)


@given(
    st.dictionaries(
        st.text(),
        st.none()
        | st.fixed_dictionaries({"addrs": st.none() | st.lists(st.fixed_dictionaries({"addr": NONSENSE}))}),
    )
)
def test_a_guest_may_say_what_it_likes(answer: dict[str, Any]) -> None:
    assert all(isinstance(each, IPv4Address) and not each.is_loopback for each in addresses(answer))


# The kernel's counters

STAT = "cpu  100 10 50 800 40 0 5 5 30 0\ncpu0 1 2 3\n"
MEMINFO = "MemTotal:       1000 kB\nMemFree:         100 kB\nMemAvailable:    400 kB\n"
DISKSTATS = """\
 254       0 vda 10 0 100 0 20 0 200 0 0 0 0
 254       1 vda1 10 0 100 0 20 0 200 0 0 0 0
   7       0 loop0 1 0 7 0 0 0 7 0 0 0 0
 259       0 nvme0n1 1 0 3 0 1 0 4 0 0 0 0
 259       1 nvme0n1p1 1 0 3 0 1 0 4 0 0 0 0
 253       0 dm-0 1 0 3 0 1 0 4 0 0 0 0
   8       0 sda 1 0 1 0 1 0 1 0 0 0 0
   8       1 sda1 1 0 1 0 1 0 1 0 0 0 0
"""
NET_DEV = """\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs
    lo: 900 1 0 0 0 0 0 0 900 1 0
  eth0: 100 1 0 0 0 0 0 0 200 1 0
enp3s0:1000 1 0 0 0 0 0 0 2000 1 0
 vnet0: 700 1 0 0 0 0 0 0 700 1 0
   br0: 700 1 0 0 0 0 0 0 700 1 0
"""


def test_the_kernels_tables_are_read() -> None:
    assert processor_ticks(STAT) == (170, 1010)
    assert memory_bytes(MEMINFO) == (600 * 1024, 1000 * 1024)
    assert disk_bytes(DISKSTATS) == (104 * 512, 205 * 512)
    assert network_bytes(NET_DEV) == (1100, 2200)


def test_this_host_can_be_read(tmp_path: Path) -> None:
    seen = read_host(tmp_path)
    assert 0 < seen.busy_ticks < seen.all_ticks
    assert 0 < seen.memory_used_bytes < seen.memory_total_bytes
    assert 0 < seen.disk_used_bytes <= seen.disk_total_bytes


# Samples


def host(busy: int, ticks: int) -> HostCounters:
    return HostCounters(busy, ticks, 1, 2, 3, 4, 5, 6, 7, 8)


def used(cpu_ns: int, *, cores: int = 2) -> Counters:
    return Counters(INSTANCE, cores, cpu_ns, 1, 2, 3, 4, 5, 6, 7, 8)


def test_the_first_look_makes_no_sample() -> None:
    meter = Meter()
    assert meter.host("c", host(10, 100), 1) == []
    assert meter.instances([used(1)], 1, now_s=0.0) == []


def test_a_share_is_measured_between_two_looks() -> None:
    meter = Meter()
    meter.host("c", host(10, 100), 1)
    assert meter.host("c", host(35, 200), 2) == [Usage("c", 2, 25.0, 1, 2, 3, 4, 5, 6, 7, 8)]
    meter.instances([used(1_000_000_000)], 1, now_s=10.0)
    assert meter.instances([used(2_000_000_000)], 3, now_s=12.0) == [
        Usage(INSTANCE, 3, 25.0, 1, 2, 3, 4, 5, 6, 7, 8)
    ]


def test_a_machine_that_started_anew_is_measured_from_there() -> None:
    meter = Meter()
    meter.instances([used(9_000_000_000)], 1, now_s=0.0)
    assert meter.instances([used(5)], 2, now_s=2.0) == []
    assert len(meter.instances([used(6)], 3, now_s=4.0)) == 1
    assert meter.instances([], 4, now_s=6.0) == []
    assert meter.instances([used(7)], 5, now_s=8.0) == []


@given(st.lists(st.integers(0, 2**62), min_size=2, max_size=5))
def test_a_share_is_never_beyond_the_scale(times: list[int]) -> None:
    meter = Meter()
    for number, cpu_ns in enumerate(times):
        for sample in meter.instances([used(cpu_ns)], number, now_s=float(number)):
            assert 0 <= sample.cpu_percent <= 100


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
