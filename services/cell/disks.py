"""The instances' volumes and the bases that they are clones of, as files.

    volumes/<instance>/<n>.qcow2      whole, or not there: made under `.partial` and renamed
    bases/<blake3>.<format>           verified while it was written, then renamed; never changed again

A clone is an overlay on its base, so it takes a moment and no room. What stands beside `volumes` with
another ending is work that was cut off and is swept at the start. A whole volume is removed only by
`remove`: a cell that has lost its book must not take everybody's disks for rubbish.
"""

import asyncio
import contextlib
import os
import shutil
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import structlog

from nano.local_users import open_to_group
from nano.model.errors import Invalid, StorageFull
from nano.model.ids import ImageId, InstanceId
from nano.model.image import Content
from services.cell.download import Images, download
from services.cell.host import base_name
from services.cell.threads import in_thread


@dataclass(frozen=True, slots=True)
class Access:
    """Modes by which QEMU, under a user of its own, gets at its disks, and nobody else does.

    It passes through each folder to the file that it was told, and lists nothing.
    """

    folder: int
    volume: int
    base: int
    gid: int | None = None
    """The group of all of them; None: whichever comes."""

    def apply(self, path: Path, mode: int) -> None:
        if self.gid is None:
            path.chmod(mode)
        else:
            open_to_group(path, self.gid, mode)


HANDED_OVER = Access(0o711, 0o600, 0o600)
"""libvirt gives each file to QEMU's user when a machine starts."""


def shared_by(gid: int) -> Access:
    """QEMU's user is in this group, and libvirt leaves the owners alone (docs/decisions/0013)."""
    return Access(0o710, 0o660, 0o640, gid)


_PARTIAL = ".partial"
_DOOMED = ".removed"
SPARE_BYTES = 256 * 1024 * 1024
"""Left free on the file system when a base is fetched: guests that grow must not be paused at once."""

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Base:
    """What a system disk is cloned from."""

    image: ImageId
    content: Content


@dataclass(frozen=True, slots=True)
class Backing:
    """A base as it lies in the cache."""

    path: Path
    format: str
    virtual_bytes: int


class VolumeMaker(Protocol):
    """Makes one volume file; `qemu_img.py` for real ones, `sim_volumes.py` for pretended ones."""

    async def check_base(self, path: Path, content: Content) -> None:
        """`Invalid` when the file is not what it is said to be, or reaches for other files."""

    async def make(self, path: Path, size_bytes: int, backing: Backing | None) -> None:
        """A file at `path` that shows `size_bytes` to the guest, empty or as an overlay on `backing`."""


Progress = Callable[[int], None]
"""Told the measured share of the work, 0 to 100."""


class Disks:
    """Volumes and bases below one folder."""

    def __init__(
        self, folder: Path, maker: VolumeMaker, images: Images, access: Access = HANDED_OVER
    ) -> None:
        folder = folder.absolute()  # an overlay names its base, and a domain its volumes, for ever
        self._volumes = folder / "volumes"
        self._bases = folder / "bases"
        self._maker = maker
        self._images = images
        self._access = access
        self._fetching: dict[str, asyncio.Lock] = {}
        self._needed: dict[str, int] = {}
        """Bases that creations under way need, by file name: not to be evicted."""
        for each in (folder, self._volumes, self._bases):
            each.mkdir(parents=True, exist_ok=True)
            access.apply(each, access.folder)

    @property
    def folder(self) -> Path:
        return self._volumes

    def whole(self, instance: InstanceId) -> bool:
        """Whether the instance's volumes are there."""
        return self._place(instance).is_dir()

    def paths(self, instance: InstanceId, count: int) -> tuple[Path, ...]:
        """Where its volumes are, or will be: the system disk first."""
        return tuple(self._place(instance) / f"{index}.qcow2" for index in range(count))

    async def create(
        self,
        instance: InstanceId,
        sizes_bytes: tuple[int, ...],
        base: Base | None,
        *,
        used_bases: Callable[[], set[str]],
        progress: Progress,
    ) -> tuple[Path, ...]:
        """All disks of an instance, or none; volumes that are there already are kept as they are.

        `used_bases` tells which bases (`base_name`) volumes on this host refer to: none of them is evicted.
        Raises `Invalid` naming the disk that is too small for its image, `StorageFull`, `Corrupt`, and what
        the image store says.
        """
        _check_sizes(instance, sizes_bytes, base)
        paths = self.paths(instance, len(sizes_bytes))
        if self.whole(instance):
            return paths
        async with self._held(base, used_bases, progress) as backing:
            partial = self._place(instance, _PARTIAL)
            await in_thread(_fresh_folder, partial)
            for index, size_bytes in enumerate(sizes_bytes):
                target = partial / paths[index].name
                await self._maker.make(target, size_bytes, backing if index == 0 else None)
            await in_thread(_put_in_place, partial, self._place(instance), self._access)
        progress(100)
        return paths

    async def remove(self, instance: InstanceId) -> None:
        """Its volumes and what is left of making them; nothing there is success."""
        await in_thread(self._remove, instance)

    async def sweep(self) -> list[str]:
        """Remove what was cut off by a kill: half-made and half-removed volumes, half-fetched bases."""
        swept = await in_thread(self._sweep)
        if swept:
            _log.info("disks.swept", names=swept)
        return swept

    def instances(self) -> set[InstanceId]:
        """Those whose volumes lie here."""
        return {InstanceId(each.name) for each in self._volumes.iterdir() if not each.suffix}

    def bases(self) -> set[str]:
        """The bases in the cache, by `base_name`."""
        return {each.name for each in self._bases.iterdir() if each.suffix not in {_PARTIAL, _DOOMED}}

    # Bases

    @contextlib.asynccontextmanager
    async def _held(
        self, base: Base | None, used: Callable[[], set[str]], progress: Progress
    ) -> AsyncIterator[Backing | None]:
        """The base in the cache, fetched if it was not there, and safe from eviction while entered."""
        if base is None:
            yield None
            return
        name = base_name(base.content)
        self._needed[name] = self._needed.get(name, 0) + 1
        try:
            async with self._fetching.setdefault(name, asyncio.Lock()):
                if not (self._bases / name).exists():
                    await self._make_room(base.content.size_bytes, used)
                    await self._fetch(base, self._bases / name, progress)
            yield Backing(self._bases / name, base.content.format, base.content.virtual_bytes)
        finally:
            self._needed[name] -= 1
            if not self._needed[name]:
                del self._needed[name]
                self._fetching.pop(name, None)

    async def _fetch(self, base: Base, target: Path, progress: Progress) -> None:
        partial = target.with_name(target.name + _PARTIAL)
        try:
            # The last percents are for making the volumes.
            await download(
                self._images, base.image, base.content, partial, lambda done: progress(done * 95 // 100)
            )
            await self._maker.check_base(partial, base.content)
            await in_thread(_put_in_place, partial, target, self._access)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise

    async def _make_room(self, wanted_bytes: int, used: Callable[[], set[str]]) -> None:
        """Evict unused bases, the longest untouched first, until the new one fits; else `StorageFull`."""
        if self.free_bytes() >= wanted_bytes + SPARE_BYTES:
            return
        unused = self.bases() - used() - self._needed.keys()
        for name in sorted(unused, key=lambda each: (self._bases / each).stat().st_atime_ns):
            (self._bases / name).unlink()
            _log.info("base.evicted", base=name)
            if self.free_bytes() >= wanted_bytes + SPARE_BYTES:
                return
        raise StorageFull(
            f"{self._bases} has {self.free_bytes()} bytes free, the image needs {wanted_bytes} and "
            f"{SPARE_BYTES} must stay free: remove instances or add storage",
            subject=str(self._bases),
        )

    def free_bytes(self) -> int:
        room = os.statvfs(self._bases)
        return room.f_bavail * room.f_frsize

    # Files

    def _place(self, instance: InstanceId, ending: str = "") -> Path:
        return self._volumes / f"{instance}{ending}"

    def _remove(self, instance: InstanceId) -> None:
        doomed = self._place(instance, _DOOMED)
        shutil.rmtree(doomed, ignore_errors=True)
        if self.whole(instance):
            self._place(instance).rename(doomed)
            _sync_folder(self._volumes)
        for ending in (_DOOMED, _PARTIAL):
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(self._place(instance, ending))

    def _sweep(self) -> list[str]:
        cut_off = [
            each
            for folder in (self._volumes, self._bases)
            for each in folder.iterdir()
            if each.suffix in {_PARTIAL, _DOOMED}
        ]
        for each in cut_off:
            if each.is_dir():
                shutil.rmtree(each)
            else:
                each.unlink()
        return sorted(each.name for each in cut_off)


def _check_sizes(instance: InstanceId, sizes_bytes: tuple[int, ...], base: Base | None) -> None:
    if not sizes_bytes:
        raise Invalid("disks", f"instance {instance} has no disk: give it a system disk", subject=instance)
    if base is not None and sizes_bytes[0] < base.content.virtual_bytes:
        raise Invalid(
            "disks",
            f"disk 0 of instance {instance} has {sizes_bytes[0]} bytes, its image {base.image} shows "
            f"{base.content.virtual_bytes}: ask for a system disk at least that large",
            subject=instance,
        )


def _fresh_folder(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)


def _put_in_place(made: Path, target: Path, access: Access) -> None:
    """Durable under its final name, or not there at all."""
    if made.is_dir():
        for each in made.iterdir():
            access.apply(each, access.volume)
            _sync(each)
        access.apply(made, access.folder)
    else:
        access.apply(made, access.base)
    _sync(made)
    made.rename(target)
    _sync_folder(target.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


_sync_folder = _sync
