"""What the shelf asks of a disk, and the real one.

The protocol is small and plain so that a test can stand in a disk that loses power: see
`tests/support/disk.py`. Offsets and sizes are bytes. Nothing here is durable until `sync` (a file's bytes) or
`sync_folder` (names) returned.
"""

import asyncio
import ctypes
import errno
import fcntl
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Protocol, TypeVar

from nano.model.errors import Busy

T = TypeVar("T")

_KEEP_SIZE = 1
"""`FALLOC_FL_KEEP_SIZE` of linux/falloc.h: take the blocks, but let the file end where its bytes end."""

_SPARE_BYTES = 16 * 2**20
"""Room that must be free beyond what is asked for where the file system cannot reserve blocks."""

_LANES = 2
"""Threads for blocking calls: one for the journal, one for snapshots, so that neither waits for the other."""


class File(Protocol):
    """One open file."""

    def write_at(self, offset: int, data: bytes) -> None:
        """Write all of `data`."""

    def truncate(self, size: int) -> None: ...

    def reserve(self, end: int) -> None:
        """Take blocks for all bytes before `end`; `OSError` ENOSPC when there are none. The size stays."""

    def sync(self) -> None:
        """Return when the bytes and the size are on the disk."""

    def close(self) -> None: ...


class Lock(Protocol):
    def close(self) -> None: ...


class Disk(Protocol):
    """Files in folders."""

    def names(self, folder: Path) -> list[str]: ...

    def read(self, path: Path) -> bytes: ...

    def create(self, path: Path) -> File:
        """A new, empty file; `FileExistsError` when the name is taken."""

    def open(self, path: Path) -> File: ...

    def rename(self, source: Path, target: Path) -> None: ...

    def unlink(self, path: Path) -> None: ...

    def make_folder(self, folder: Path) -> None:
        """Make it and its parents where missing, durably."""

    def sync_folder(self, folder: Path) -> None:
        """Return when the names in the folder are on the disk."""

    def lock(self, path: Path) -> Lock:
        """Hold the file for this process alone; `Busy` names the process that has it."""

    async def run(self, work: Callable[[], T]) -> T:
        """Do blocking work off the loop."""

    def close(self) -> None:
        """Return when no work is running any more."""


def is_full(error: OSError) -> bool:
    """Whether the disk, or a quota, has no room; any other error may have lost something."""
    return error.errno in {errno.ENOSPC, errno.EDQUOT}


class RealFile:
    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write_at(self, offset: int, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            written = os.pwrite(self._descriptor, rest, offset)
            rest, offset = rest[written:], offset + written

    def truncate(self, size: int) -> None:
        os.ftruncate(self._descriptor, size)

    def reserve(self, end: int) -> None:
        if _fallocate(self._descriptor, _KEEP_SIZE, 0, end) == 0:
            return
        code = ctypes.get_errno()
        if code not in {errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}:
            raise OSError(code, os.strerror(code))
        room = os.fstatvfs(self._descriptor)
        if room.f_bavail * room.f_frsize < end - os.fstat(self._descriptor).st_size + _SPARE_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def sync(self) -> None:
        os.fdatasync(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)


class RealLock(RealFile):
    """`flock` on a file that names its holder; the kernel lets go when the process ends, however it ends."""


class RealDisk:
    """The file systems of this machine."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_LANES, thread_name_prefix="shelf")

    def names(self, folder: Path) -> list[str]:
        return sorted(entry.name for entry in folder.iterdir() if entry.is_file())

    def read(self, path: Path) -> bytes:
        return path.read_bytes()

    def create(self, path: Path) -> RealFile:
        return RealFile(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))

    def open(self, path: Path) -> RealFile:
        return RealFile(os.open(path, os.O_RDWR | os.O_CLOEXEC))

    def rename(self, source: Path, target: Path) -> None:
        source.rename(target)

    def unlink(self, path: Path) -> None:
        path.unlink()

    def make_folder(self, folder: Path) -> None:
        missing = [at for at in (folder, *folder.parents) if not at.exists()]
        for at in reversed(missing):
            at.mkdir(mode=0o700, exist_ok=True)
            self.sync_folder(at.parent)

    def sync_folder(self, folder: Path) -> None:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def lock(self, path: Path) -> RealLock:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(descriptor)
            raise Busy(
                f"{path.parent} is open in process {holder}: stop that one first", subject=str(path.parent)
            ) from None
        with suppress(OSError):  # a full disk is no reason not to start; the number is for the message only
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        return RealLock(descriptor)

    async def run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def close(self) -> None:
        self._threads.shutdown(wait=True)


def _load_fallocate() -> Callable[[int, int, int, int], int]:
    """The C library's own: `os.posix_fallocate` cannot keep the size, and files would end in zeros."""
    call = ctypes.CDLL(None, use_errno=True).fallocate64
    call.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    call.restype = ctypes.c_int
    return call


_fallocate = _load_fallocate()
