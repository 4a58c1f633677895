"""A book on disk: changes are applied at once, and durable before anyone may see them.

    async with Shelf.open(folder, Ledger) as shelf:
        lease = shelf.book.lease(owner)       # decide: synchronous, on the live book
        shelf.commit(Leased(lease))           # applied and queued, in the same breath
        await shelf.durable()                 # everything so far is on the disk; now the answer may leave

One job writes. While it waits for a sync, commits queue up; the next sync takes all of them (group commit).
The first write or sync that fails ends the process, through the context manager: a second sync may succeed
falsely.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

import structlog

from nano import codec
from nano.model.errors import Conflict, Exhausted, Stale
from nano.shelf import folder as on_disk
from nano.shelf.book import Book, Cursor, JournalLost, storage_full
from nano.shelf.files import Disk, RealDisk, is_full
from nano.shelf.folder import Generations, Loaded, Log
from nano.shelf.journal import HEAD_BYTES, LINE_OVERHEAD_BYTES, Entry
from nano.shelf.snapshots import Stamp

B = TypeVar("B", bound=Book[Any])

log = structlog.get_logger()

SNAPSHOT_AFTER_BYTES = 4 * 2**20
"""Journal bytes after which a snapshot is due: a restart replays them in well under a second."""

HISTORY_BYTES = 2 * 2**20
"""Journal bytes kept in memory for followers; who falls further behind is told to read all again."""

QUEUE_BYTES = 64 * 2**20
"""How far the disk may fall behind before commits are refused."""


@dataclass
class _Batch:
    """Commits that share one sync."""

    done: asyncio.Future[None]
    entries: list[Entry] = field(default_factory=list)
    changes: list[tuple[Any, ...]] = field(default_factory=list)
    claimed_bytes: int = 0


class Shelf(Generic[B]):
    """The one writer of one book. Made by `open`; `commit` is synchronous, what waits is a coroutine."""

    def __init__(
        self,
        folder: Path,
        disk: Disk,
        loaded: Loaded[B],
        journal: Log,
        *,
        snapshot_after_bytes: int,
        history_bytes: int,
    ) -> None:
        self.book: B = loaded.book
        self.incarnation = journal.head.incarnation
        self.revision = loaded.recovery.revision
        self.durable_revision = self.revision
        self._folder, self._disk, self._journal = folder, disk, journal
        self._generations = Generations(disk, folder, loaded.contents.base)
        self._snapshot_after_bytes, self._history_bytes = snapshot_after_bytes, history_bytes
        self._snapshot_due_bytes = snapshot_after_bytes
        self._snapshot_job: asyncio.Task[None] | None = None
        self._claimed = journal.end
        self._queue, self._in_flight = self._new_batch(), self._new_batch()
        self._wake, self._news = asyncio.Event(), asyncio.Event()
        self._closing = False
        self._lost: JournalLost | None = None
        self._recent: dict[int, tuple[tuple[Any, ...], int]] = {}
        self._recent_bytes = 0
        for revision, changes, size_bytes in loaded.recent:
            self._remember(revision, changes, size_bytes)

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        folder: Path,
        book_type: type[B],
        *,
        disk: Disk | None = None,
        snapshot_after_bytes: int = SNAPSHOT_AFTER_BYTES,
        history_bytes: int = HISTORY_BYTES,
    ) -> "AsyncIterator[Shelf[B]]":
        """The book kept in `folder`, which is made when there is none; nobody else can open it meanwhile.

        `Busy` names the process that has it open, `Damaged` the file and the line that are not what was
        written. On leaving, what is queued is written and a snapshot is put in place. `JournalLost` comes out
        of here.
        """
        disk = disk or RealDisk()
        disk.make_folder(folder)
        lock = disk.lock(folder / "shelf.lock")
        shelf: Shelf[B] | None = None
        failure: BaseException | None = None
        try:
            loaded = await disk.run(lambda: on_disk.load(disk, folder, book_type))
            journal = await disk.run(lambda: on_disk.settle(disk, folder, loaded, book_type.schema))
            _tell(folder, loaded)
            shelf = cls(
                folder,
                disk,
                loaded,
                journal,
                snapshot_after_bytes=snapshot_after_bytes,
                history_bytes=history_bytes,
            )
            async with asyncio.TaskGroup() as jobs:
                writer = jobs.create_task(shelf._write(jobs), name=f"shelf {folder.name}")
                try:
                    yield shelf
                finally:
                    await shelf._close(writer)
        except OSError as error:
            if is_full(error):
                raise storage_full(folder) from error
            raise
        except BaseExceptionGroup as group:
            # What the body raised comes out as it was, not wrapped for the sake of our own job.
            failure = group.exceptions[0] if len(group.exceptions) == 1 else group
            if shelf and shelf._lost:
                failure, shelf._lost.__cause__ = shelf._lost, group
        finally:
            disk.close()
            if shelf:
                shelf._journal.close()
            lock.close()
        if failure:
            raise failure

    @property
    def cursor(self) -> Cursor:
        """Where the live book stands: show it only once it is `durable`, then `follow` from it."""
        return Cursor(self.incarnation, self.revision)

    def commit(self, *changes: Any) -> int:
        """Apply the changes, all or none, and queue them as one journal line; returns their revision.

        `StorageFull` and `Exhausted` refuse before anything is changed.
        """
        if self._lost:
            raise self._again()
        if self._closing:
            raise Conflict(f"{self._folder} is being closed", subject=str(self._folder))
        if not changes:
            return self.revision
        entry = Entry(self.revision + 1, codec.encode(changes))
        claim = len(entry.changes) + LINE_OVERHEAD_BYTES
        self._make_room(claim)
        try:
            for change in changes:
                self.book.apply(change)
        except BaseException as error:
            self._lose(f"apply() failed half-way, so the book in memory is not the one on disk: {error!r}")
            raise
        self.revision = entry.revision
        self._claimed += claim
        self._queue.claimed_bytes += claim
        self._queue.entries.append(entry)
        self._queue.changes.append(changes)
        self._wake.set()
        return entry.revision

    async def durable(self, revision: int | None = None) -> None:
        """Return when the disk has all up to `revision`, by default up to now; else `JournalLost`."""
        wanted = self.revision if revision is None else revision
        if wanted > self.revision:
            raise ValueError(f"revision {wanted} does not exist yet, the last one is {self.revision}")
        while self.durable_revision < wanted:
            if self._lost:
                raise self._again()
            flying = self._in_flight.entries
            batch = self._in_flight if flying and wanted <= flying[-1].revision else self._queue
            await asyncio.shield(batch.done)
        if self._lost:
            raise self._again()

    async def follow(self, since: Cursor) -> AsyncGenerator[tuple[int, tuple[Any, ...]], None]:
        """Each durable commit after `since`, once and in order, until the shelf is closed.

        `Stale` when it cannot be done without a gap: the history was cut, or `since` is too long ago.
        """
        if since.incarnation != self.incarnation or since.revision > self.revision:
            raise Stale(f"{since} is of another history than {self.cursor}: read everything again")
        at = since.revision
        while True:
            news = self._news
            while at < self.durable_revision:
                if at + 1 not in self._recent:
                    raise Stale(f"revision {at} is too long ago: read everything again")
                at += 1
                yield at, self._recent[at][0]
            if self._lost:
                raise self._again()
            if self._closing and self.durable_revision == self.revision:
                return
            await news.wait()

    def _make_room(self, claim: int) -> None:
        if self._queue.claimed_bytes + claim > QUEUE_BYTES:
            raise Exhausted(
                f"the disk of {self._folder} is {self._queue.claimed_bytes} bytes behind",
                subject=str(self._folder),
                retry_after_s=1,
            )
        if self._claimed + claim <= self._journal.reserved:
            return
        try:
            self._journal.reserve(self._claimed + claim)
        except OSError as error:
            if is_full(error):
                raise storage_full(self._folder) from error
            self._lose(f"reserving room failed: {error}")
            raise self._again() from error

    async def _write(self, jobs: asyncio.TaskGroup) -> None:
        while not self._lost:
            if self._queue.entries:
                try:
                    await self._write_batch(jobs)
                except BaseException as error:
                    # Whatever it was: what is in flight will never be durable, and those who wait must hear.
                    self._lose(f"writing ended in {error!r}")
                    raise
            elif self._closing:
                return
            else:
                self._wake.clear()
                await self._wake.wait()
        raise self._again()

    async def _write_batch(self, jobs: asyncio.TaskGroup) -> None:
        batch = self._in_flight = self._queue
        self._queue = self._new_batch()
        revision, journal = self.revision, self._journal
        due = self._snapshot_job is None and journal.end + batch.claimed_bytes >= self._snapshot_due_bytes
        # Taken now, at the batch's end: later commits apply to the book while the batch is being written.
        cut = self.book.snapshot() if due else None
        await self._disk.run(lambda: journal.append(batch.entries))
        self._claimed = journal.end + self._queue.claimed_bytes
        self.durable_revision = revision
        for entry, changes in zip(batch.entries, batch.changes, strict=True):
            self._remember(entry.revision, changes, len(entry.changes))
        batch.done.set_result(None)
        self._announce()
        if cut is not None and await self._rotate(revision):
            self._snapshot_job = jobs.create_task(self._snapshot(revision, cut), name="snapshot")

    async def _rotate(self, revision: int) -> bool:
        """Let the next lines go to a segment of their own; false when the disk has no room for one."""
        old = self._journal
        if old.head.revision == revision:
            return True
        head = on_disk.new_head(self.incarnation, revision, self.book.schema)
        try:
            new = await self._disk.run(lambda: on_disk.start_segment(self._disk, self._folder, head))
        except OSError as error:
            return self._no_room_for_snapshot(error)
        try:
            new.reserve(HEAD_BYTES + self._queue.claimed_bytes)
        except OSError as error:
            await self._disk.run(lambda: on_disk.discard_segment(self._disk, self._folder, new))
            return self._no_room_for_snapshot(error)
        self._journal, self._claimed = new, HEAD_BYTES + self._queue.claimed_bytes
        old.close()
        return True

    async def _snapshot(self, revision: int, cut: Mapping[str, Sequence[Any]]) -> None:
        """Write the book as it was at `revision`, kind by kind, and put it in place."""
        stamp = Stamp(revision, self.incarnation, self.book.schema, tuple(sorted(cut)))
        size_bytes = 0
        try:
            for kind in stamp.kinds:
                size_bytes += await self._disk.run(partial(self._generations.write, kind, stamp, cut[kind]))
            await self._disk.run(lambda: self._generations.exchange(stamp))
        except OSError as error:
            try:
                await self._disk.run(lambda: self._generations.give_up(stamp.kinds))
                self._no_room_for_snapshot(error)
            except OSError as fatal:
                self._lose(f"a snapshot failed: {fatal}")
                raise self._again() from fatal
        else:
            # A large book is written less often, so that snapshots cost no more than the journal itself.
            self._snapshot_due_bytes = max(self._snapshot_after_bytes, size_bytes)
        self._snapshot_job = None

    def _no_room_for_snapshot(self, error: OSError) -> bool:
        """The journal has everything, so a snapshot can wait for room; any other error ends the process."""
        if not is_full(error):
            raise error
        log.warning("shelf.snapshot_postponed", folder=str(self._folder), reason=str(error))
        self._snapshot_due_bytes = self._journal.end + self._snapshot_after_bytes
        return False

    async def _close(self, writer: asyncio.Task[None]) -> None:
        self._closing = True
        self._wake.set()
        await writer
        if self._snapshot_job:
            await self._snapshot_job
        if self.revision > self._generations.revision:
            try:
                if await self._rotate(self.revision):
                    await self._snapshot(self.revision, self.book.snapshot())
            except OSError as error:
                self._lose(f"the closing snapshot failed: {error}")
                raise self._again() from error
        self._announce()

    def _remember(self, revision: int, changes: tuple[Any, ...], size_bytes: int) -> None:
        self._recent[revision] = (changes, size_bytes)
        self._recent_bytes += size_bytes
        while self._recent_bytes > self._history_bytes:
            self._recent_bytes -= self._recent.pop(next(iter(self._recent)))[1]

    def _announce(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    def _lose(self, why: str) -> None:
        """From here on nothing is durable any more: everyone who waits, or will ask, is told."""
        if self._lost is None:
            self._lost = JournalLost(
                f"{self._folder}: {why}. Start again: all that was acknowledged is on the disk",
                subject=str(self._folder),
            )
            log.error("shelf.lost", folder=str(self._folder), reason=why)
        for batch in (self._in_flight, self._queue):
            if not batch.done.done():
                batch.done.set_exception(self._again())
                batch.done.exception()  # seen: nobody need have waited for it
        self._wake.set()
        self._announce()

    def _again(self) -> JournalLost:
        """The loss as an exception of its own, since each waiter adds its own traceback."""
        return JournalLost(str(self._lost), subject=str(self._folder))

    def _new_batch(self) -> _Batch:
        return _Batch(asyncio.get_running_loop().create_future())


def _tell(folder: Path, loaded: Loaded[Any]) -> None:
    """Say what a restart did beyond reading."""
    for page in loaded.contents.passed_over:
        log.warning("shelf.snapshot_passed_over", file=str(folder / page.name), reason=page.why)
    if loaded.recovery.cut_bytes or loaded.recovery.dropped:
        log.warning(
            "shelf.tail_cut",
            folder=str(folder),
            bytes=loaded.recovery.cut_bytes,
            revision=loaded.recovery.revision,
            reason="a power cut left lines that had not been acknowledged",
        )
