"""The operation log on disk: lines are on it before anybody is told that they were written."""

import asyncio
import contextlib
import errno
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

import structlog

from nano.model.errors import NotFound, StorageFull
from services.portal import oplog
from services.portal.oplog import Answer, Line, Question

T = TypeVar("T")

_MODE = 0o640

_log = structlog.get_logger("nano.portal")


class LogFiles:
    """The files below one folder, and the one thread that touches them. `open` before anything else."""

    def __init__(self, folder: Path, clock_ns: Callable[[], int]) -> None:
        self._folder = folder
        self._clock_ns = clock_ns
        self._crew = ThreadPoolExecutor(1, thread_name_prefix="operation-log")
        self._last_id = "0" * 17

    async def open(self) -> None:
        """Makes the folder, and cuts off the half line that a power cut may have left at the end."""
        await self._on_thread(self._recover)

    def close(self) -> None:
        self._crew.shutdown(wait=True)

    async def write(self, content: str) -> Line:
        """Adds a line; returns once it is durable. `StorageFull` when the disk has no room."""
        return await self._on_thread(partial(self._write, content))

    @property
    def newest(self) -> datetime | None:
        """The local time in the last id, which is ahead of a clock that was set back; None: no line."""
        return oplog.moment_of(self._last_id)

    async def answer(self, asked: Question) -> Answer:
        return await self._on_thread(lambda: oplog.answer(asked, self._newest_first(asked)))

    async def remove(self, ids: Sequence[str]) -> int:
        """Takes lines out; how many there were. An id of a day without a file is `NotFound`, as
        documented."""
        return await self._on_thread(partial(self._remove, ids))

    # -- on the thread -----------------------------------------------------------------------------

    def _recover(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o750)
        files = sorted(self._folder.glob("[0-9]*/[0-9]*.log"))
        if not files:
            return
        with files[-1].open("r+b") as newest:
            content = newest.read()
            whole = content.rfind(b"\n") + 1
            if whole < len(content):
                _log.warning("log.cut", file=str(files[-1]), bytes=len(content) - whole)
                newest.truncate(whole)
                os.fsync(newest.fileno())
        last = next(self._lines(files[-1]), None)
        self._last_id = last.id if last is not None else f"{files[-1].stem}{'0' * 9}"

    def _write(self, content: str) -> Line:
        line = oplog.line_of(content, self._clock_ns(), self._last_id)
        path = self._folder / line.file
        is_new = not path.exists()
        try:
            path.parent.mkdir(exist_ok=True, mode=0o750)
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, _MODE)
            try:
                _write_whole(descriptor, oplog.written(line))
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            if is_new:
                _sync_folder(path.parent)
                _sync_folder(self._folder)
        except OSError as error:
            raise StorageFull(
                f"the operation log in {self._folder} cannot be written ({error.strerror}): "
                "nothing was done; make room there, then try again"
            ) from error
        self._last_id = line.id
        return line

    def _newest_first(self, asked: Question) -> Iterator[Line]:
        for day in asked.days:
            path = self._folder / oplog.file_of(day.strftime("%Y%m%d"))
            if path.exists():
                yield from self._lines(path)

    def _lines(self, path: Path) -> Iterator[Line]:
        """Of one file, the last one first; what is no line of ours is passed over.

        A line ends at a line feed and nowhere else: a text may hold U+2028 and all that `str.splitlines`
        takes for an end, and would forge the line behind it.
        """
        for text in reversed(path.read_bytes().split(b"\n")):
            line = oplog.read(text.decode(errors="replace"))
            if line is not None:
                yield line

    def _remove(self, ids: Sequence[str]) -> int:
        by_file: dict[Path, set[str]] = {}
        for each in ids:
            by_file.setdefault(self._folder / oplog.file_of(each), set()).add(each)
        for path in by_file:
            if not path.exists():
                raise NotFound(f"there is no log of {path.stem}", field="entries", subject=path.stem)
        return sum(_without(path, gone) for path, gone in by_file.items())

    async def _on_thread(self, work: Callable[[], T]) -> T:
        """A caller that is cancelled does not stop it half-way: a thread goes to its end."""
        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._crew, work))


def _write_whole(descriptor: int, content: bytes) -> None:
    """Whole or not at all: the end of a file that has no room for a line is put back."""
    before = os.fstat(descriptor).st_size
    try:
        written = os.write(descriptor, content)
    except OSError:
        written = 0
    if written != len(content):
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, before)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _without(path: Path, gone: set[str]) -> int:
    """Writes the file anew without some lines; how many went."""
    lines = path.read_bytes().splitlines(keepends=True)
    kept = [line for line in lines if line[:17].decode(errors="replace") not in gone]
    part = path.with_suffix(".part")
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, _MODE), "wb") as file:
        file.writelines(kept)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    _sync_folder(path.parent)
    return len(lines) - len(kept)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
