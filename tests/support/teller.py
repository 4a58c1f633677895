"""A process that keeps a bank on a shelf and says what is durable: `python -m tests.support.teller DIR HOW`.

Writes a line to standard output for each revision that was acknowledged, in ways of ending badly:

    forever      pay until killed
    eio          the twentieth sync fails
    full         DIR is a small file system of its own: pay until it is full, make room, pay again
"""

import asyncio
import errno
import os
import sys
from pathlib import Path

import structlog

from nano.model.errors import StorageFull
from nano.shelf import RealDisk, Shelf
from nano.shelf.files import RealFile
from tests.support.bank import Bank


def say(word: object) -> None:
    os.write(1, f"{word}\n".encode())  # at once and unbuffered: a killed process must not have said less


class FailingFile(RealFile):
    syncs = 0

    def sync(self) -> None:
        FailingFile.syncs += 1
        if FailingFile.syncs == 20:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        super().sync()


class FailingDisk(RealDisk):
    def create(self, path: Path) -> RealFile:
        return FailingFile(os.dup(super().create(path)._descriptor))


async def pay_forever(shelf: Shelf[Bank]) -> None:
    async def client(source: str, target: str) -> None:
        while True:
            revision = shelf.commit(*shelf.book.transfer(source, target, 1, "x" * 100))
            await shelf.durable(revision)
            say(revision)

    async with asyncio.TaskGroup() as jobs:
        for number in range(8):
            jobs.create_task(client(f"ann-{number}", "bob"))


async def fill_up(shelf: Shelf[Bank], ballast: Path) -> None:
    paid = 0
    try:
        while True:
            shelf.commit(*shelf.book.transfer("ann", "bob", 1, "x" * 10_000))
            paid += 1
            await shelf.durable()
    except StorageFull:
        pass
    assert shelf.book.accounts["bob"].cents == paid == shelf.durable_revision
    ballast.unlink()
    await shelf.durable(shelf.commit(*shelf.book.transfer("ann", "bob", 1, "x" * 10_000)))
    say(shelf.durable_revision)


async def main(folder: Path, how: str) -> None:
    ballast = folder / "ballast"
    if how == "full":
        ballast.write_bytes(bytes(2 * 2**20))
    disk = FailingDisk() if how == "eio" else RealDisk()
    async with Shelf.open(folder / "bank", Bank, disk=disk, snapshot_after_bytes=20_000) as shelf:
        say("open")
        await (fill_up(shelf, ballast) if how == "full" else pay_forever(shelf))
    async with Shelf.open(folder / "bank", Bank) as shelf:
        say(shelf.book.accounts["bob"].cents)


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
