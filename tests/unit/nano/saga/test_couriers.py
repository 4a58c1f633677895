"""How calls travel: after the journal, a bounded number at a time, again when nobody answers."""

import asyncio

from structlog.testing import capture_logs

from nano.model.action import Action, Outcome, Progress
from nano.model.errors import Exhausted, NanoError, Unreachable
from nano.model.ids import InstanceId, TaskId
from nano.model.task import TaskState
from nano.saga.targets import Target
from tests.support import saga_books as books
from tests.support.disk import Operation, SimDisk, SyncFile
from tests.support.nouns import SPEC
from tests.support.saga_desk import TASK, Line, open_desk, quiet
from tests.support.virtual_time import virtually


@virtually
async def test_no_call_leaves_before_its_mark_is_durable() -> None:
    disk, line = SimDisk(), Line()
    order: list[str] = []

    def watched(operation: Operation) -> bool:
        if isinstance(operation, SyncFile):
            order.append("synced")
        return False

    def answers(verb: str, task: TaskId, step: str) -> Outcome:
        order.append(verb)
        return Outcome(task, step, Progress.BEGUN)

    line.answer = answers
    async with open_desk(line, disk=disk) as desk:
        disk.ignores = watched
        desk.start()
        await quiet()
        assert order == ["synced", "begin"]


@virtually
async def test_a_silent_peer_is_called_again_after_longer_and_longer_pauses() -> None:
    line = Line(lambda *_: Unreachable("nobody there"))
    async with open_desk(line) as desk:
        with capture_logs():
            desk.start()
            await quiet(20)
        assert [sent.split(" ")[0] for sent in line.sent] == ["0", "1", "3", "7", "15"]
        assert desk.book.tasks.view(TASK).state is TaskState.RUNNING


@virtually
async def test_a_peer_that_names_a_pause_is_left_alone_for_that_long() -> None:
    line = Line(lambda *_: Exhausted("full", retry_after_s=5.0))
    async with open_desk(line) as desk:
        with capture_logs():
            desk.start()
            await quiet(6)
        assert [sent.split(" ")[0] for sent in line.sent] == ["0", "5"]


@virtually
async def test_a_peer_that_is_back_is_asked_at_once() -> None:
    line = Line(lambda *_: Unreachable("nobody there"))
    async with open_desk(line) as desk:
        with capture_logs():
            desk.start()
            await quiet(9)
            desk.engine.peer_up(books.ADDRESSES)
            await quiet()
        assert line.sent[-1].startswith("9 ")


@virtually
async def test_undos_that_nobody_answers_are_shown_as_stuck() -> None:
    def gone(verb: str, task: TaskId, step: str) -> Outcome | NanoError:
        return Unreachable("nobody there") if verb == "undo" else Outcome(task, step, Progress.BEGUN)

    async with open_desk(Line(gone)) as desk:
        desk.start()
        await quiet()
        desk.engine.cancel(TASK)
        with capture_logs():
            await quiet(0.5)
            assert desk.book.tasks.view(TASK).state is TaskState.UNDOING
            await quiet(1)
        assert desk.book.tasks.view(TASK).state is TaskState.STUCK


@virtually
async def test_a_defect_of_a_carrier_costs_no_task() -> None:
    tries = iter([True, False])

    def breaks(_verb: str, task: TaskId, step: str) -> Outcome:
        if next(tries):
            raise ZeroDivisionError
        return Outcome(task, step, Progress.BEGUN)

    async with open_desk(Line(breaks)) as desk:
        with capture_logs() as logs:
            desk.start()
            await quiet(5)
        assert [sent.split(" ")[0] for sent in desk.line.sent] == ["0", "1"]
        assert [entry["event"] for entry in logs] == ["saga.defect", "saga.peer_silent"]


class Slow(Line):
    """Takes a second for each call, and knows how many it had at once."""

    at_once = 0
    most = 0

    async def begin(
        self, target: Target, task: TaskId, step: str, action: Action, deadline_ms: int
    ) -> Outcome:
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        await asyncio.sleep(1)
        self.at_once -= 1
        return await super().begin(target, task, step, action, deadline_ms)


@virtually
async def test_many_tasks_share_few_calls_and_no_job_waits_for_any_of_them() -> None:
    line = Slow()
    async with open_desk(line) as desk:
        await quiet()
        jobs_before = len(asyncio.all_tasks())
        for number in range(20):
            instance = InstanceId(f"vm-{number}")
            notes = books.Create(instance, SPEC)
            desk.engine.start(books.CREATE, notes, subject=instance, task=TaskId(f"t{number}"))
        await quiet(5.5)
        assert len(asyncio.all_tasks()) == jobs_before
        assert line.most == 2
        await quiet(60)
        assert len(line.sent) == 20
        assert len(desk.book.tasks.open) == 20
