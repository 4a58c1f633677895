"""The shelf as its users see it; what survives which disaster is proved in test_power_cut.py."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any, ClassVar, Self

import pytest

from nano.model.errors import Busy, Conflict, Corrupt, Exhausted, Stale, StorageFull, Unsupported
from nano.shelf import Cursor, Damaged, JournalLost, Shelf
from tests.support.bank import Bank, Moved, Opened, Transfer
from tests.support.disk import SimDisk, SyncFile

FOLDER = Path("/data")


def pay(shelf: Shelf[Bank], cents: int = 1, memo: str = "") -> int:
    return shelf.commit(*shelf.book.transfer("ann", "bob", cents, memo))


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def kept(folder: Path) -> bytes:
    async with Shelf.open(folder, Bank) as shelf:
        return shelf.book.as_bytes()


async def test_a_commit_is_seen_at_once_durable_a_little_later_and_there_after_a_restart(
    tmp_path: Path,
) -> None:
    async with Shelf.open(tmp_path / "bank", Bank) as shelf:
        assert (shelf.revision, shelf.durable_revision) == (0, 0)
        assert pay(shelf, 5) == 1
        assert shelf.book.accounts["bob"].cents == 5
        assert shelf.durable_revision == 0
        await shelf.durable()
        assert shelf.durable_revision == 1
        book, incarnation = shelf.book.as_bytes(), shelf.incarnation
    async with Shelf.open(tmp_path / "bank", Bank) as shelf:
        assert shelf.book.as_bytes() == book
        assert (shelf.revision, shelf.incarnation) == (1, incarnation)


async def test_commits_that_nobody_waits_for_are_written_on_leaving(tmp_path: Path) -> None:
    async with Shelf.open(tmp_path, Bank) as shelf:
        for _ in range(10):
            pay(shelf)
        book = shelf.book.as_bytes()
    assert await kept(tmp_path) == book


async def test_an_empty_commit_changes_nothing(tmp_path: Path) -> None:
    async with Shelf.open(tmp_path, Bank) as shelf:
        assert shelf.commit() == 0
        await shelf.durable()


async def test_what_cannot_be_written_changes_nothing(tmp_path: Path) -> None:
    async with Shelf.open(tmp_path, Bank) as shelf:
        with pytest.raises(TypeError):
            shelf.commit(Opened("ann"), object())
        assert shelf.revision == 0
        assert shelf.book.accounts == {}


async def test_many_at_once_share_few_syncs() -> None:
    disk = SimDisk()
    async with Shelf.open(FOLDER, Bank, disk=disk) as shelf:

        async def client() -> None:
            for _ in range(10):
                await shelf.durable(pay(shelf))

        before = len(disk.trace)
        async with asyncio.TaskGroup() as jobs:
            for _ in range(50):
                jobs.create_task(client())
        syncs = sum(isinstance(operation, SyncFile) for operation in disk.trace[before:])
        assert shelf.durable_revision == 500
        assert syncs <= 20


async def test_nobody_can_wait_for_a_revision_that_does_not_exist(tmp_path: Path) -> None:
    async with Shelf.open(tmp_path, Bank) as shelf:
        with pytest.raises(ValueError, match="revision 1 does not exist yet, the last one is 0"):
            await shelf.durable(1)


async def test_a_waiter_that_gives_up_does_not_disturb_the_others(tmp_path: Path) -> None:
    async with Shelf.open(tmp_path, Bank) as shelf, asyncio.TaskGroup() as jobs:
        revision = pay(shelf)
        impatient = jobs.create_task(shelf.durable(revision))
        patient = jobs.create_task(shelf.durable(revision))
        await asyncio.sleep(0)
        impatient.cancel()
        await patient
        assert shelf.durable_revision == revision


async def test_a_folder_is_open_once(tmp_path: Path) -> None:
    async with Shelf.open(tmp_path, Bank):
        with pytest.raises(Busy, match=f"open in process {os.getpid()}"):
            async with Shelf.open(tmp_path, Bank):
                pass
    await kept(tmp_path)


async def test_a_shelf_that_was_left_takes_no_commits(tmp_path: Path) -> None:
    async with Shelf.open(tmp_path, Bank) as shelf:
        pass
    with pytest.raises(Conflict):
        pay(shelf)


async def test_what_the_body_raises_comes_out_as_it_is_and_what_it_committed_stays(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="ours"):  # noqa: PT012 - the body is what is tested
        async with Shelf.open(tmp_path, Bank) as shelf:
            pay(shelf, 7)
            raise KeyError("ours")
    assert json.loads(await kept(tmp_path))["accounts"] == [
        {"owner": "ann", "cents": -7},
        {"owner": "bob", "cents": 7},
    ]


async def test_a_change_that_fails_half_way_ends_the_process_and_is_not_kept(tmp_path: Path) -> None:
    async def live() -> None:
        async with Shelf.open(tmp_path, Bank) as shelf:
            await shelf.durable(pay(shelf))
            with pytest.raises(KeyError):
                shelf.commit(Opened("eve"), Moved(Transfer(2, "nobody", "eve", 1, "")))
            with pytest.raises(JournalLost, match="apply"):
                await shelf.durable()
            await asyncio.Event().wait()

    with pytest.raises(JournalLost, match="apply"):
        await live()
    async with Shelf.open(tmp_path, Bank) as shelf:
        assert shelf.revision == 1
        assert set(shelf.book.accounts) == {"ann", "bob"}


async def test_snapshots_are_written_behind_and_old_journal_goes(tmp_path: Path) -> None:
    async with Shelf.open(tmp_path, Bank, snapshot_after_bytes=2000) as shelf:
        for _ in range(100):
            await shelf.durable(pay(shelf, memo="x" * 100))
        while "transfers.previous.json" not in names_in(tmp_path):
            await shelf.durable(pay(shelf))
        page = json.loads((tmp_path / "transfers.json").read_text())
        assert len(page["nouns"]) == page["revision"]
        assert page["set"] == ["accounts", "transfers"]
        book = shelf.book.as_bytes()
    names = names_in(tmp_path)
    assert [name for name in names if name.endswith(".json")] == [
        "accounts.json",
        "accounts.previous.json",
        "transfers.json",
        "transfers.previous.json",
    ]
    assert "journal-000000000000.jsonl" not in names
    assert len(names) == 4 + 2 + 1, "two generations, the journal since the older one, the lock"
    assert await kept(tmp_path) == book


async def test_opening_and_closing_writes_no_more_snapshots(tmp_path: Path) -> None:
    async with Shelf.open(tmp_path, Bank) as shelf:
        pay(shelf)
    before = {
        name: (tmp_path / name).stat().st_mtime_ns for name in names_in(tmp_path) if name.endswith(".json")
    }
    for _ in range(3):
        await kept(tmp_path)
    assert before == {name: (tmp_path / name).stat().st_mtime_ns for name in before}


async def take(following: AsyncIterator[tuple[int, tuple[Any, ...]]], count: int) -> list[int]:
    found = []
    async for revision, changes in following:
        assert changes
        found.append(revision)
        if len(found) == count:
            break
    return found


async def test_a_follower_sees_each_durable_commit_once_and_in_order_until_the_shelf_is_left() -> None:
    seen: list[int] = []
    disk = SimDisk()

    async def follow(shelf: Shelf[Bank]) -> None:
        async for revision, changes in shelf.follow(Cursor(shelf.incarnation, 0)):
            assert revision <= shelf.durable_revision
            assert isinstance(changes[-1], Moved)
            seen.append(revision)

    async with asyncio.TaskGroup() as jobs, Shelf.open(FOLDER, Bank, disk=disk) as shelf:
        jobs.create_task(follow(shelf))
        for number in range(60):
            pay(shelf)
            if number % 7 == 0:
                await shelf.durable()
    assert seen == list(range(1, 61))


async def test_a_follower_goes_on_after_a_restart_that_replayed_what_it_missed() -> None:
    disk = SimDisk()
    async with Shelf.open(FOLDER, Bank, disk=disk) as shelf:
        for _ in range(5):
            await shelf.durable(pay(shelf))
        cursor = Cursor(shelf.incarnation, 2)
        killed = disk.after_kill(len(disk.trace))
    async with Shelf.open(FOLDER, Bank, disk=killed) as shelf, aclosing(shelf.follow(cursor)) as following:
        assert await take(following, 3) == [3, 4, 5]


async def test_a_cursor_that_cannot_be_continued_is_stale(tmp_path: Path) -> None:
    async with Shelf.open(tmp_path, Bank, history_bytes=1000) as shelf:
        for _ in range(30):
            await shelf.durable(pay(shelf))
        for bad in (
            Cursor(shelf.incarnation, 0),  # too long ago
            Cursor(shelf.incarnation, 31),  # not yet
            Cursor("another", 30),
        ):
            with pytest.raises(Stale, match="read everything again"):
                await take(shelf.follow(bad), 1)
        assert await take(shelf.follow(Cursor(shelf.incarnation, 28)), 2) == [29, 30]


async def test_a_follower_that_falls_behind_the_bounded_history_is_told(tmp_path: Path) -> None:
    async with Shelf.open(tmp_path, Bank, history_bytes=1000) as shelf:
        async with aclosing(shelf.follow(shelf.cursor)) as following:
            await shelf.durable(pay(shelf))
            assert await take(following, 1) == [1]
        slow = shelf.follow(shelf.cursor)
        await shelf.durable(pay(shelf))
        assert (await anext(slow))[0] == 2
        for _ in range(30):
            await shelf.durable(pay(shelf))
        with pytest.raises(Stale):
            await anext(slow)


async def test_a_full_disk_refuses_commits_early_reads_on_and_takes_them_again_when_there_is_room() -> None:
    disk = SimDisk()
    disk.capacity_bytes = 2**20 + 2**18
    async with Shelf.open(FOLDER, Bank, disk=disk) as shelf:
        paid = 0
        with pytest.raises(StorageFull, match="the disk of /data has no room"):  # noqa: PT012 - until it is full
            while True:
                pay(shelf, memo="x" * 10_000)
                paid += 1
                await shelf.durable()
        assert 0 < paid < 110
        assert shelf.durable_revision == shelf.revision == len(shelf.book.transfers) == paid
        with pytest.raises(StorageFull):
            pay(shelf, memo="x" * 10_000)
        await shelf.durable()
        assert shelf.book.accounts["bob"].cents == paid
        disk.capacity_bytes = 2**24
        assert pay(shelf, memo="x" * 10_000) == paid + 1
        await shelf.durable()
        book = shelf.book.as_bytes()
    async with Shelf.open(FOLDER, Bank, disk=disk) as shelf:
        assert shelf.book.as_bytes() == book


async def test_a_full_disk_puts_snapshots_off_and_loses_nothing() -> None:
    disk = SimDisk()
    async with Shelf.open(FOLDER, Bank, disk=disk, snapshot_after_bytes=3000) as shelf:
        await shelf.durable(pay(shelf))
        disk.capacity_bytes = 2**20 + 2**12
        for _ in range(50):
            await shelf.durable(pay(shelf, memo="x" * 300))
        book = shelf.book.as_bytes()
    assert not [name for name in disk.names(FOLDER) if ".json.new" in name or name.endswith(".json")]
    async with Shelf.open(FOLDER, Bank, disk=disk) as shelf:
        assert shelf.book.as_bytes() == book
        disk.capacity_bytes = None
        pay(shelf)
    assert "accounts.json" in disk.names(FOLDER)


async def test_a_shelf_opens_on_a_full_disk() -> None:
    disk = SimDisk()
    async with Shelf.open(FOLDER, Bank, disk=disk) as shelf:
        pay(shelf)
    disk.capacity_bytes = 0
    async with Shelf.open(FOLDER, Bank, disk=disk) as shelf:
        assert len(shelf.book.transfers) == 1
        with pytest.raises(StorageFull):
            pay(shelf)


async def test_a_new_shelf_on_a_full_disk_says_so() -> None:
    disk = SimDisk()
    disk.capacity_bytes = 0
    with pytest.raises(StorageFull):
        async with Shelf.open(FOLDER, Bank, disk=disk):
            pass
    assert disk.names(FOLDER) == []


async def test_a_disk_that_cannot_keep_up_makes_commits_fail_instead_of_memory_grow() -> None:
    async with Shelf.open(FOLDER, Bank, disk=SimDisk()) as shelf:
        memo, taken = "x" * 2**20, 0
        with pytest.raises(Exhausted) as refused:  # noqa: PT012 - until the queue is full
            while True:
                pay(shelf, memo=memo)
                taken += 1
        assert refused.value.retry_after_s > 0
        assert taken == shelf.revision == 63
        await shelf.durable()
        assert pay(shelf) == 64


class BankOfTwo(Bank):
    """The next version: transfers carry their cents as text, and account names are capitals."""

    schema: ClassVar[int] = 2

    @classmethod
    def upgrade(cls, snapshot: dict[str, list[Any]], from_schema: int) -> dict[str, list[Any]]:
        assert from_schema == 1
        return {kind: [_capitals(noun) for noun in nouns] for kind, nouns in snapshot.items()}

    @classmethod
    def upgrade_change(cls, change: Any, from_schema: int) -> list[Any]:
        assert from_schema == 1
        if "transfer" in change:
            return [change | {"transfer": _capitals(change["transfer"])}]
        return [_capitals(change)]


class StubbornBank(Bank):
    schema: ClassVar[int] = 2


def _capitals(noun: dict[str, Any]) -> dict[str, Any]:
    return {
        key: value.upper() if key in {"owner", "source", "target"} else value for key, value in noun.items()
    }


async def _old_shelf() -> SimDisk:
    """A snapshot and some journal behind it, of schema 1, left by a kill."""
    disk = SimDisk()
    async with Shelf.open(FOLDER, Bank, disk=disk) as shelf:
        pay(shelf, 3)
    async with Shelf.open(FOLDER, Bank, disk=disk) as shelf:
        await shelf.durable(pay(shelf, 4))
        return disk.after_kill(len(disk.trace))


async def test_an_older_schema_is_upgraded_snapshot_and_journal_alike() -> None:
    disk = await _old_shelf()
    for revision in (2, 3, 4):
        async with Shelf.open(FOLDER, BankOfTwo, disk=disk) as shelf:
            assert set(shelf.book.accounts) == {"ANN", "BOB"}
            assert shelf.book.accounts["BOB"].cents == 7 + 10 * (revision - 2)
            assert shelf.commit(*shelf.book.transfer("ANN", "BOB", 10)) == revision + 1
            await shelf.durable()
            disk = disk.after_kill(len(disk.trace))
    async with Shelf.open(FOLDER, BankOfTwo, disk=disk):
        pass
    assert json.loads(disk.read(FOLDER / "accounts.json"))["schema"] == 2


async def test_an_upgrade_without_a_commit_can_be_done_again() -> None:
    disk = SimDisk()
    async with Shelf.open(FOLDER, Bank, disk=disk) as shelf:
        pay(shelf, 3)
    for _ in range(2):
        async with Shelf.open(FOLDER, BankOfTwo, disk=disk) as shelf:
            assert shelf.book.accounts["BOB"].cents == 3


async def test_a_newer_schema_is_refused_and_nothing_is_changed() -> None:
    disk = await _old_shelf()
    async with Shelf.open(FOLDER, BankOfTwo, disk=disk):
        pass
    before = len(disk.trace)
    with pytest.raises(Unsupported, match=r"written by a newer Nano \(schema 2, .* start that version"):
        async with Shelf.open(FOLDER, Bank, disk=disk):
            pass
    assert len(disk.trace) == before


async def test_an_older_schema_that_the_book_cannot_upgrade_is_refused() -> None:
    with pytest.raises(Unsupported, match=r"StubbornBank cannot upgrade it to 2: it has no upgrade\(\)"):
        async with Shelf.open(FOLDER, StubbornBank, disk=await _old_shelf()):
            pass


class Poor(Bank):
    """A book that knows one kind less, and one change less."""

    kinds: ClassVar[Any] = {"accounts": Bank.kinds["accounts"]}
    changes: ClassVar[Any] = Opened

    @classmethod
    def restore(cls, snapshot: Mapping[str, Sequence[Any]]) -> Self:
        return super().restore({**snapshot, "transfers": ()})


async def test_a_kind_or_a_change_that_the_book_does_not_know_is_refused(tmp_path: Path) -> None:
    disk = SimDisk()
    async with Shelf.open(FOLDER, Bank, disk=disk) as shelf:
        await shelf.durable(pay(shelf))
        killed = disk.after_kill(len(disk.trace))
    with pytest.raises(Corrupt, match="holds transfers, which its book does not know"):
        async with Shelf.open(FOLDER, Poor, disk=disk):
            pass
    with pytest.raises(Corrupt, match="line 2: not a change that the book knows"):
        async with Shelf.open(FOLDER, Poor, disk=killed):
            pass


async def two_generations(folder: Path) -> bytes:
    for _ in range(2):
        async with Shelf.open(folder, Bank) as shelf:
            pay(shelf)
            book = shelf.book.as_bytes()
    return book


async def test_a_snapshot_that_is_not_whole_is_passed_over_for_the_one_before_and_the_journal(
    tmp_path: Path,
) -> None:
    book = await two_generations(tmp_path)
    (tmp_path / "accounts.json").write_text("gone")
    assert await kept(tmp_path) == book
    async with Shelf.open(tmp_path, Bank) as shelf:
        pay(shelf)
        book = shelf.book.as_bytes()
    assert json.loads((tmp_path / "accounts.json").read_text())["revision"] == 3
    assert await kept(tmp_path) == book


async def test_without_any_whole_snapshot_the_error_names_the_files(tmp_path: Path) -> None:
    await two_generations(tmp_path)
    async with Shelf.open(tmp_path, Bank) as shelf:
        pay(shelf)
    for name in ("accounts.json", "transfers.previous.json"):
        (tmp_path / name).write_text("gone")
    with pytest.raises(
        Damaged, match=r"accounts\.json: the checksum does not fit.*python -m nano\.shelf repair"
    ):
        await kept(tmp_path)


async def test_a_lost_journal_is_no_new_shelf(tmp_path: Path) -> None:
    await two_generations(tmp_path)
    for name in names_in(tmp_path):
        if name.startswith("journal"):
            (tmp_path / name).unlink()
    with pytest.raises(Damaged, match=r"journal-000000000002\.jsonl, line 1 .* the file is missing"):
        await kept(tmp_path)


async def test_other_files_may_live_in_the_folder(tmp_path: Path) -> None:
    (tmp_path / "notes.json").write_text("{}")
    (tmp_path / "sub").mkdir()
    book = await two_generations(tmp_path)
    assert await kept(tmp_path) == book
    assert (tmp_path / "notes.json").read_text() == "{}"
