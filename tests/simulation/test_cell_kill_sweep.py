"""A cell that is killed anywhere ends each task whole, or leaves nothing of it.

A task is run once with every touch of the world marked. At each mark the cell's folder is copied: that is
what a kill at this moment leaves on the disk. Each copy is then brought up again, and the scheduler either
goes on with the task or takes it back.
"""

import contextlib
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from nano.model.action import AnyAction, Progress
from nano.model.instance import Power
from tests.support.cell import INSTANCE, MAC, SPEC, CellRig, build, cell, create, delete, start

CREATION = (create(), build(), start())


def name_of(action: AnyAction) -> str:
    return str(type(action).__struct_config__.tag)


class Kills:
    """A copy of the cell's folder for each mark."""

    def __init__(self, folder: Path, copies: Path) -> None:
        self.copies: list[tuple[str, Path]] = []
        self._folder = folder
        self._target = copies

    def __call__(self, mark: str) -> None:
        copy = self._target / f"{len(self.copies):03d}"
        # what another thread removes meanwhile is gone at this moment, which a kill may just as well see
        with contextlib.suppress(shutil.Error):  # so it reports a folder that went; all else is copied
            shutil.copytree(self._folder, copy, copy_function=_copied_if_there)
        self.copies.append((mark, copy))


def _copied_if_there(source: str, target: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        shutil.copy2(source, target)


async def killed_in_creation(folder: Path) -> list[tuple[str, Path]]:
    kills = Kills(folder / "cell", folder / "kills")
    (folder / "cell").mkdir()
    async with cell(folder / "cell", point=kills) as rig:
        for action in CREATION:
            done = await rig.step(action)
            assert done.progress is Progress.DONE
        marks = list(kills.copies)
    assert len(marks) > 20
    return marks


@asynccontextmanager
async def next_life(copy: Path) -> AsyncIterator[CellRig]:
    async with cell(copy) as rig:
        await rig.settled()
        yield rig


async def test_a_creation_that_goes_on_after_a_kill_anywhere_ends_whole(tmp_path: Path) -> None:
    for mark, copy in await killed_in_creation(tmp_path):
        async with next_life(copy) as rig:
            for action in CREATION:
                done = await rig.step(action)
                assert done.progress is Progress.DONE, (mark, copy, done.fault)
            assert (await rig.sim.domain(INSTANCE)).power is Power.RUNNING, mark
            assert await rig.traces() == {
                "domains": [INSTANCE],
                "volumes": [INSTANCE],
                "instances": [INSTANCE],
                "bindings": [MAC],
                "statuses": [INSTANCE],
            }, mark
            assert rig.disks.bases() == rig.book.bases()


async def test_a_creation_that_is_taken_back_after_a_kill_anywhere_leaves_no_trace(tmp_path: Path) -> None:
    for mark, copy in await killed_in_creation(tmp_path):
        async with next_life(copy) as rig:
            for action in reversed(CREATION[:2]):
                back = await rig.back(name_of(action))
                assert back.progress is Progress.UNDONE, (mark, copy, back.fault)
            assert await rig.traces() == {}, mark
            await rig.callee.forget([record.task for record in rig.book.outcomes])
            assert len(rig.book.outcomes) == 0


async def test_one_that_starts_by_itself_does_so_after_a_kill_anywhere(tmp_path: Path) -> None:
    spec = replace(SPEC, auto_start=True)
    (tmp_path / "cell").mkdir()
    kills = Kills(tmp_path / "cell", tmp_path / "kills")
    async with cell(tmp_path / "cell", point=kills) as rig:
        await rig.made(spec)
        await rig.started_by_itself()
        marks = list(kills.copies)
    for mark, copy in marks:
        async with next_life(copy) as rig:
            await rig.made(spec)
            status = await rig.started_by_itself()
            assert status.reason == "", mark


async def test_an_undo_that_is_killed_anywhere_is_finished_by_the_next_life(tmp_path: Path) -> None:
    folder = tmp_path / "cell"
    kills = Kills(folder, tmp_path / "kills")
    async with cell(folder) as rig:
        await rig.made()
        await rig.step(start())
    async with cell(folder, point=kills) as rig:
        for action in reversed(CREATION[:2]):
            assert (await rig.back(name_of(action))).progress is Progress.UNDONE
        marks = list(kills.copies)
    assert len(marks) > 8
    for mark, copy in marks:
        async with next_life(copy) as rig:
            for action in reversed(CREATION[:2]):
                assert (await rig.back(name_of(action))).progress is Progress.UNDONE, mark
            assert await rig.traces() == {}, mark


@pytest.mark.parametrize("running", [True, False], ids=["running", "stopped"])
async def test_a_deletion_that_is_killed_anywhere_ends_whole(tmp_path: Path, *, running: bool) -> None:
    folder = tmp_path / "cell"
    kills = Kills(folder, tmp_path / "kills")
    async with cell(folder) as rig:
        await rig.made()
        if running:
            await rig.step(start())
    async with cell(folder, point=kills) as rig:
        assert (await rig.step(delete())).progress is Progress.DONE
        marks = list(kills.copies)
    assert len(marks) > 6
    for mark, copy in marks:
        async with next_life(copy) as rig:
            assert (await rig.step(delete())).progress is Progress.DONE, mark
            assert await rig.traces() == {}, mark
