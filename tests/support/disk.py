"""A disk that can lose power.

`Volume` is the state: what a process sees, what is surely on the platter, and everything that may or may not
be. It changes only by the operations below, so that a recorded run can be replayed up to any of them.
`Volume.cuts` gives the disks that a power cut at that moment may leave:

- of every 512-byte sector written since the file's last sync, any of the contents it had since then, each
  sector by itself; of the file's size, any that it had since then; where a sector was never written, zeros or
  what another file left in that place;
- of the names created, renamed and removed since the folder's last sync, any subset. Those that touch the
  same name keep their order, the others may overtake each other.

A sync that fails leaves the contents in sight of the process but forgets that they were to be written: the
next sync returns without them, as Linux does. `SimDisk` puts such a volume under a shelf, records, and can be
told to fail, to fill up or to lie.
"""

import asyncio
import errno
import os
import random
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from itertools import product
from math import prod
from pathlib import Path
from typing import TypeVar

from nano.model.errors import Busy

T = TypeVar("T")

SECTOR_BYTES = 512


@dataclass(frozen=True)
class Create:
    path: Path
    inode: int


@dataclass(frozen=True)
class Write:
    inode: int
    offset: int
    data: bytes


@dataclass(frozen=True)
class Truncate:
    inode: int
    size: int


@dataclass(frozen=True)
class SyncFile:
    inode: int


@dataclass(frozen=True)
class FailSync:
    """A sync that returned an error: some of it may be on the platter, the rest never will by itself."""

    inode: int


@dataclass(frozen=True)
class Rename:
    source: Path
    target: Path
    inode: int


@dataclass(frozen=True)
class Unlink:
    path: Path
    inode: int


@dataclass(frozen=True)
class SyncFolder:
    folder: Path


Naming = Create | Rename | Unlink
Operation = Naming | Write | Truncate | SyncFile | FailSync | SyncFolder


@dataclass
class Inode:
    """One file: the bytes `seen` by processes, those on the `platter`, what is uncertain of both."""

    seen: bytearray = field(default_factory=bytearray)
    platter: dict[int, bytes] = field(default_factory=dict)
    size: int = 0
    maybe: dict[int, list[bytes]] = field(default_factory=dict)
    dirty: set[int] = field(default_factory=set)
    sizes: list[int] = field(default_factory=list)

    def write(self, offset: int, data: bytes) -> None:
        if offset > len(self.seen):
            self.seen.extend(bytes(offset - len(self.seen)))
        self.seen[offset : offset + len(data)] = data
        for sector in range(offset // SECTOR_BYTES, -(-(offset + len(data)) // SECTOR_BYTES)):
            content = self._sector(sector)
            if content not in (self.platter.get(sector), *self.maybe.get(sector, ())):
                self.maybe.setdefault(sector, []).append(content)
            self.dirty.add(sector)
        self._resized()

    def truncate(self, size: int) -> None:
        del self.seen[size:]
        self.seen.extend(bytes(size - len(self.seen)))
        self._resized()

    def sync(self) -> None:
        for sector in self.dirty:
            self.platter[sector] = self._sector(sector)
            self.maybe.pop(sector, None)
        self.dirty.clear()
        self.size = len(self.seen)
        self.sizes.clear()
        end = -(-self.size // SECTOR_BYTES)
        self.platter = {sector: data for sector, data in self.platter.items() if sector < end}
        self.maybe = {sector: data for sector, data in self.maybe.items() if sector < end}

    def fail_sync(self) -> None:
        self.dirty.clear()

    def _resized(self) -> None:
        if len(self.seen) not in (self.size, *self.sizes):
            self.sizes.append(len(self.seen))

    def _sector(self, sector: int) -> bytes:
        start = sector * SECTOR_BYTES
        return bytes(self.seen[start : start + SECTOR_BYTES]).ljust(SECTOR_BYTES, b"\0")

    def choices(self) -> list[int]:
        """How many ways each uncertain thing may have gone: the size first, then each sector."""
        return [1 + len(self.sizes), *(1 + len(versions) for versions in self.maybe.values())]

    def after(self, picks: Sequence[int], stale: Callable[[int], bytes]) -> "Inode":
        """The file that the picks leave; the last pick of each choice is the newest state."""
        size = [self.size, *self.sizes][picks[0]]
        chosen = dict(self.platter)
        for (sector, versions), pick in zip(self.maybe.items(), picks[1:], strict=True):
            if pick:
                chosen[sector] = versions[pick - 1]
        end = -(-size // SECTOR_BYTES)
        data = b"".join(chosen.get(sector) or stale(sector) for sector in range(end))[:size]
        left = Inode(bytearray(data))
        left.dirty = set(range(end))
        left.sync()
        return left


class Volume:
    """All files of one disk."""

    def __init__(self) -> None:
        self.inodes: dict[int, Inode] = {}
        self.names: dict[Path, int] = {}
        self.synced_names: dict[Path, int] = {}
        self.namings: list[Naming] = []

    def apply(self, operation: Operation) -> None:
        match operation:
            case Create() | Rename() | Unlink():
                if isinstance(operation, Create):
                    self.inodes[operation.inode] = Inode()
                _rename(self.names, operation)
                self.namings.append(operation)
            case Write(inode, offset, data):
                self.inodes[inode].write(offset, data)
            case Truncate(inode, size):
                self.inodes[inode].truncate(size)
            case SyncFile(inode):
                self.inodes[inode].sync()
            case FailSync(inode):
                self.inodes[inode].fail_sync()
            case SyncFolder(folder):
                for naming in [naming for naming in self.namings if _folder(naming) == folder]:
                    _rename(self.synced_names, naming)
                    self.namings.remove(naming)

    def choices(self) -> list[int]:
        """How many ways each uncertain thing may have gone: stale sectors, namings, sizes, sectors."""
        return [
            2,
            *(2 for _ in self.namings),
            *(n for number in self._reachable() for n in self.inodes[number].choices()),
        ]

    def after(self, picks: Sequence[int]) -> "Volume":
        """The disk that a power cut leaves when each uncertain thing goes as picked."""
        rest = iter(picks)
        hostile = bool(next(rest))
        names = dict(self.synced_names)
        for naming in self.namings:
            if next(rest):
                _rename(names, naming)
        left = Volume()
        for number in self._reachable():
            inode = self.inodes[number]
            mine = [next(rest) for _ in inode.choices()]
            left.inodes[number] = inode.after(mine, self._left_by_others(number) if hostile else _zeros)
        left.inodes = {number: inode for number, inode in left.inodes.items() if number in names.values()}
        left.names, left.synced_names = names, dict(names)
        return left

    def cuts(self, chance: random.Random, limit: int) -> "Iterator[Volume]":
        """Every disk that a power cut now may leave, or where they are more than `limit`, that many of them:
        nothing and everything persisted, each thing alone, everything but one, the rest by chance.
        """
        choices = self.choices()
        if prod(choices) <= limit:
            yield from (self.after(picks) for picks in product(*(range(n) for n in choices)))
            return
        tried: set[tuple[int, ...]] = set()
        for picks in _samples(choices, chance):
            if picks not in tried:
                tried.add(picks)
                yield self.after(picks)
            if len(tried) >= limit:
                return

    def _reachable(self) -> list[int]:
        """Files that may have a name after a power cut."""
        return sorted({*self.synced_names.values(), *(naming.inode for naming in self.namings)})

    def _left_by_others(self, number: int) -> Callable[[int], bytes]:
        def stale(sector: int) -> bytes:
            for other, inode in reversed(self.inodes.items()):
                if other != number and sector in inode.platter:
                    return inode.platter[sector]
            return b"\xa5" * SECTOR_BYTES

        return stale


def _zeros(sector: int) -> bytes:
    return bytes(SECTOR_BYTES)


def _samples(choices: Sequence[int], chance: random.Random) -> Iterator[tuple[int, ...]]:
    for edge in ([0] * len(choices), [n - 1 for n in choices]):
        yield tuple(edge)
        for i, n in enumerate(choices):
            yield (*edge[:i], n - 1 - edge[i], *edge[i + 1 :])
    while True:
        yield tuple(chance.randrange(n) for n in choices)


def _folder(naming: Naming) -> Path:
    return (naming.target if isinstance(naming, Rename) else naming.path).parent


def _rename(names: dict[Path, int], naming: Naming) -> None:
    match naming:
        case Create(path, inode):
            names[path] = inode
        case Rename(source, target, inode):
            if names.get(source) == inode:
                del names[source]
            names[target] = inode
        case Unlink(path, inode):
            if names.get(path) == inode:
                del names[path]


class SimFile:
    def __init__(self, disk: "SimDisk", inode: int) -> None:
        self._disk, self._inode = disk, inode

    def write_at(self, offset: int, data: bytes) -> None:
        end = max(offset + len(data), len(self._disk.volume.inodes[self._inode].seen))
        self._disk.take(self._inode, end)
        self._disk.do(Write(self._inode, offset, data))

    def truncate(self, size: int) -> None:
        self._disk.do(Truncate(self._inode, size))

    def reserve(self, end: int) -> None:
        self._disk.take(self._inode, end)

    def sync(self) -> None:
        if self._disk.fails(SyncFile(self._inode)):
            self._disk.do(FailSync(self._inode))
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        self._disk.do(SyncFile(self._inode))

    def close(self) -> None:
        pass


class SimLock:
    def __init__(self, held: set[Path], path: Path) -> None:
        self._held, self._path = held, path

    def close(self) -> None:
        self._held.discard(self._path)


Sync = SyncFile | SyncFolder


class SimDisk:
    """A `Disk` over a volume, with every operation written down in `trace`.

    `fails` says which sync returns an error, `ignores` which operation is answered but not done (a lie that
    the tests of the tests tell), `capacity_bytes` how much room there is. Work is done in turns with
    everything else on the loop, in an order that `chance` decides.
    """

    def __init__(self, volume: Volume | None = None, *, chance: random.Random | None = None) -> None:
        self.volume = volume or Volume()
        self.trace: list[Operation] = []
        self.start = deepcopy(self.volume)
        """The volume that the trace begins with."""
        self.fails: Callable[[Sync], bool] = lambda _: False
        self.ignores: Callable[[Operation], bool] = lambda _: False
        self.capacity_bytes: int | None = None
        self._chance = chance or random.Random(0)
        self._held: set[Path] = set()
        self._taken: dict[int, int] = {}
        self._inodes = max(self.volume.inodes, default=0)

    def do(self, operation: Operation) -> None:
        if not self.ignores(operation):
            self.volume.apply(operation)
            self.trace.append(operation)

    def take(self, inode: int, end: int) -> None:
        """Room for all bytes of the file before `end`, or ENOSPC."""
        taken = max(self._taken.get(inode, 0), len(self.volume.inodes[inode].seen), end)
        linked = set(self.volume.names.values()) - {inode}
        used = sum(max(self._taken.get(n, 0), len(self.volume.inodes[n].seen)) for n in linked) + taken
        if self.capacity_bytes is not None and end > self._taken.get(inode, 0) and used > self.capacity_bytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._taken[inode] = taken

    def path_of(self, inode: int) -> Path:
        """Where the file is now, for predicates that pick operations."""
        return next(path for path, number in self.volume.names.items() if number == inode)

    def names(self, folder: Path) -> list[str]:
        return sorted(path.name for path in self.volume.names if path.parent == folder)

    def read(self, path: Path) -> bytes:
        return bytes(self.volume.inodes[self._find(path)].seen)

    def create(self, path: Path) -> SimFile:
        if path in self.volume.names:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
        self._inodes += 1
        self.do(Create(path, self._inodes))
        return SimFile(self, self._inodes)

    def open(self, path: Path) -> SimFile:
        return SimFile(self, self._find(path))

    def rename(self, source: Path, target: Path) -> None:
        self.do(Rename(source, target, self._find(source)))

    def unlink(self, path: Path) -> None:
        self.do(Unlink(path, self._find(path)))

    def make_folder(self, folder: Path) -> None:
        pass  # folders are there; making them durably is not what these tests are about

    def sync_folder(self, folder: Path) -> None:
        if self.fails(SyncFolder(folder)):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        self.do(SyncFolder(folder))

    def lock(self, path: Path) -> SimLock:
        if path in self._held:
            raise Busy(f"{path} is held", subject=str(path))
        self._held.add(path)
        return SimLock(self._held, path)

    async def run(self, work: Callable[[], T]) -> T:
        for _ in range(self._chance.randrange(6)):
            await asyncio.sleep(0)
        return work()

    def close(self) -> None:
        pass

    def after_kill(self, operations: int) -> "SimDisk":
        """The machine after kill -9 at that point of the trace: the process is gone, the cache is not."""
        volume = deepcopy(self.start)
        for operation in self.trace[:operations]:
            volume.apply(operation)
        disk = SimDisk(volume, chance=self._chance)
        disk.start, disk.trace = self.start, self.trace[:operations]
        return disk

    def _find(self, path: Path) -> int:
        if path not in self.volume.names:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        return self.volume.names[path]
