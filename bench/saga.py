"""Tasks in flight: what one costs in memory, and how fast they are opened and ended.

    python -m bench.saga [--quick] [--tasks N]

Opens N tasks (200 000, the reference's "hundreds of thousands"; 20 000 with --quick) on a real shelf on the
real disk, each with a step in its own book and one begun at one of 1000 cells; waits until every BEGUN mark
is durable and every call is answered; restarts; then delivers all outcomes and waits until every cell knows
that its tasks have ended. Nothing is simulated but the cells, which answer at once. Memory is resident set.
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import msgspec
import structlog

from nano.model.action import Action, Nothing, Outcome, Progress, StartInstance
from nano.model.ids import InstanceId, TaskId, new_instance_id
from nano.model.peers import Peer, Role
from nano.saga.engine import Engine
from nano.saga.record import TaskChange
from nano.saga.step import Changes, Moved, Saga, remote, step
from nano.saga.targets import Target
from nano.saga.tasks import Tasks
from nano.shelf import Shelf

CELLS = 1000
BURST = 500
"""Requests that arrive between two looks at the disk."""
MIB = 2**20


class Wanted(msgspec.Struct, frozen=True, tag="wanted", gc=False):
    instance: InstanceId
    running: bool


class Book:
    """The least that a book with tasks is: what is wanted of each instance."""

    changes: ClassVar[Any] = Wanted | TaskChange
    kinds: ClassVar[Mapping[str, Any]] = {"wanted": Wanted, **Tasks.kinds}
    schema: ClassVar[int] = 1

    def __init__(self) -> None:
        self.wanted: dict[InstanceId, Wanted] = {}
        self.tasks = Tasks()

    def apply(self, change: Wanted | TaskChange) -> None:
        if isinstance(change, Wanted):
            self.wanted[change.instance] = change
        else:
            self.tasks.apply(change)

    def snapshot(self) -> Mapping[str, Sequence[Any]]:
        return {"wanted": list(self.wanted.values()), **self.tasks.snapshot()}

    @classmethod
    def restore(cls, snapshot: Mapping[str, Sequence[Any]]) -> Self:
        book = cls()
        for wanted in snapshot["wanted"]:
            book.apply(wanted)
        book.tasks = Tasks.restore(snapshot)
        return book


class Start(msgspec.Struct, frozen=True):
    instance: InstanceId
    cell: str


@step
def want_running(notes: Start, _book: Book) -> Moved[Start]:
    return notes, [Wanted(notes.instance, running=True)]


@want_running.undo
def want_stopped(notes: Start, _book: Book) -> Changes:
    return [Wanted(notes.instance, running=False)]


def cell_of(notes: Start) -> Peer:
    return Peer(Role.CELL, notes.cell)


@remote(cell_of, no_undo="it is the pivot")
def start_instance(notes: Start) -> StartInstance:
    return StartInstance(notes.instance, 1, None)


START = Saga("start", Start, (want_running, start_instance), pivot=start_instance)


class Cells:
    """A thousand cells that take every step and answer at once; what they began is ended when told to."""

    def __init__(self) -> None:
        self.begun: list[tuple[Target, TaskId, str]] = []
        self.forgotten = 0
        self.asked = 0

    async def begin(
        self, target: Target, task: TaskId, step: str, _action: Action, _deadline_ms: int
    ) -> Outcome:
        self.begun.append((target, task, step))
        return Outcome(task, step, Progress.BEGUN)

    async def undo(self, _target: Target, task: TaskId, step: str) -> Outcome:
        return Outcome(task, step, Progress.UNDONE)

    async def ask(self, _target: Target, task: TaskId, step: str) -> Outcome:
        self.asked += 1
        return Outcome(task, step, Progress.BEGUN)

    async def forget(self, _target: Target, tasks: Sequence[TaskId]) -> None:
        self.forgotten += len(tasks)


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


async def until(ready: Any) -> None:
    while not ready():  # noqa: ASYNC110 - a bench may look again every 10 ms
        await asyncio.sleep(0.01)


async def measure(count: int, folder: Path) -> None:
    notes = [Start(new_instance_id(), f"Cell_{number % CELLS:012x}") for number in range(count)]
    begun = await open_all(notes, folder)
    loop = asyncio.get_running_loop()
    before_s = loop.time()
    async with Shelf.open(folder, Book) as shelf, asyncio.TaskGroup() as jobs:
        read_s = loop.time() - before_s
        cells = Cells()
        engine = new_engine(shelf, cells)
        engine.resume()
        resumed_s = loop.time() - before_s - read_s
        running = jobs.create_task(engine.run())
        await until(lambda: cells.asked == count)
        print(
            f"restart             {read_s:>10.1f} s to read the book, {resumed_s:.1f} s to resume, "
            f"{loop.time() - before_s:.1f} s until every step was asked for"
        )
        await end_all(engine, shelf, cells, begun)
        running.cancel()


def new_engine(shelf: Shelf[Book], cells: Cells) -> Engine:
    loop = asyncio.get_running_loop()
    return Engine(shelf, [START], cells, now_ms=lambda: int(loop.time() * 1000))


async def open_all(notes: Sequence[Start], folder: Path) -> list[tuple[Target, TaskId, str]]:
    """Open a task for each of the notes and wait until its step was begun; then stop, as a restart does."""
    loop = asyncio.get_running_loop()
    count, cells = len(notes), Cells()
    async with Shelf.open(folder, Book) as shelf, asyncio.TaskGroup() as jobs:
        engine = new_engine(shelf, cells)
        running = jobs.create_task(engine.run())
        before_bytes, before_s = resident_bytes(), loop.time()
        for number, each in enumerate(notes):
            engine.start(START, each, subject=each.instance, claims=[f"instance/{each.instance}"])
            if number % BURST == 0:
                await shelf.durable()
        await until(lambda: len(cells.begun) == count)
        opened_s, opened_bytes = loop.time() - before_s, resident_bytes() - before_bytes
        print(f"in flight           {len(shelf.book.tasks.open):>10,} tasks, on {CELLS:,} cells")
        print(f"jobs of the loop    {len(asyncio.all_tasks()):>10,}")
        print(f"memory per task     {opened_bytes // count:>10,} bytes ({opened_bytes // MIB:,} MiB in all)")
        print(f"opened              {count / opened_s:>10,.0f} tasks/s, durable and begun")
        running.cancel()
    return cells.begun


async def end_all(
    engine: Engine, shelf: Shelf[Book], cells: Cells, begun: Sequence[tuple[Target, TaskId, str]]
) -> None:
    """Deliver every outcome, and wait until every cell was told that its tasks have ended."""
    loop = asyncio.get_running_loop()
    before_s = loop.time()
    for number, (target, task, step_name) in enumerate(begun):
        assert isinstance(target, Peer)
        engine.outcome(target, Outcome(task, step_name, Progress.DONE, result=Nothing()))
        if number % BURST == 0:
            await shelf.durable()
    await until(lambda: cells.forgotten == len(begun))
    print(f"ended and forgotten {len(begun) / (loop.time() - before_s):>10,.0f} tasks/s, durable")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="20 000 tasks")
    parser.add_argument("--tasks", type=int, default=0)
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
    count = arguments.tasks or (20_000 if arguments.quick else 200_000)
    started_s = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(measure(count, Path(folder) / "shelf"))
    print(f"whole run           {time.perf_counter() - started_s:>10.1f} s")


if __name__ == "__main__":
    main()
