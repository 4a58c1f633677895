"""One front desk with its real shelf and engine, and a line to its callees that a test can listen in to."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nano.model.action import Action, Outcome, Progress
from nano.model.errors import NanoError
from nano.model.ids import InstanceId, TaskId
from nano.saga.engine import Engine
from nano.saga.mover import Limits
from nano.saga.step import Saga
from nano.saga.targets import Target
from nano.shelf import Shelf
from tests.support import saga_books as books
from tests.support.disk import SimDisk
from tests.support.nouns import SPEC

FOLDER = Path("/data")
INSTANCE = InstanceId("7c9e6679-7425-40de-944b-e07fc1f90ae7")
TASK = TaskId("2d4cf1c2-6b0a-4f0e-9c39-3a1c7f9f2d11")
NOTES = books.Create(INSTANCE, SPEC)
CLAIM = f"instance/{INSTANCE}"
LIMITS = Limits(workers=2, calls_per_peer=2, backoff_s=1.0, backoff_limit_s=8.0, stuck_after=2)

Answer = Callable[[str, TaskId, str], Outcome | NanoError]
"""What a callee says to `begin`, `undo` or `ask` of a step."""


def begun(_verb: str, task: TaskId, step: str) -> Outcome:
    """A callee that takes every step, takes everything back at once, and ends nothing by itself."""
    return Outcome(task, step, Progress.UNDONE if _verb == "undo" else Progress.BEGUN)


@dataclass
class Line:
    """`Callees` that writes down what is sent, and when; `answer` is what comes back."""

    answer: Answer = begun
    sent: list[str] = field(default_factory=list)
    actions: list[Action] = field(default_factory=list)
    deadlines: list[int] = field(default_factory=list)

    def say(self, verb: str, target: Target, task: TaskId, step: str) -> Outcome:
        now_s = asyncio.get_running_loop().time()
        self.sent.append(f"{now_s:g} {verb} {step} at {target}")
        outcome = self.answer(verb, task, step)
        if isinstance(outcome, NanoError):
            raise outcome
        return outcome

    async def begin(
        self, target: Target, task: TaskId, step: str, action: Action, deadline_ms: int
    ) -> Outcome:
        self.actions.append(action)
        self.deadlines.append(deadline_ms)
        return self.say("begin", target, task, step)

    async def undo(self, target: Target, task: TaskId, step: str) -> Outcome:
        return self.say("undo", target, task, step)

    async def ask(self, target: Target, task: TaskId, step: str) -> Outcome:
        return self.say("ask", target, task, step)

    async def forget(self, target: Target, tasks: Sequence[TaskId]) -> None:
        self.say("forget", target, tasks[0], f"{len(tasks)} task(s)")

    def verbs(self) -> list[str]:
        """What was sent, without the time."""
        return [one.partition(" ")[2] for one in self.sent]


@dataclass
class Desk:
    shelf: Shelf[books.Desk]
    engine: Engine
    line: Line

    @property
    def book(self) -> books.Desk:
        return self.shelf.book

    def start(self, saga: Saga[books.Create] = books.CREATE, **options: Any) -> TaskId:
        """Start the task that all these tests are about."""
        return self.engine.start(
            saga, NOTES, **{"subject": INSTANCE, "claims": [CLAIM], "task": TASK, **options}
        )

    def says(self, step: str, progress: Progress, **more: Any) -> None:
        """An outcome comes from the peer that the step was begun at."""
        peer = books.ADDRESSES if step.startswith(("lease", "release")) else books.HOST
        self.engine.outcome(peer, Outcome(TASK, step, progress, **more))


@asynccontextmanager
async def open_desk(
    line: Line | None = None, *, disk: SimDisk | None = None, limits: Limits = LIMITS
) -> AsyncIterator[Desk]:
    """A desk whose engine runs; with a disk that was used before it is a restart."""
    loop = asyncio.get_running_loop()
    line = line or Line()
    sagas = (books.CREATE, books.REMOVE)
    async with (
        Shelf.open(FOLDER, books.Desk, disk=disk or SimDisk()) as shelf,
        asyncio.TaskGroup() as jobs,
    ):
        engine = Engine(shelf, sagas, line, now_ms=lambda: int(loop.time() * 1000), limits=limits)
        engine.resume()
        running = jobs.create_task(engine.run())
        yield Desk(shelf, engine, line)
        running.cancel()


async def quiet(seconds: float = 0.1) -> None:
    """Let everything happen that is due in that time."""
    await asyncio.sleep(seconds)
