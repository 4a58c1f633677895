"""The parts of a service that make it die, or stand still, at exactly one point of its work.

Its callee and its journal, put in the place of the plain ones by `tests.support.nursery` in the service's own
process: the product's code has no hooks. They tell each point to the socket FOLDER/told. FOLDER/SERVICE.doom
names the one that is the end; it is read at each point, so that one life may serve several trials, and it is
gone when its hour has come.

Points: `line` (one line of the journal has become durable); `begin STEP entering` and `leaving`, likewise
`undo STEP` and `forget`; `job STEP entering`, `worked` (the world is changed, the book is not) and `leaving`
(the book is too, nobody was told), likewise `back STEP` for the job of an undo.
"""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from nano.model.action import Action, Outcome, Progress
from nano.model.ids import TaskId
from nano.saga import callee as saga_callee
from nano.saga.handlers import Did, Report, errand
from nano.saga.outcomes import OutcomeRecord
from nano.saga.step import Changes
from nano.shelf import folder as shelf_folder
from nano.shelf.journal import Entry


class Doom(msgspec.Struct, frozen=True):
    """What shall happen at the `count`th time that the service reaches `at`."""

    id: str
    at: str
    count: int = 1
    holds: bool = False
    """It stands still there until it is cancelled, instead of dying."""


class Told(msgspec.Struct, frozen=True):
    """A point was reached."""

    service: str
    at: str
    text: str = ""
    """Of a line: the changes in it."""
    doom: str = ""
    """The id of the doom that strikes here."""


class Fate:
    """What happens to one service, and telling it."""

    mine: ClassVar["Fate"]
    """Of this process; set before its service runs."""

    def __init__(self, folder: Path, service: str) -> None:
        self._service = service
        self._file = folder / f"{service}.doom"
        self._told = str(folder / "told")
        self._teller = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._seen: dict[str, int] = {}
        """How often the point of each doom was reached."""

    def reached(self, at: str, text: str = "") -> bool:
        """Tell it. Does not return where death is meant to be; says whether to stand still."""
        doom = self._strikes(at)
        told = msgspec.json.encode(Told(self._service, at, text, doom.id if doom else ""))
        with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):  # the test is over
            self._teller.sendto(told, self._told)
        if doom is None:
            return False
        if not doom.holds:
            os.kill(os.getpid(), signal.SIGKILL)
        return True

    async def reached_or_held(self, at: str) -> None:
        if self.reached(at):
            await asyncio.Event().wait()

    def _strikes(self, at: str) -> Doom | None:
        try:
            doom = msgspec.json.decode(self._file.read_bytes(), type=Doom)
        except FileNotFoundError:
            return None
        if doom.at != at:
            return None
        self._seen[doom.id] = self._seen.get(doom.id, 0) + 1
        if self._seen[doom.id] < doom.count:
            return None
        try:
            self._file.unlink()
        except FileNotFoundError:  # it was called off in this moment
            return None
        return doom


class DoomedCallee(saga_callee.Callee):
    """The callee, telling of each call and each job."""

    async def begin(self, task: TaskId, step: str, action: Action, deadline_ms: int = 0) -> Outcome:
        await Fate.mine.reached_or_held(f"begin {step} entering")
        outcome = await super().begin(task, step, action, deadline_ms)
        await Fate.mine.reached_or_held(f"begin {step} leaving")
        return outcome

    async def undo(self, task: TaskId, step: str) -> Outcome:
        await Fate.mine.reached_or_held(f"undo {step} entering")
        outcome = await super().undo(task, step)
        await Fate.mine.reached_or_held(f"undo {step} leaving")
        return outcome

    async def forget(self, tasks: Iterable[TaskId]) -> None:
        await Fate.mine.reached_or_held("forget entering")
        await super().forget(tasks)
        await Fate.mine.reached_or_held("forget leaving")

    def job(
        self,
        kind: type[Any],
        run: Callable[[Any, Report], Awaitable[Did]],
        undo: Callable[[Any], Awaitable[Changes]] | None = None,
    ) -> None:
        async def run_doomed(action: Any, report: Report) -> Did:
            await Fate.mine.reached_or_held(f"job {errand.get().step} entering")
            did = await run(action, report)
            await Fate.mine.reached_or_held(f"job {errand.get().step} worked")
            return did

        async def undo_doomed(action: Any) -> Changes:
            assert undo is not None
            await Fate.mine.reached_or_held(f"back {errand.get().step} entering")
            changes = await undo(action)
            await Fate.mine.reached_or_held(f"back {errand.get().step} worked")
            return changes

        super().job(kind, run_doomed, undo_doomed if undo else None)

    async def _finish(self, key: Any, begun: OutcomeRecord, ended: OutcomeRecord, changes: Changes) -> None:
        await super()._finish(key, begun, ended, changes)
        way = "job" if begun.progress is Progress.BEGUN else "back"
        Fate.mine.reached(f"{way} {begun.key} leaving")


class DoomedLog(shelf_folder.Log):
    """The journal, one sync for each line, so that commits which would share one can be parted by death."""

    def append(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            super().append([entry])
            Fate.mine.reached("line", entry.changes.decode())
