"""What the kernel and the hypervisor count, and what is measured between two looks."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from nano.model.pool import Usage
from services.cell.hypervisor import Counters
from services.cell.usage import (
    HostCounters,
    Meter,
    disk_bytes,
    memory_bytes,
    network_bytes,
    processor_ticks,
    read_host,
)
from tests.support.cell import INSTANCE

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
