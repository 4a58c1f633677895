"""Images' bytes on disk: written under a passing name, digested as they come, renamed when they are whole.

`<folder>/<image id>_v<version>.<format>`, as in the reference; `<folder>/.<image id>.part` during an upload.
"""

import asyncio
import contextlib
import hashlib
import os
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ParamSpec, TypeVar

import blake3

from nano.model.errors import Conflict, Corrupt, StorageFull
from nano.model.ids import ImageId
from nano.model.image import Content, ImageKind
from services.imagestore.formats import HEAD_BYTES, recognise

P = ParamSpec("P")
T = TypeVar("T")

PIECE_BYTES = 1 << 20
KEPT_FREE_BYTES = 256 << 20
"""An upload never takes the last of the disk: the records beside it must stay writable."""


class ImageFiles:
    """The folder with all bytes. Work on them runs in threads: digests and writes release the GIL."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="images")

    def close(self) -> None:
        self._threads.shutdown(wait=True)

    def path(self, image: ImageId, content: Content) -> Path:
        return self._folder / f"{image}_v{content.version}.{content.format}"

    async def receive(
        self,
        image: ImageId,
        kind: ImageKind,
        version: int,
        pieces: AsyncIterator[bytes],
        size_bytes: int | None,
    ) -> Content:
        """Keep what comes, durably; what is cut short, or is no image, leaves nothing behind."""
        part = self._folder / f".{image}.part"
        if size_bytes is not None:
            self._check_room(size_bytes)
        writer = await self._run(_Writer, part)
        try:
            try:
                async for batch in _batches(pieces):
                    self._check_room(len(batch))
                    await self._run(writer.write, batch)
                if size_bytes is not None and writer.size_bytes != size_bytes:
                    short = f"ended after {writer.size_bytes} of {size_bytes} bytes: send it again"
                    raise Corrupt(f"the upload of image {image} {short}", subject=image)
                content = writer.content(kind, version)
                await self._run(writer.sync)
            finally:
                await self._run(writer.close)
            await self._run(_move, part, self.path(image, content))
        finally:
            with contextlib.suppress(FileNotFoundError):
                part.unlink()
        return content

    async def read(self, image: ImageId, content: Content, start: int, end: int) -> AsyncIterator[bytes]:
        """The bytes from `start` up to, not including, `end`."""
        path = self.path(image, content)
        with await self._run(path.open, "rb") as source:
            source.seek(start)
            left = end - start
            while left > 0:
                piece = await self._run(source.read, min(PIECE_BYTES, left))
                if not piece:
                    raise Corrupt(f"{path} is shorter than its record says", subject=image)
                left -= len(piece)
                yield piece

    def sweep(self, kept: Iterable[tuple[ImageId, int]]) -> list[str]:
        """Remove what no record needs: broken uploads, versions that were replaced. Returns their names."""
        stems = {f"{image}_v{version}" for image, version in kept}
        removed = [path for path in self._folder.iterdir() if path.is_file() and path.stem not in stems]
        for path in removed:
            path.unlink()
        return [path.name for path in removed]

    def _check_room(self, size_bytes: int) -> None:
        stat = os.statvfs(self._folder)
        free = stat.f_bavail * stat.f_frsize - KEPT_FREE_BYTES
        if size_bytes > free:
            raise StorageFull(
                f"{self._folder} has room for {max(free, 0)} more bytes, not {size_bytes}: free some first"
            )

    async def _run(self, work: Callable[P, T], *arguments: P.args, **_none: P.kwargs) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)


async def _batches(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Pieces put together to what is worth a thread's while."""
    gathered: list[bytes] = []
    size = 0
    async for piece in pieces:
        gathered.append(piece)
        size += len(piece)
        if size >= PIECE_BYTES:
            yield b"".join(gathered)
            gathered, size = [], 0
    if gathered:
        yield b"".join(gathered)


class _Writer:
    """A file that digests what it is given."""

    def __init__(self, path: Path) -> None:
        try:
            self._file = path.open("xb")
        except FileExistsError:
            raise Conflict(f"{path} exists: an upload of this image is under way") from None
        self._blake3 = blake3.blake3()
        self._sha1 = hashlib.sha1(usedforsecurity=False)  # the documented signature of old clients
        self._head = b""
        self.size_bytes = 0

    def write(self, batch: bytes) -> None:
        if len(self._head) < HEAD_BYTES:
            self._head += batch[: HEAD_BYTES - len(self._head)]
        self._file.write(batch)
        self._blake3.update(batch)
        self._sha1.update(batch)
        self.size_bytes += len(batch)

    def content(self, kind: ImageKind, version: int) -> Content:
        found = recognise(kind, self._head, self.size_bytes)
        return Content(
            version,
            self.size_bytes,
            self._blake3.hexdigest(),
            self._sha1.hexdigest(),
            found.name,
            found.virtual_bytes,
        )

    def sync(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


def _move(part: Path, target: Path) -> None:
    part.replace(target)
    folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
