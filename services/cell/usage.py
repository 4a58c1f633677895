"""From counters to samples: what host and instances used between two looks. Pure, but for `read_host`.

A share of processors needs two looks; what has been looked at once has no sample yet, and none is made up.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from nano.model.ids import InstanceId
from nano.model.pool import Usage
from services.cell.hypervisor import Counters

_SECTOR_BYTES = 512
"""Of /proc/diskstats, whatever the disk's own sectors are (Documentation/admin-guide/iostats.rst)."""
_NS_S = 1_000_000_000


@dataclass(frozen=True, slots=True)
class HostCounters:
    """What the whole host has used since it started; sizes in bytes, times in ticks of the kernel."""

    busy_ticks: int
    all_ticks: int
    memory_used_bytes: int
    memory_total_bytes: int
    disk_used_bytes: int
    disk_total_bytes: int
    read_bytes: int
    written_bytes: int
    received_bytes: int
    sent_bytes: int


class Meter:
    """Remembers the last look at each subject."""

    def __init__(self) -> None:
        self._host: HostCounters | None = None
        self._instances: dict[InstanceId, tuple[Counters, float]] = {}

    def host(self, subject: str, seen: HostCounters, at_ms: int) -> list[Usage]:
        """The host's sample since the last look; empty at the first."""
        before, self._host = self._host, seen
        if before is None or seen.all_ticks <= before.all_ticks:
            return []
        busy = (seen.busy_ticks - before.busy_ticks) / (seen.all_ticks - before.all_ticks)
        return [
            Usage(
                subject,
                at_ms,
                cpu_percent=_percent(busy),
                memory_used_bytes=seen.memory_used_bytes,
                memory_total_bytes=seen.memory_total_bytes,
                disk_used_bytes=seen.disk_used_bytes,
                disk_total_bytes=seen.disk_total_bytes,
                read_bytes=seen.read_bytes,
                written_bytes=seen.written_bytes,
                received_bytes=seen.received_bytes,
                sent_bytes=seen.sent_bytes,
            )
        ]

    def instances(self, rows: Iterable[Counters], at_ms: int, now_s: float) -> list[Usage]:
        """Samples of those that were running at the last look too, and have not started anew since."""
        before, self._instances = self._instances, {row.instance: (row, now_s) for row in rows}
        samples = []
        for row, _ in self._instances.values():
            last, then_s = before.get(row.instance, (row, now_s))
            if then_s < now_s and row.cpu_ns >= last.cpu_ns:
                share = (row.cpu_ns - last.cpu_ns) / ((now_s - then_s) * _NS_S * row.cores)
                samples.append(_sample(row, at_ms, _percent(share)))
        return samples


def _sample(row: Counters, at_ms: int, cpu_percent: float) -> Usage:
    return Usage(
        row.instance,
        at_ms,
        cpu_percent=cpu_percent,
        memory_used_bytes=row.memory_used_bytes,
        memory_total_bytes=row.memory_total_bytes,
        disk_used_bytes=row.disk_used_bytes,
        disk_total_bytes=row.disk_total_bytes,
        read_bytes=row.read_bytes,
        written_bytes=row.written_bytes,
        received_bytes=row.received_bytes,
        sent_bytes=row.sent_bytes,
    )


def _percent(share: float) -> float:
    """The emulator's own threads can use more than the cores that its guest has."""
    return round(min(max(share, 0.0), 1.0) * 100, 2)


# Reading the host


def read_host(storage: Path, proc: Path = Path("/proc")) -> HostCounters:
    """The kernel's counters, and the fill of the file system that holds the volumes."""
    busy, ticks = processor_ticks((proc / "stat").read_text())
    memory_used, memory_total = memory_bytes((proc / "meminfo").read_text())
    read, written = disk_bytes((proc / "diskstats").read_text())
    received, sent = network_bytes((proc / "net" / "dev").read_text())
    room = os.statvfs(storage)
    return HostCounters(
        busy_ticks=busy,
        all_ticks=ticks,
        memory_used_bytes=memory_used,
        memory_total_bytes=memory_total,
        disk_used_bytes=(room.f_blocks - room.f_bfree) * room.f_frsize,
        disk_total_bytes=room.f_blocks * room.f_frsize,
        read_bytes=read,
        written_bytes=written,
        received_bytes=received,
        sent_bytes=sent,
    )


def processor_ticks(stat: str) -> tuple[int, int]:
    """Busy and all ticks of all processors (proc(5), /proc/stat). Time of guests is within that of users."""
    user, nice, system, idle, iowait, irq, softirq, steal = map(int, stat.split(maxsplit=9)[1:9])
    everything = user + nice + system + idle + iowait + irq + softirq + steal
    return everything - idle - iowait, everything


def memory_bytes(meminfo: str) -> tuple[int, int]:
    """Used and total; what the kernel could free at once does not count as used."""
    fields = dict(line.split(":", 1) for line in meminfo.splitlines())
    total, available = (int(fields[name].split()[0]) * 1024 for name in ("MemTotal", "MemAvailable"))
    return total - available, total


def disk_bytes(diskstats: str) -> tuple[int, int]:
    """Read and written by whole disks: partitions, loops and what is mapped onto disks would count twice."""
    read = written = 0
    for fields in (line.split() for line in diskstats.splitlines()):
        if _is_disk(fields[2]):
            read += int(fields[5]) * _SECTOR_BYTES
            written += int(fields[9]) * _SECTOR_BYTES
    return read, written


def _is_disk(name: str) -> bool:
    if name.startswith(("sd", "vd", "hd", "xvd")):
        return not name[-1].isdigit()
    return name.startswith(("nvme", "mmcblk")) and "p" not in name.removeprefix("mmcblk")


def network_bytes(net_dev: str) -> tuple[int, int]:
    """Received and sent by the host's own cards: what guests and bridges pass on is counted there already."""
    received = sent = 0
    for line in net_dev.splitlines()[2:]:
        name, _, counters = line.partition(":")
        if name.strip().startswith(("en", "eth", "wl", "ib")):
            fields = counters.split()
            received += int(fields[0])
            sent += int(fields[8])
    return received, sent
