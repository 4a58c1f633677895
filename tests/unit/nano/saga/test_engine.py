import pytest
from structlog.testing import capture_logs

from nano.model.action import Nothing, Outcome, Progress
from nano.model.errors import Busy, Conflict, Corrupt, Exhausted, Exists, Invalid, NotFound
from nano.model.ids import InstanceId, TaskId
from nano.model.peers import Peer, Role
from nano.model.task import Fault, TaskState
from nano.saga.engine import Engine
from nano.saga.mover import Limits
from nano.saga.record import Idempotency
from nano.saga.step import Saga
from nano.shelf import Shelf
from tests.support import saga_books as books
from tests.support.disk import SimDisk
from tests.support.saga_desk import CLAIM, FOLDER, INSTANCE, NOTES, TASK, Line, open_desk, quiet
from tests.support.virtual_time import virtually

FAULT = Fault("conflict", "no")
KEY = Idempotency("key", "digest")
LEASED = books.lease_in(books.lease_address.act(NOTES), books.Ledger())[1]  # type: ignore[arg-type]


# ------------------------------------------------------------------ starting


@virtually
async def test_a_start_does_what_is_local_at_once_and_begins_the_rest() -> None:
    async with open_desk() as desk:
        assert desk.start(deadline_ms=9000) == TASK
        assert desk.book.instances == {INSTANCE: "reserved"}
        assert desk.line.sent == []
        await quiet()
        assert desk.line.sent == ["0 begin lease_address at addresspool"]
        assert desk.line.actions == [books.lease_address.act(NOTES)]
        assert desk.line.deadlines == [9000]


@virtually
async def test_the_second_comer_is_refused_at_once_and_told_who_holds_it() -> None:
    async with open_desk() as desk:
        desk.start()
        with pytest.raises(Busy, match=f"held by task {TASK}"):
            desk.start(task=TaskId("other"))
        assert list(desk.book.tasks.open) == [TASK]


@virtually
async def test_what_the_first_step_refuses_is_raised_and_nothing_has_happened() -> None:
    async with open_desk() as desk:
        desk.shelf.commit(books.InstanceSet(INSTANCE, "running"))
        revision = desk.shelf.revision
        with pytest.raises(Exhausted, match="is there already"):
            desk.start()
        assert desk.shelf.revision == revision
        desk.book.tasks.claims.check([CLAIM])


@virtually
async def test_one_key_starts_one_task() -> None:
    async with open_desk() as desk:
        desk.start(idempotency=KEY, requester="ann")
        again = desk.engine.start(
            books.CREATE, NOTES, subject=INSTANCE, claims=[CLAIM], idempotency=KEY, requester="ann"
        )
        assert again == TASK
        with pytest.raises(Invalid):
            desk.start(idempotency=Idempotency("key", "other"), requester="ann", task=TaskId("other"))


@virtually
async def test_an_id_is_used_once() -> None:
    async with open_desk() as desk:
        desk.start()
        with pytest.raises(Exists):
            desk.start(claims=())


@virtually
async def test_too_many_open_tasks_are_refused() -> None:
    async with open_desk(limits=Limits(open_tasks=1)) as desk:
        desk.start()
        with pytest.raises(Exhausted) as refused:
            desk.start(task=TaskId("other"), claims=())
        assert refused.value.retry_after_s > 0


# ------------------------------------------------------------------ outcomes


@virtually
async def test_outcomes_lead_to_the_end_and_waiting_shows_it() -> None:
    async with open_desk() as desk:
        desk.start()
        await quiet()
        desk.says("lease_address", Progress.DONE, result=LEASED)
        for step_name in ("create_volumes", "build_instance", "start_instance"):
            desk.says(step_name, Progress.DONE, result=Nothing())
        assert (await desk.engine.wait(TASK)).state is TaskState.DONE
        assert desk.book.instances == {INSTANCE: "running"}
        await quiet()
        assert set(desk.line.verbs()[-2:]) == {
            "forget 1 task(s) at addresspool",
            f"forget 1 task(s) at {books.HOST}",
        }
        assert desk.book.tasks.debts == {}


@virtually
async def test_what_is_late_doubled_or_of_another_step_changes_nothing() -> None:
    async with open_desk() as desk:
        desk.start()
        await quiet()
        revision = desk.shelf.revision
        desk.says("create_volumes", Progress.DONE, result=Nothing())
        desk.says("lease_address~2", Progress.FAILED, fault=FAULT)
        desk.engine.outcome(books.ADDRESSES, Outcome("nobody", "lease_address", Progress.DONE))
        assert desk.shelf.revision == revision
        desk.says("lease_address", Progress.DONE, result=LEASED)
        revision = desk.shelf.revision
        desk.says("lease_address", Progress.DONE, result=LEASED)
        desk.says("lease_address", Progress.FAILED, fault=FAULT)
        assert desk.shelf.revision == revision


@virtually
async def test_nobody_answers_for_a_step_that_was_begun_elsewhere() -> None:
    async with open_desk() as desk:
        desk.start()
        await quiet()
        liar = Peer(Role.CELL, "Cell_00163e0000ff")
        desk.engine.outcome(liar, Outcome(TASK, "lease_address", Progress.FAILED, fault=FAULT))
        assert desk.book.tasks.view(TASK).state is TaskState.RUNNING


@virtually
async def test_a_failure_before_the_pivot_undoes_what_was_done() -> None:
    async with open_desk() as desk:
        desk.start()
        await quiet()
        desk.says("lease_address", Progress.DONE, result=LEASED)
        await quiet()
        desk.says("create_volumes", Progress.FAILED, fault=FAULT)
        ended = await desk.engine.wait(TASK)
        assert (ended.state, ended.error) == (TaskState.FAILED, FAULT)
        assert desk.book.instances == {}
        await quiet()
        assert desk.line.verbs()[:4] == [
            "begin lease_address at addresspool",
            "begin create_volumes at cell/Cell_00163e000001",
            "undo create_volumes at cell/Cell_00163e000001",
            "undo lease_address at addresspool",
        ]


@virtually
async def test_progress_is_heard_and_shown() -> None:
    async with open_desk() as desk:
        desk.start()
        await quiet()
        desk.says("lease_address", Progress.DONE, result=LEASED)
        desk.says("create_volumes", Progress.BEGUN, percent=50)
        assert desk.book.tasks.view(TASK).progress_percent == (200 + 50) // 7


# ------------------------------------------------------------------ cancel and deadline


@virtually
async def test_a_cancel_undoes_everything_and_a_second_one_changes_nothing() -> None:
    async with open_desk() as desk:
        desk.start()
        desk.engine.cancel(TASK)
        desk.engine.cancel(TASK)
        assert (await desk.engine.wait(TASK)).state is TaskState.CANCELLED
        assert desk.line.verbs()[0] == "undo lease_address at addresspool"
        with pytest.raises(Conflict, match="has ended"):
            desk.engine.cancel(TASK)
        with pytest.raises(NotFound):
            desk.engine.cancel(TaskId("nobody"))


@virtually
async def test_behind_the_pivot_a_cancel_is_refused() -> None:
    async with open_desk() as desk:
        desk.start()
        await quiet()
        desk.says("lease_address", Progress.DONE, result=LEASED)
        for step_name in ("create_volumes", "build_instance"):
            desk.says(step_name, Progress.DONE, result=Nothing())
        with pytest.raises(Conflict, match="can only go forward"):
            desk.engine.cancel(TASK)


@virtually
async def test_a_deadline_turns_the_task_back() -> None:
    async with open_desk() as desk:
        desk.start(deadline_ms=3000)
        await quiet(2.9)
        assert desk.book.tasks.view(TASK).state is TaskState.RUNNING
        ended = await desk.engine.wait(TASK)
        assert ended.state is TaskState.FAILED
        assert ended.error is not None
        assert ended.error.code == "timed_out"
        assert ended.ended_ms == 3000


@virtually
async def test_a_deadline_behind_the_pivot_changes_nothing() -> None:
    async with open_desk() as desk:
        desk.start(deadline_ms=3000)
        await quiet()
        desk.says("lease_address", Progress.DONE, result=LEASED)
        for step_name in ("create_volumes", "build_instance"):
            desk.says(step_name, Progress.DONE, result=Nothing())
        await quiet(9)
        assert desk.book.tasks.view(TASK).state is TaskState.RUNNING


# ------------------------------------------------------------------ restarts


@virtually
async def test_a_restart_holds_the_claims_and_asks_what_became_of_it() -> None:
    disk = SimDisk()
    async with open_desk(disk=disk) as desk:
        desk.start(deadline_ms=5000)
        await quiet()
    async with open_desk(disk=disk) as desk:
        with pytest.raises(Busy):
            desk.start(task=TaskId("other"))
        await quiet()
        assert desk.line.verbs() == ["ask lease_address at addresspool"]
        assert (await desk.engine.wait(TASK)).state is TaskState.FAILED  # the deadline is known, too


@virtually
async def test_a_callee_that_knows_nothing_is_told_again() -> None:
    disk = SimDisk()
    async with open_desk(disk=disk) as desk:
        desk.start()
        await quiet()

    def forgetful(verb: str, task: TaskId, step: str) -> Outcome:
        return Outcome(task, step, Progress.UNKNOWN if verb == "ask" else Progress.BEGUN)

    async with open_desk(Line(forgetful), disk=disk) as desk:
        await quiet()
        assert desk.line.verbs() == [
            "ask lease_address at addresspool",
            "begin lease_address at addresspool",
        ]


@virtually
async def test_a_restart_pays_the_debts_of_ended_tasks() -> None:
    disk = SimDisk()

    def deaf_to_forget(verb: str, task: TaskId, step: str) -> Outcome:
        if verb == "forget":
            raise Exhausted("later")
        return Outcome(task, step, Progress.UNDONE)

    async with open_desk(Line(deaf_to_forget), disk=disk) as desk:
        desk.start()
        await quiet()
        assert (await desk.engine.wait(TASK)).state is TaskState.FAILED
        assert desk.book.tasks.debts == {"addresspool": {TASK: None}}
    async with open_desk(disk=disk) as desk:
        await quiet()
        assert desk.line.verbs() == ["forget 1 task(s) at addresspool"]
        assert desk.book.tasks.debts == {}


@virtually
async def test_a_task_of_a_saga_that_is_not_here_any_more_is_a_loud_error() -> None:
    disk = SimDisk()
    async with open_desk(disk=disk) as desk:
        desk.start()
    async with Shelf.open(FOLDER, books.Desk, disk=disk) as shelf:
        engine = Engine(shelf, [books.REMOVE], Line(), now_ms=lambda: 0)
        with pytest.raises(Corrupt, match="no saga 'create'"):
            engine.resume()


@virtually
async def test_a_task_at_a_step_that_its_saga_does_not_have_there_is_a_loud_error() -> None:
    disk = SimDisk()
    async with open_desk(disk=disk) as desk:
        desk.start()
    shorter = Saga(books.CREATE.name, books.Create, books.CREATE.steps[2:4])
    async with Shelf.open(FOLDER, books.Desk, disk=disk) as shelf:
        engine = Engine(shelf, [shorter], Line(), now_ms=lambda: 0)
        with pytest.raises(Corrupt, match="is at step lease_address, which saga create does not have there"):
            engine.resume()


# ------------------------------------------------------------------ a disk that is full


@virtually
async def test_a_debt_that_cannot_be_struck_out_is_paid_once_more() -> None:
    disk = SimDisk()
    line = Line()
    async with open_desk(line, disk=disk) as desk:
        desk.start()

        def fills_up(verb: str, task: TaskId, step: str) -> Outcome:
            if verb == "forget" and disk.capacity_bytes is None:
                disk.capacity_bytes = 1
                _fill(desk.shelf)
            return Outcome(task, step, Progress.UNDONE)

        line.answer = fills_up
        with capture_logs():
            desk.engine.cancel(TASK)
            await quiet()
        assert desk.book.tasks.debts == {"addresspool": {TASK: None}}
        line.answer = lambda _verb, task, step: Outcome(task, step, Progress.UNDONE)
        disk.capacity_bytes = None
        await quiet(60)
        assert desk.book.tasks.debts == {}
        assert sum("forget" in sent for sent in line.sent) == 2


@virtually
async def test_a_deadline_that_cannot_be_written_is_written_later() -> None:
    disk = SimDisk()
    async with open_desk(disk=disk) as desk:
        desk.start(deadline_ms=1000)
        await quiet()
        disk.capacity_bytes = 1
        while _fill(desk.shelf):  # what is written takes less than was set aside for it
            await desk.shelf.durable()
        with capture_logs() as logs:
            await quiet(2)
        assert {"saga.held_up"} <= {entry["event"] for entry in logs}
        assert desk.book.tasks.view(TASK).state is TaskState.RUNNING
        disk.capacity_bytes = None
        assert (await desk.engine.wait(TASK)).state is TaskState.FAILED


@virtually
async def test_a_full_disk_holds_a_task_up_and_loses_nothing() -> None:
    disk = SimDisk()
    line = Line()
    async with open_desk(line, disk=disk) as desk:
        desk.start()
        await quiet()
        disk.capacity_bytes = 1
        line.answer = lambda _verb, task, step: Outcome(task, step, Progress.DONE, result=LEASED)
        with capture_logs() as logs:
            _fill(desk.shelf)
            desk.says("lease_address", Progress.DONE, result=LEASED)
            assert desk.book.tasks.record(TASK).step == "lease_address"
            assert "saga.held_up" in {entry["event"] for entry in logs}
            disk.capacity_bytes = None
            await quiet(5)
        assert desk.book.tasks.record(TASK).step != "lease_address"


def _fill(shelf: Shelf[books.Desk]) -> int:
    """Use up what the shelf had reserved, to the last line that would fit; how many lines that took."""
    lines = 0
    for size in (10_000, 1):
        for _ in range(100_000):
            try:
                shelf.commit(books.InstanceSet(InstanceId("filler"), "x" * size))
            except Exhausted:
                break
            lines += 1
        else:
            pytest.fail("the disk is never full")
    return lines
