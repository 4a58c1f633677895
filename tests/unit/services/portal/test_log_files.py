"""The operation log on disk."""

import time
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path

import pytest

from nano.model.errors import NotFound, StorageFull
from services.portal.log_files import LogFiles
from services.portal.oplog import Line, Question, question, written


def everything() -> Question:
    now = datetime.now().astimezone().replace(tzinfo=None)
    return question(after="", before="", start=0, limit=100, now=now)


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[LogFiles]:
    made = LogFiles(tmp_path / "log", time.time_ns)
    await made.open()
    yield made
    made.close()


async def contents(log: LogFiles) -> list[str]:
    return [line.content for line in (await log.answer(everything())).lines]


async def test_lines_are_found_newest_first_where_the_document_keeps_them(
    log: LogFiles, tmp_path: Path
) -> None:
    lines = [await log.write(f"line {number}\nand more") for number in range(3)]
    assert await contents(log) == [f"line {number}\nand more" for number in (2, 1, 0)]
    stored = (tmp_path / "log" / lines[0].file).read_text()
    assert stored.splitlines()[0] == f"{lines[0].id},{lines[0].at_ns},line 0\\nand more"


async def test_a_half_line_is_cut_off_and_ids_go_on(log: LogFiles, tmp_path: Path) -> None:
    line = await log.write("whole")
    with (tmp_path / "log" / line.file).open("a") as file:
        file.write("20991231")
    again = LogFiles(tmp_path / "log", time.time_ns)
    await again.open()
    after = await again.write("after")
    assert after.id > line.id
    assert await contents(again) == ["after", "whole"]
    again.close()


@pytest.mark.parametrize("end", list("\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"))
async def test_no_text_forges_a_line(log: LogFiles, tmp_path: Path, end: str) -> None:
    """Not by anything that `str.splitlines` takes for the end of a line: not kept, and not read so either."""
    content = f"a{end}20261129120000001,1,admin.ann(10.0.0.1) : delete everything{end}"
    line = await log.write(content)
    assert await contents(log) == [line.content] == [content.replace(end, "\ufffd")]
    older = Line(f"{line.id[:14]}999", line.at_ns, content)
    with (tmp_path / "log" / line.file).open("ab") as file:
        file.write(written(older))
    assert await contents(log) == [content, line.content]
    assert await log.remove([line.id, older.id]) == 2
    assert await contents(log) == []


async def test_a_removal_leaves_the_file_as_private_as_it_was(log: LogFiles, tmp_path: Path) -> None:
    first, second = await log.write("first"), await log.write("second")
    path = tmp_path / "log" / second.file
    before = path.stat().st_mode
    await log.remove([first.id])
    assert path.stat().st_mode == before
    assert not before & 0o007


async def test_removed_lines_are_gone_and_unknown_ones_of_that_day_are_ignored(log: LogFiles) -> None:
    first, second = await log.write("first"), await log.write("second")
    unknown = f"{first.id[:14]}999"
    assert await log.remove([first.id, unknown]) == 1
    assert await contents(log) == ["second"]
    with pytest.raises(NotFound):
        await log.remove(["19990101000000001"])
    assert (await log.write("third")).id > second.id


async def test_a_disk_that_refuses_is_an_error_and_leaves_no_half_line(tmp_path: Path) -> None:
    log = LogFiles(tmp_path / "log", time.time_ns)
    await log.open()
    line = await log.write("fits")
    path = tmp_path / "log" / line.file
    path.rename(path.with_suffix(".kept"))
    path.symlink_to("/dev/full")
    with pytest.raises(StorageFull, match="nothing was done"):
        await log.write("does not")
    path.unlink()
    path.with_suffix(".kept").rename(path)
    assert await contents(log) == ["fits"]
    log.close()
