"""The shelf in processes of its own, on the real disk: killed, failing, full, and wanted twice."""

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nano.model.errors import Busy
from nano.shelf import Shelf
from tests.support.bank import Bank

TELLER = [sys.executable, "-m", "tests.support.teller"]


@contextmanager
def teller(folder: Path, how: str) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        [*TELLER, str(folder), how], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=Path.cwd()
    ) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == b"open\n"
            yield process
        finally:
            process.kill()


async def book_in(folder: Path) -> tuple[int, int]:
    """The revision of the bank, and what bob has: one cent for each, or something was lost or done twice."""
    async with Shelf.open(folder / "bank", Bank) as shelf:
        cents = shelf.book.accounts["bob"].cents if shelf.revision else 0
        assert sum(account.cents for account in shelf.book.accounts.values()) == 0
        return shelf.revision, cents


async def test_kill_9_again_and_again_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    for life in range(1, 7):
        with teller(tmp_path, "forever") as process:
            assert process.stdout
            told = [process.stdout.readline() for _ in range(150 * life)]
            process.kill()
            told += [line for line in process.stdout.read().splitlines(keepends=True) if line.endswith(b"\n")]
        acked = max(int(line) for line in told)
        revision, cents = await book_in(tmp_path)
        assert revision == cents
        assert acked <= revision <= acked + 8, (
            "each of the eight clients has one commit under way at the most"
        )
    assert (tmp_path / "bank" / "transfers.previous.json").exists(), "snapshots were being written meanwhile"


async def test_a_sync_that_fails_ends_the_process_and_loses_nothing_that_was_acknowledged(
    tmp_path: Path,
) -> None:
    with teller(tmp_path, "eio") as process:
        output, errors = process.communicate()
    assert process.returncode not in {0, -9}
    assert b"JournalLost" in errors
    assert b"Input/output error" in errors
    revision, cents = await book_in(tmp_path)
    assert revision == cents >= max(int(line) for line in output.split())


async def test_the_second_process_is_told_who_has_the_folder(tmp_path: Path) -> None:
    with teller(tmp_path, "forever") as process:
        with pytest.raises(Busy, match=f"{tmp_path}/bank is open in process {process.pid}"):
            await book_in(tmp_path)
        process.kill()
        process.wait()
        await book_in(tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system: needs root")
def test_a_full_file_system_refuses_commits_and_takes_them_again_when_there_is_room(tmp_path: Path) -> None:
    """In a mount namespace of its own, which goes with the process."""
    folder = shlex.quote(str(tmp_path))
    script = f"mount -t tmpfs -o size=6m none {folder} && exec {shlex.join(TELLER)} {folder} full"
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    opened, acked, found = done.stdout.split()
    assert opened == "open"
    assert int(acked) == int(found) > 20
