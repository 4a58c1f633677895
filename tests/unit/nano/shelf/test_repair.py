"""The command that a damaged shelf names."""

import os
from pathlib import Path

import pytest

from nano.model.errors import Stale
from nano.shelf import Cursor, Damaged, Shelf
from nano.shelf.__main__ import main
from nano.shelf.journal import HEAD_BYTES
from tests.support.bank import Bank
from tests.support.disk import SimDisk


async def killed_shelf(folder: Path, snapshots: int, commits: int) -> Cursor:
    """Some snapshots, some journal behind the last one; returns where a follower stood at the end."""
    disk = SimDisk()
    for _ in range(snapshots):
        async with Shelf.open(Path("/"), Bank, disk=disk) as shelf:
            shelf.commit(*shelf.book.transfer("ann", "bob", 1))
    async with Shelf.open(Path("/"), Bank, disk=disk) as shelf:
        for _ in range(commits):
            await shelf.durable(shelf.commit(*shelf.book.transfer("ann", "bob", 1)))
        killed, cursor = disk.after_kill(len(disk.trace)), shelf.cursor
    folder.mkdir()
    for name in killed.names(Path("/")):
        (folder / name).write_bytes(killed.read(Path("/") / name))
    return cursor


def break_line(path: Path, number: int) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    lines[number - 1] = lines[number - 1].replace(b'"sum":"', b'"sum":"x')
    path.write_bytes(b"".join(lines))


async def revision_of(folder: Path) -> int:
    async with Shelf.open(folder, Bank) as shelf:
        assert sum(account.cents for account in shelf.book.accounts.values()) == 0
        assert len(shelf.book.transfers) == shelf.revision
        return shelf.revision


async def test_what_is_whole_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "data"
    await killed_shelf(folder, 2, 3)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert main(["repair", str(folder)]) == 0
    assert "is whole: nothing was changed" in capsys.readouterr().out
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "shelf.lock"} == before


async def test_history_is_cut_at_the_damage_a_copy_is_kept_and_followers_must_read_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "data"
    cursor = await killed_shelf(folder, 2, 6)
    journal = folder / "journal-000000000002.jsonl"
    break_line(journal, 5)
    damaged = journal.read_bytes()
    with pytest.raises(Damaged, match=r"journal-000000000002\.jsonl, line 5"):
        await revision_of(folder)
    assert main(["repair", str(folder)]) == 0
    told = capsys.readouterr().out
    assert "journal-000000000002.jsonl, line 5: " in told
    assert "history now ends at revision 5" in told
    assert (folder / "damaged-1-journal-000000000002.jsonl").read_bytes() == damaged
    assert await revision_of(folder) == 5
    async with Shelf.open(folder, Bank) as shelf:
        for _ in range(9):
            await shelf.durable(shelf.commit(*shelf.book.transfer("ann", "bob", 1)))
        assert shelf.revision > cursor.revision
        with pytest.raises(Stale):
            await anext(shelf.follow(cursor))


async def test_a_damaged_head_takes_its_file_back_to_the_snapshot(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    await killed_shelf(folder, 2, 3)
    break_line(folder / "journal-000000000002.jsonl", 1)
    assert main(["repair", str(folder)]) == 0
    assert await revision_of(folder) == 2


async def test_a_snapshot_ahead_of_the_journal_is_worth_more_than_the_journal(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    await killed_shelf(folder, 3, 0)
    (folder / "journal-000000000003.jsonl").unlink()
    journal = folder / "journal-000000000002.jsonl"
    journal.write_bytes(journal.read_bytes()[:HEAD_BYTES])
    with pytest.raises(Damaged, match="the journal ends at 2, a snapshot shows 3"):
        await revision_of(folder)
    assert main(["repair", str(folder)]) == 0
    assert await revision_of(folder) == 3


async def test_a_page_of_a_later_time_than_the_cut_is_set_aside(tmp_path: Path) -> None:
    """The newest set is broken, and so is the journal that would lead to it from the one before."""
    folder = tmp_path / "data"
    await killed_shelf(folder, 3, 0)
    (folder / "accounts.json").write_text("gone")
    (folder / "journal-000000000003.jsonl").unlink()
    journal = folder / "journal-000000000002.jsonl"
    journal.write_bytes(journal.read_bytes()[:HEAD_BYTES])
    assert main(["repair", str(folder)]) == 0
    assert not (folder / "transfers.json").exists()
    assert (folder / "damaged-1-transfers.json").exists()
    assert await revision_of(folder) == 2


async def test_where_nothing_whole_is_left_it_says_so_and_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "data"
    await killed_shelf(folder, 4, 1)
    for kind in ("accounts", "transfers"):
        for generation in ("", ".previous"):
            (folder / f"{kind}{generation}.json").write_text("gone")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert main(["repair", str(folder)]) == 1
    assert "nothing whole from before the damage: restore a backup" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "shelf.lock"} == before


async def test_a_shelf_in_use_is_not_repaired(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with Shelf.open(tmp_path, Bank):
        assert main(["repair", str(tmp_path)]) == 1
    assert f"is open in process {os.getpid()}" in capsys.readouterr().err


def test_a_folder_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    assert main(["repair", str(tmp_path / "none")]) == 1
    assert not (tmp_path / "none").exists()
