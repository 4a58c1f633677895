"""An image's bytes from the store to a file: verified while they are written, resumed where a link broke."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import BinaryIO, Protocol

import blake3

from nano.model.errors import Corrupt, TimedOut, Unreachable
from nano.model.ids import ImageId
from nano.model.image import Content
from services.cell.threads import in_thread

FRUITLESS_ATTEMPTS = 30
"""Links in a row that break without one byte: then the store is not there, and the task may say so."""

PAUSE_S = 1.0
"""Before the next attempt, so that a store which restarts is not stormed."""


class Images(Protocol):
    """Where images come from: the image store over the fabric's bulk links, or files in a test."""

    def fetch(self, image: ImageId, version: int, offset: int) -> AsyncIterator[bytes]:
        """The bytes of one stored version from `offset` on. `Unreachable` when the link breaks."""


async def download(
    images: Images, image: ImageId, content: Content, target: Path, progress: Callable[[int], None]
) -> None:
    """The whole content at `target`, synced to the disk; `Corrupt` when the store sends anything else.

    `progress` is told the measured share in percent.
    """
    with open(target, "wb", opener=_private) as file:  # noqa: ASYNC230 - opening does not wait
        sink = _Sink(file, content, image)
        fruitless = 0
        while sink.missing:
            before = sink.received
            try:
                await _receive(images.fetch(image, content.version, before), sink, progress)
            except (Unreachable, TimedOut):
                fruitless = 0 if sink.received > before else fruitless + 1
                if fruitless == FRUITLESS_ATTEMPTS:
                    raise
                await asyncio.sleep(PAUSE_S)
        await in_thread(sink.finish)


def _private(path: str, flags: int) -> int:
    """An image may hold what only its guests shall read."""
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


async def _receive(pieces: AsyncIterator[bytes], sink: "_Sink", progress: Callable[[int], None]) -> None:
    async for piece in pieces:
        await in_thread(sink.take, piece)
        progress(sink.percent)
    if sink.missing:
        raise Unreachable(
            f"the image store ended {sink.missing} bytes early while sending image {sink.image}",
            subject=sink.image,
        )


class _Sink:
    """Counts, hashes and writes; runs on threads, one call at a time."""

    def __init__(self, file: BinaryIO, content: Content, image: ImageId) -> None:
        self.image = image
        self.received = 0
        self._file = file
        self._content = content
        self._digest = blake3.blake3()

    @property
    def missing(self) -> int:
        return self._content.size_bytes - self.received

    @property
    def percent(self) -> int:
        return self.received * 100 // max(self._content.size_bytes, 1)

    def take(self, piece: bytes) -> None:
        if len(piece) > self.missing:
            raise Corrupt(f"the image store sends more than image {self.image} has", subject=self.image)
        self._digest.update(piece)
        if piece.count(0) == len(piece):
            self._file.seek(len(piece), 1)  # a hole: a raw image is mostly zeros, and they need no room
        else:
            self._file.write(piece)
        self.received += len(piece)

    def finish(self) -> None:
        if self._digest.hexdigest() != self._content.blake3:
            raise Corrupt(
                f"what the store sent as image {self.image} version {self._content.version} is not it: "
                f"BLAKE3 {self._digest.hexdigest()} instead of {self._content.blake3}",
                subject=self.image,
            )
        self._file.truncate(self._content.size_bytes)
        self._file.flush()
