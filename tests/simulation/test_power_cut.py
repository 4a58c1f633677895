"""acked-is-durable: the power is cut after every single write, sync and naming of recorded runs of a shelf.

A run is recorded once over a `SimDisk`, with what was acknowledged (`durable` returned, `follow` yielded, or
a restart showed it) and when. Then, for each operation of the run, the disks that a power cut right behind it
may leave are made, all of them where they are few, and a shelf is opened on each: it must start, hold all
that had been acknowledged by then, be exactly the book of some revision of the run, and go on.

The last tests test these: on a disk that leaves out one sort of sync, the same search must find the loss.
"""

import asyncio
import random
from collections.abc import Callable, Coroutine
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nano.model.errors import NanoError
from nano.shelf import Cursor, Damaged, JournalLost, Shelf
from nano.shelf.journal import HEAD_BYTES, Damage, read_segment, segment_base
from nano.shelf.repair import repair
from tests.support.bank import Bank
from tests.support.disk import Operation, SimDisk, SyncFile, SyncFolder, Truncate, Unlink, Volume, Write

FOLDER = Path("/data")
SMALL_SNAPSHOTS = 1500
"""Bytes of journal to a snapshot: a handful of commits, so that a short run sees several generations."""

Story = Callable[["Life"], Coroutine[Any, Any, None]]
Lie = Callable[["Run", Operation], bool]


class Lost(AssertionError):
    """What the search is for."""


@dataclass
class Run:
    """One history of a bank, over as many lives of its process as a test wants."""

    disk: SimDisk
    seed: int = 0
    lie: Lie = field(default=lambda _run, _operation: False)
    books: dict[int, bytes] = field(default_factory=lambda: {0: Bank().as_bytes()})
    acked: list[tuple[int, int]] = field(default_factory=list)
    """How many operations had been done when a revision was acknowledged, and which."""
    opening: bool = False
    bank: type[Bank] = Bank

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        self._listen()

    def _listen(self) -> None:
        self.disk.ignores = lambda operation: self.lie(self, operation)

    def acknowledge(self, revision: int) -> None:
        self.acked.append((len(self.disk.trace), revision))

    def acked_by(self, operations: int) -> int:
        return max((revision for at, revision in self.acked if at <= operations), default=0)

    async def live(self, story: Story) -> None:
        """One life of the process, ended by a clean close or by what the disk does to it."""
        self.opening = True
        async with Shelf.open(
            FOLDER, self.bank, disk=self.disk, snapshot_after_bytes=SMALL_SNAPSHOTS
        ) as shelf:
            self.opening = False
            assert shelf.revision >= self.acked_by(len(self.disk.trace))
            assert shelf.book.as_bytes() == self.books[shelf.revision]
            self.books = {at: book for at, book in self.books.items() if at <= shelf.revision}
            self.acknowledge(shelf.revision)  # whoever reads now sees it
            life = Life(self, shelf)
            async with asyncio.TaskGroup() as jobs:
                follower = jobs.create_task(life.follow())
                await story(life)
                follower.cancel()

    def kill(self, operations: int) -> None:
        """kill -9 at that point: what came later has not happened."""
        self.disk = self.disk.after_kill(operations)
        self.acked = [(at, revision) for at, revision in self.acked if at <= operations]
        self._listen()

    def restart_on(self, volume: Volume, operations: int) -> None:
        """The power was cut at that point and left this; a new trace begins."""
        self.acked = [(0, self.acked_by(operations))]
        self.disk = SimDisk(volume, chance=self.chance)
        self._listen()


@dataclass
class Life:
    run: Run
    shelf: Shelf[Bank]

    def commit(self) -> int:
        """One transfer between accounts; the memo makes lines shorter and longer than a sector."""
        chance = self.run.chance
        source, target = chance.sample(["ann", "bob", "eve", "zoë"], 2)
        memo = "x" * chance.choice([0, 3, 40, 300, 900, 2500])
        revision = self.shelf.commit(*self.shelf.book.transfer(source, target, chance.randrange(100), memo))
        self.run.books[revision] = self.shelf.book.as_bytes()
        return revision

    async def commit_and_wait(self) -> None:
        revision = self.commit()
        await self.shelf.durable(revision)
        self.run.acknowledge(revision)

    async def follow(self) -> None:
        async for revision, _ in self.shelf.follow(Cursor(self.shelf.incarnation, self.shelf.revision)):
            self.run.acknowledge(revision)

    async def clients(self, count: int, commits: int) -> None:
        """Several at once, so that commits share syncs and come in the middle of snapshots."""

        async def client() -> None:
            for _ in range(commits):
                for _ in range(self.run.chance.randrange(8)):
                    await asyncio.sleep(0)  # let others go first, now and then
                await self.commit_and_wait()

        async with asyncio.TaskGroup() as jobs:
            for _ in range(count):
                jobs.create_task(client())


async def busy(life: Life) -> None:
    await life.clients(4, 4)
    life.commit()  # nobody waits for these two: closing writes them
    life.commit()


async def brief(life: Life) -> None:
    await life.clients(2, 2)


async def idle(life: Life) -> None:
    """Open and close."""


async def record(seed: int, lie: Lie | None = None) -> Run:
    """Lives that end well, one killed between a write and its sync, one whose sync fails, and the next."""
    run = Run(SimDisk(chance=random.Random(seed)), seed)
    run.lie = lie or run.lie
    await run.live(busy)
    await run.live(idle)
    await run.live(busy)
    run.kill(
        max(at for at, operation in enumerate(run.disk.trace) if _writes_line(run.disk.volume, operation)) + 1
    )
    await run.live(busy)
    run.disk.fails = _nth(
        run.chance.randrange(2, 5), lambda sync: not run.opening and _syncs_lines(run.disk.volume, sync)
    )
    with pytest.raises(JournalLost):
        await run.live(busy)
    run.disk.fails = lambda _: False
    await run.live(brief)
    return run


async def check(volume: Volume, run: Run, operations: int) -> None:
    """A shelf starts on that volume, has what was acknowledged by then, and goes on."""
    try:
        async with Shelf.open(FOLDER, run.bank, disk=SimDisk(deepcopy(volume))) as shelf:
            if shelf.revision < run.acked_by(operations):
                raise Lost(f"{run.acked_by(operations)} was acknowledged, {shelf.revision} is left")
            if shelf.book.as_bytes() != run.books.get(shelf.revision):
                raise Lost(f"revision {shelf.revision} is not what it was")
            shelf.commit(*shelf.book.transfer("after", "cut", 1))
            await shelf.durable()
    except NanoError as error:
        raise Lost(f"does not start: {error}") from error


async def cut_everywhere(run: Run, limit: int, since: int = 0) -> list[int]:
    """Cut the power after each operation, in up to `limit` ways each; returns in how many."""
    volume, chance, ways = deepcopy(run.disk.start), random.Random(run.seed), []
    for done, operation in enumerate(run.disk.trace, start=1):
        volume.apply(operation)
        if done < since:
            continue
        ways.append(0)
        for left in volume.cuts(chance, limit):
            await check(left, run, done)
            ways[-1] += 1
    return ways


def _nth(number: int, concerns: Callable[[Operation], bool]) -> Callable[[Operation], bool]:
    """True for that operation, of those concerned, and never again."""
    left = number

    def is_it(operation: Operation) -> bool:
        nonlocal left
        hit = concerns(operation)
        left -= hit
        return hit and left == 0

    return is_it


def _name(volume: Volume, operation: Operation) -> str:
    """The name, now, of the file that an operation writes or syncs; empty when it has none any more."""
    inode = getattr(operation, "inode", None)
    names = [path.name for path, number in volume.names.items() if number == inode]
    return names[0] if names else ""


def _in_journal(volume: Volume, operation: Operation) -> bool:
    return segment_base(_name(volume, operation)) is not None


def _writes_line(volume: Volume, operation: Operation) -> bool:
    return isinstance(operation, Write) and operation.offset >= HEAD_BYTES and _in_journal(volume, operation)


def _syncs_lines(volume: Volume, operation: Operation) -> bool:
    return (
        isinstance(operation, SyncFile)
        and _in_journal(volume, operation)
        and len(volume.inodes[operation.inode].seen) > HEAD_BYTES
    )


async def test_a_short_run_survives_every_power_cut_that_there_can_be() -> None:
    run = Run(SimDisk())

    async def three_commits(life: Life) -> None:
        await life.commit_and_wait()
        await life.clients(2, 1)

    await run.live(three_commits)
    await run.live(three_commits)
    limit = 20_000
    ways = await cut_everywhere(run, limit)
    assert max(ways) < limit, "the run is small enough to try everything"


@pytest.mark.parametrize("seed", range(3))
async def test_a_long_run_survives_power_cuts_after_each_operation(seed: int) -> None:
    run = await record(seed)
    ways = await cut_everywhere(run, limit=30)
    assert len(ways) > 150


@pytest.mark.parametrize("seed", range(4))
async def test_a_long_run_survives_kill_9_after_each_operation_and_a_power_cut_at_its_restart(
    seed: int,
) -> None:
    run = await record(seed)
    for done in range(1, len(run.disk.trace)):
        again = Run(run.disk, seed, books=dict(run.books), acked=list(run.acked))
        again.kill(done)
        await again.live(idle)
        volume = deepcopy(again.disk.volume)
        for left in volume.cuts(again.chance, 3):
            await check(left, again, len(again.disk.trace))


@pytest.mark.parametrize("seed", range(6))
async def test_a_start_after_a_power_cut_survives_the_next_one(seed: int) -> None:
    """Starts that had a torn tail to cut, each cut short at each of its own operations."""
    run, found = await record(seed), 0
    chance, volume = random.Random(seed), deepcopy(run.disk.start)
    for done, operation in enumerate(run.disk.trace, start=1):
        volume.apply(operation)
        if not _writes_line(volume, operation):
            continue
        left = volume.after([chance.randrange(n) for n in volume.choices()])
        again = Run(run.disk, seed, books=dict(run.books), acked=list(run.acked))
        again.restart_on(left, done)
        await again.live(brief)
        if any(isinstance(cut, Truncate) for cut in again.disk.trace):
            found += 1
            await cut_everywhere(again, limit=6)
        if found == 5:
            break
    assert found > 1


@pytest.mark.parametrize("seed", range(3))
async def test_a_disk_that_fills_up_and_then_loses_power_loses_nothing(seed: int) -> None:
    """Segments and pages are begun, find no room, and are taken back; later there is room."""
    run = Run(SimDisk(chance=random.Random(seed)), seed)

    async def fill(life: Life) -> None:
        await life.commit_and_wait()
        run.disk.capacity_bytes = 2**20 + 2**12 * (seed + 1)
        await life.clients(3, 4)
        run.disk.capacity_bytes = None
        await life.clients(3, 2)

    await run.live(fill)
    taken_back = [op for op in run.disk.trace if isinstance(op, Unlink) and segment_base(op.path.name)]
    assert taken_back
    await run.live(brief)
    await cut_everywhere(run, limit=20)


class NextBank(Bank):
    """The same shapes under a new version, so that the books can be compared."""

    schema: ClassVar[int] = 2

    @classmethod
    def upgrade(cls, snapshot: dict[str, list[Any]], from_schema: int) -> dict[str, list[Any]]:
        assert from_schema == 1
        return snapshot

    @classmethod
    def upgrade_change(cls, change: Any, from_schema: int) -> list[Any]:
        assert from_schema == 1
        return [change]


@pytest.mark.parametrize("story", [idle, brief])
@pytest.mark.parametrize("killed", [False, True])
async def test_an_upgrade_survives_power_cuts(story: Story, killed: bool) -> None:
    run = Run(SimDisk())
    await run.live(busy)
    await run.live(brief)
    if killed:
        run.kill(max(at for at, op in enumerate(run.disk.trace) if _writes_line(run.disk.volume, op)) + 1)
    run.bank = NextBank
    before = len(run.disk.trace)
    await run.live(story)
    await run.live(story)
    await cut_everywhere(run, limit=60, since=before)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 30), st.data())
async def test_any_cut_of_any_run_keeps_what_was_acknowledged(seed: int, data: st.DataObject) -> None:
    run = await record(seed)
    done = data.draw(st.integers(1, len(run.disk.trace)), label="operations done")
    volume = deepcopy(run.disk.start)
    for operation in run.disk.trace[:done]:
        volume.apply(operation)
    picks = [data.draw(st.integers(0, n - 1)) for n in volume.choices()]
    await check(volume.after(picks), run, done)


async def test_each_sync_that_fails_ends_the_process_and_loses_nothing() -> None:
    number, failed = 0, True
    while failed:
        number += 1
        run = Run(SimDisk(), seed=number)
        await run.live(brief)
        before = len(run.disk.trace)
        run.disk.fails = fails = _nth(number, lambda _: True)
        try:
            await run.live(busy)
            failed = False
        except (JournalLost, OSError):
            assert not fails(SyncFolder(FOLDER)), "it failed once, and everything since went well"
        run.disk.fails = lambda _: False
        await run.live(brief)
        await cut_everywhere(run, limit=4, since=before)
    assert number > 20, "each sync of a busy life had its turn"


async def test_after_a_failed_sync_nobody_is_told_that_anything_is_durable() -> None:
    disk, outcomes = SimDisk(), []

    async def client(shelf: Shelf[Bank]) -> None:
        shelf.commit(*shelf.book.transfer("ann", "bob", 1))
        try:
            await shelf.durable()
            outcomes.append("durable")
        except JournalLost:
            outcomes.append("lost")
            with pytest.raises(JournalLost):
                shelf.commit(*shelf.book.transfer("ann", "bob", 1))
            with pytest.raises(JournalLost):
                await shelf.durable(0)
            raise

    async def live() -> None:
        async with Shelf.open(FOLDER, Bank, disk=disk) as shelf:
            disk.fails = _nth(1, lambda _: True)
            async with asyncio.TaskGroup() as jobs:
                for _ in range(3):
                    jobs.create_task(client(shelf))

    with pytest.raises(JournalLost, match="Input/output error"):
        await live()
    assert outcomes
    assert set(outcomes) == {"lost"}


async def _unclean(seed: int) -> Run:
    """A run that ends in the middle of its life, with a good deal of journal."""
    run = Run(SimDisk(chance=random.Random(seed)), seed)
    await run.live(busy)
    before = len(run.disk.trace)
    await run.live(busy)
    lines = [at for at, op in enumerate(run.disk.trace) if at > before and _writes_line(run.disk.volume, op)]
    run.kill(lines[len(lines) // 2] + 2)
    return run


@pytest.mark.parametrize("seed", range(4))
async def test_damage_in_the_durable_part_is_refused_and_the_line_named(seed: int) -> None:
    run = await _unclean(seed)
    name = max(path.name for path in run.disk.volume.names if segment_base(path.name) is not None)
    data = run.disk.read(FOLDER / name)
    durable = read_segment(name, data).durable
    assert durable > HEAD_BYTES
    for offset in run.chance.sample(range(durable), 150):
        disk = SimDisk(deepcopy(run.disk.volume))
        seen = disk.volume.inodes[disk.volume.names[FOLDER / name]].seen
        seen[offset] ^= 1 << run.chance.randrange(8)
        line = data.count(b"\n", 0, offset) + 1
        with pytest.raises(
            Damaged, match=f"{name}, line {line} .*python -m nano.shelf repair /data"
        ) as refused:
            async with Shelf.open(FOLDER, Bank, disk=disk):
                pass
        assert (refused.value.damage.file, refused.value.damage.line) == (name, line)
        assert disk.trace == [], "nothing was changed"


@pytest.mark.parametrize("seed", range(4))
async def test_a_repair_survives_power_cuts_and_ends_at_the_last_good_line(seed: int) -> None:
    run = await _unclean(seed)
    name = max(path.name for path in run.disk.volume.names if segment_base(path.name) is not None)
    segment = read_segment(name, run.disk.read(FOLDER / name))
    disk = SimDisk(deepcopy(run.disk.volume))
    inode = disk.volume.inodes[disk.volume.names[FOLDER / name]]
    inode.seen[HEAD_BYTES + 60] ^= 1
    inode.dirty.add(0)
    inode.maybe.clear()
    inode.sync()
    disk = SimDisk(disk.volume)
    done = repair(disk, FOLDER)
    assert done is not None
    assert done.damage == Damage(name, 2, HEAD_BYTES, "length or checksum do not fit")
    volume = deepcopy(disk.start)
    for operation in disk.trace:
        volume.apply(operation)
        for left in volume.cuts(random.Random(seed), 12):
            again = SimDisk(left)
            repair(again, FOLDER)
            async with Shelf.open(FOLDER, Bank, disk=again) as shelf:
                assert shelf.revision == done.revision == segment.base
                assert shelf.book.as_bytes() == run.books[shelf.revision]
                assert segment.head
                assert shelf.incarnation != segment.head.incarnation, "those who saw more must read again"


def _leaves_out_line_syncs(run: Run, operation: Operation) -> bool:
    return not run.opening and _syncs_lines(run.disk.volume, operation)


def _leaves_out_head_syncs(run: Run, operation: Operation) -> bool:
    return (
        isinstance(operation, SyncFile)
        and _in_journal(run.disk.volume, operation)
        and not _syncs_lines(run.disk.volume, operation)
    )


def _leaves_out_page_syncs(run: Run, operation: Operation) -> bool:
    return isinstance(operation, SyncFile) and _name(run.disk.volume, operation).endswith(".json.new")


def _leaves_out_folder_syncs(run: Run, operation: Operation) -> bool:
    return isinstance(operation, SyncFolder)


def _leaves_out_the_folder_sync_between_renames(run: Run, operation: Operation) -> bool:
    return isinstance(operation, SyncFolder) and any(path.suffix == ".new" for path in run.disk.volume.names)


def _leaves_out_the_folder_sync_of_a_new_segment(run: Run, operation: Operation) -> bool:
    before = run.disk.trace[-1] if run.disk.trace else None
    return (
        isinstance(operation, SyncFolder)
        and isinstance(before, SyncFile)
        and _in_journal(run.disk.volume, before)
        and not _syncs_lines(run.disk.volume, before)
    )


def _leaves_out_the_sync_at_start(run: Run, operation: Operation) -> bool:
    return run.opening and _syncs_lines(run.disk.volume, operation)


def _leaves_out_writes_of_what_it_shows_already(run: Run, operation: Operation) -> bool:
    """What a clean page of a failed sync amounts to, unless it is written again."""
    return run.opening and _writes_line(run.disk.volume, operation)


@pytest.mark.parametrize(
    "lie",
    [
        _leaves_out_line_syncs,
        _leaves_out_head_syncs,
        _leaves_out_page_syncs,
        _leaves_out_folder_syncs,
        _leaves_out_the_folder_sync_between_renames,
        _leaves_out_the_folder_sync_of_a_new_segment,
        _leaves_out_the_sync_at_start,
        _leaves_out_writes_of_what_it_shows_already,
    ],
)
async def test_the_search_finds_each_sync_that_is_left_out(lie: Lie) -> None:
    with pytest.raises(Lost):  # noqa: PT012 - the same search, on one run after another, until it finds something
        for seed in range(8):
            await cut_everywhere(await record(seed, lie), limit=40)
