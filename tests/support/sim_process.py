"""A service in a simulated world: its disk and files, which outlive it, and its process, which can be killed.

A killed process loses what its disk had not been given, and after a power cut what was not synced. What
remains of it runs to its end without effect: its disk ignores it, the network lets nothing of it out, and its
folder is put back to what it was at the moment of the death. When it comes back, the book that it finds is
compared with all that it had ever committed.
"""

import asyncio
import errno
import shutil
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from nano import codec
from nano.model.errors import Unreachable
from nano.model.peers import Peer
from nano.saga.outcomes import OutcomePut
from nano.saga.record import Mark, StepMarked
from nano.shelf import JournalLost, Shelf
from tests.support import invariants
from tests.support.disk import Operation, SimDisk, SyncFile
from tests.support.sim_fabric import SimFabric

if TYPE_CHECKING:
    from tests.support.world import World

FOLDER = Path("/shelf")
RESTART_S = (0.2, 4.0)
SNAPSHOT_AFTER_BYTES = 24_000
"""So little that snapshots are written, and watchers fall behind, in a short life."""
HISTORY_BYTES = 16_000


class RecordedShelf(Shelf[Any]):
    """A shelf that tells its process of each commit."""

    owner: "Process | None" = None

    def commit(self, *changes: Any) -> int:
        revision = super().commit(*changes)
        if changes and self.owner is not None and self.owner.shelf is self:
            self.owner.committed(revision, changes)
        return revision


Furnish = Callable[["Process", AsyncExitStack, asyncio.TaskGroup], Awaitable[None]]


class Process:
    """One service: its disk, its files and, while it lives, its process."""

    def __init__(
        self, world: "World", name: str, peer: Peer, book: type[Any] | None, furnish: Furnish
    ) -> None:
        self.world, self.name, self.peer, self.book_type = world, name, peer, book
        self.disk = self._disk(None)
        self.life = 0
        self.is_up = False
        self.shelf: Any = None
        self.fabric: SimFabric
        self.history: dict[int, tuple[Any, ...]] = {}
        """What was committed, by revision; what a death took away is taken away here, too."""
        self.shown = 0
        """The highest revision that anybody was shown."""
        self.written: dict[tuple[str, ...], int] = {}
        """The revision at which a step was marked as begun, or came to an outcome, by what is said of it."""
        self.folder = world.folder / name
        self.folder.mkdir()
        self._left: Path | None = None
        self._furnish = furnish
        self._job: asyncio.Task[None] | None = None
        self._shadow = book.restore({kind: [] for kind in book.kinds}) if book else None
        self._shadow_revision = 0

    @property
    def book(self) -> Any:
        return self.shelf.book

    @property
    def files(self) -> Path:
        """Its folder as it is, or as its death left it."""
        return self._left or self.folder

    def _disk(self, volume: Any) -> SimDisk:
        disk = SimDisk(volume, chance=self.world.chance)

        def is_dead(_operation: Operation) -> bool:
            return disk is not self.disk  # a dead process writes nothing any more

        disk.ignores = is_dead
        return disk

    # -------------------------------------------------------------- living and dying

    def start(self) -> None:
        self._job = self.world.jobs.create_task(self._live(self.life), name=self.name)

    async def _live(self, life: int) -> None:
        try:
            async with AsyncExitStack() as up:
                if self.book_type is not None:
                    shelf = await up.enter_async_context(
                        RecordedShelf.open(
                            FOLDER,
                            self.book_type,
                            disk=self.disk,
                            snapshot_after_bytes=SNAPSHOT_AFTER_BYTES,
                            history_bytes=HISTORY_BYTES,
                        )
                    )
                    self._opened(cast("RecordedShelf", shelf))
                jobs = await up.enter_async_context(asyncio.TaskGroup())
                self.fabric = SimFabric(self.world.network, self.peer, jobs)
                await self._furnish(self, up, jobs)
                self.world.network.join(self.fabric)
                self.is_up = True
                await asyncio.Event().wait()
        except Exception as error:
            if life != self.life:
                return  # it died by our hand
            if not _has_lost_its_disk(error) and (self.is_up or not _lacks_something(error)):
                raise
            self.world.note(
                f"{self.name} ends by itself: {error!r}"
            )  # as systemd has it: again, a little later
            self.kill()

    def _opened(self, shelf: RecordedShelf) -> None:
        """What was read is exactly what had been written up to there, and holds all that was shown."""
        assert self.book_type is not None
        for revision in sorted(self.history):
            if self._shadow_revision < revision <= shelf.revision:
                for change in self.history[revision]:
                    self._shadow.apply(_told_again(change, self.book_type))  # type: ignore[union-attr]
        self._shadow_revision = shelf.revision
        self.history = {each: changes for each, changes in self.history.items() if each <= shelf.revision}
        self.written = {key: revision for key, revision in self.written.items() if revision <= shelf.revision}
        self.world.judge(invariants.acked_is_durable(self, shelf, self._shadow))
        shelf.owner, self.shelf = self, shelf

    def kill(self, *, power_cut: bool = False) -> None:
        """kill -9. After a power cut also what was not synced is gone, or any part of it."""
        if self._job is None:
            return
        self.is_up = False
        self.life += 1
        if hasattr(self, "fabric"):
            self.world.network.leave(self.fabric)
        volume = deepcopy(self.disk.volume)
        if power_cut:
            volume = volume.after([self.world.chance.randrange(ways) for ways in volume.choices()])
        self.disk = self._disk(volume)
        self._left = self.world.folder / f"{self.name}.{self.life}"
        shutil.copytree(self.folder, self._left)
        job, self._job = self._job, None
        job.cancel()
        self.world.note(f"{self.name} dies{' by a power cut' if power_cut else ''}")
        self.world.jobs.create_task(self._restart(job, self.world.between(RESTART_S)))

    def restart(self) -> None:
        """In good order: what is queued is written, a snapshot is put in place, and it comes back."""
        if self._job is None or not self.is_up:
            return
        self.is_up = False
        self.world.network.leave(self.fabric)
        job, self._job = self._job, None
        job.cancel()
        self.world.note(f"{self.name} stops in good order")
        self.world.jobs.create_task(self._start_again(job, self.world.between(RESTART_S)))

    async def _start_again(self, stopped: asyncio.Task[None], after_s: float) -> None:
        await asyncio.wait([stopped])
        await asyncio.sleep(after_s)
        if not self.world.is_over:
            self.start()

    def break_sync(self) -> None:
        """The next sync of its disk returns an error: what was to be written may be lost, and it must end."""
        disk = self.disk

        def fails(operation: Any) -> bool:
            if isinstance(operation, SyncFile):
                disk.fails = lambda _operation: False
                self.world.note(f"a sync of {self.name} fails")
                return True
            return False

        disk.fails = fails

    async def _restart(self, dead: asyncio.Task[None], after_s: float) -> None:
        await asyncio.wait([dead])
        await asyncio.sleep(after_s)
        if self.world.is_over:
            return
        shutil.rmtree(self.folder)
        assert self._left is not None
        self._left.rename(self.folder)
        self._left = None
        self.world.note(f"{self.name} comes back")
        self.start()

    def stop(self) -> None:
        if self._job is not None:
            self.life += 1
            self._job.cancel()

    # -------------------------------------------------------------- what it does

    def committed(self, revision: int, changes: tuple[Any, ...]) -> None:
        self.history[revision] = changes
        for change in changes:
            match change:
                case StepMarked(task, step, _, Mark.BEGUN):
                    self.written[task, step] = revision
                case OutcomePut(outcome):
                    self.written[invariants.said_of(outcome.outcome())] = revision
        self.world.committed(self, changes)

    def shows(self, revision: int) -> Iterator[str]:
        """Somebody is about to see this revision."""
        if self.shelf.durable_revision < revision:
            yield f"{self.name} shows revision {revision} and has {self.shelf.durable_revision} on disk"
        self.shown = max(self.shown, revision)


def _has_lost_its_disk(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return any(map(_has_lost_its_disk, error.exceptions))
    return isinstance(error, JournalLost) or (isinstance(error, OSError) and error.errno == errno.EIO)


def _lacks_something(error: BaseException) -> bool:
    """What it needs at its start is not there."""
    if isinstance(error, BaseExceptionGroup):
        return any(map(_lacks_something, error.exceptions))
    return isinstance(error, Unreachable)


def _told_again(change: Any, book: type[Any]) -> Any:
    return codec.decode(codec.encode([change]), list[book.changes])[0]  # type: ignore[name-defined]
