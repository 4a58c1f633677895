"""Where things go wrong for good: stuck undos, dead peers, steps that fail behind the pivot, defects."""

import pytest
from structlog.testing import capture_logs

from nano.model.action import Nothing, Outcome, Progress
from nano.model.errors import Conflict, Forbidden, NanoError
from nano.model.ids import InstanceId, TaskId
from nano.model.task import Fault, TaskState
from nano.saga.step import Changes, Moved
from tests.support import saga_books as books
from tests.support.saga_desk import INSTANCE, NOTES, TASK, Desk, Line, open_desk, quiet
from tests.support.virtual_time import virtually

FAULT = Fault("conflict", "the disk is busy")
LEASED = books.lease_in(books.lease_address.act(NOTES), books.Ledger())[1]  # type: ignore[arg-type]


async def with_volumes(desk: Desk) -> None:
    """Up to the step that makes volumes, begun."""
    desk.start()
    await quiet()
    desk.says("lease_address", Progress.DONE, result=LEASED)
    await quiet()


async def past_the_pivot(desk: Desk) -> None:
    await with_volumes(desk)
    for step_name in ("create_volumes", "build_instance"):
        desk.says(step_name, Progress.DONE, result=Nothing())
    await quiet()


def cannot_undo_volumes(verb: str, task: TaskId, step: str) -> Outcome:
    if verb == "undo" and step == "create_volumes":
        return Outcome(task, step, Progress.UNDOING, fault=FAULT)
    return Outcome(task, step, Progress.UNDONE if verb == "undo" else Progress.BEGUN)


# ------------------------------------------------------------------ stuck


@virtually
async def test_a_stuck_undo_is_seen_and_holds_back_those_before_it() -> None:
    async with open_desk(Line(cannot_undo_volumes)) as desk:
        await with_volumes(desk)
        with capture_logs() as logs:
            desk.engine.cancel(TASK)
            await quiet(20)
        shown = desk.book.tasks.view(TASK)
        assert (shown.state, shown.error) == (TaskState.STUCK, FAULT)
        undone = [sent for sent in desk.line.sent if "undo" in sent]
        assert [sent.split(" ")[0] for sent in undone] == ["0.2", "1.2", "3.2", "7.2", "15.2"]
        assert not any("lease_address" in sent for sent in undone)
        assert [entry["event"] for entry in logs] == ["saga.stuck"]


@virtually
async def test_a_stuck_undo_is_tried_again_when_its_peer_is_back() -> None:
    async with open_desk(Line(cannot_undo_volumes)) as desk:
        await with_volumes(desk)
        desk.engine.cancel(TASK)
        await quiet(20)
        desk.line.answer = lambda _verb, task, step: Outcome(task, step, Progress.UNDONE)
        desk.engine.peer_up(books.HOST)
        await quiet()
        assert desk.book.tasks.view(TASK).state is TaskState.CANCELLED


@virtually
async def test_an_undo_whose_peer_is_gone_is_shown_as_stuck_and_waits() -> None:
    async with open_desk() as desk:
        await with_volumes(desk)
        desk.engine.peer_down(books.HOST)
        with capture_logs():
            desk.engine.cancel(TASK)
        assert desk.book.tasks.view(TASK).state is TaskState.STUCK
        await quiet(3600)
        assert not any("undo" in sent for sent in desk.line.sent)
        desk.engine.peer_up(books.HOST)
        assert (await desk.engine.wait(TASK)).state is TaskState.CANCELLED


@virtually
async def test_undos_under_way_are_shown_as_stuck_when_their_peer_goes() -> None:
    async with open_desk(Line(lambda _verb, task, step: Outcome(task, step, Progress.BEGUN))) as desk:
        await with_volumes(desk)
        desk.engine.cancel(TASK)
        await quiet()
        assert desk.book.tasks.view(TASK).state is TaskState.UNDOING
        with capture_logs():
            desk.engine.peer_down(books.HOST)
        shown = desk.book.tasks.view(TASK)
        assert shown.state is TaskState.STUCK
        assert shown.error is not None
        assert "is asked when it is back" in shown.error.message


@virtually
async def test_a_local_undo_that_fails_is_stuck_too_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    errors = iter([RuntimeError("defect"), RuntimeError("defect"), None])

    def moody(_notes: books.Create, _desk: books.Desk) -> Changes:
        if error := next(errors):
            raise error
        return [books.InstanceErased(INSTANCE)]

    monkeypatch.setattr(books.reserve, "take_back", moody)
    async with open_desk() as desk:
        desk.start()
        with capture_logs():
            desk.engine.cancel(TASK)
            await quiet()
            assert desk.book.tasks.view(TASK).state is TaskState.STUCK
            assert (await desk.engine.wait(TASK)).state is TaskState.CANCELLED


@virtually
async def test_a_stuck_undo_can_be_written_off_by_hand() -> None:
    async with open_desk(Line(cannot_undo_volumes)) as desk:
        await with_volumes(desk)
        with pytest.raises(Conflict, match="is not stuck"):
            desk.engine.abandon(TASK)
        desk.engine.cancel(TASK)
        await quiet()
        desk.engine.abandon(TASK)
        ended = await desk.engine.wait(TASK)
        assert ended.state is TaskState.CANCELLED
        assert any("undo lease_address" in sent for sent in desk.line.sent)


@virtually
async def test_a_refused_undo_is_stuck() -> None:
    def forbids(verb: str, task: TaskId, step: str) -> Outcome | NanoError:
        return Forbidden("not you") if verb == "undo" else Outcome(task, step, Progress.BEGUN)

    async with open_desk(Line(forbids)) as desk:
        desk.start()
        await quiet()
        desk.engine.cancel(TASK)
        await quiet()
        shown = desk.book.tasks.view(TASK)
        assert shown.state is TaskState.STUCK
        assert shown.error == Fault("forbidden", "not you")


# ------------------------------------------------------------------ dead peers


@virtually
async def test_a_dead_peer_fails_what_waits_for_it_and_owes_nothing() -> None:
    async with open_desk() as desk:
        await with_volumes(desk)
        desk.engine.peer_down(books.HOST)
        desk.engine.abandon_peer(books.HOST)
        ended = await desk.engine.wait(TASK)
        assert ended.state is TaskState.FAILED
        assert ended.error is not None
        assert "was removed" in ended.error.message
        await quiet()
        assert "undo lease_address at addresspool" in desk.line.verbs()
        assert not any("undo create_volumes" in sent for sent in desk.line.sent)
        assert desk.book.tasks.debts == {}


@virtually
async def test_behind_the_pivot_a_task_goes_on_without_the_dead() -> None:
    async with open_desk() as desk:
        await past_the_pivot(desk)
        desk.engine.abandon_peer(books.HOST)
        assert (await desk.engine.wait(TASK)).state is TaskState.DONE


@virtually
async def test_the_dead_are_not_asked_again_until_they_are_readmitted() -> None:
    async with open_desk() as desk:
        desk.engine.abandon_peer(books.HOST)
        desk.start()
        await quiet()
        desk.says("lease_address", Progress.DONE, result=LEASED)
        assert (await desk.engine.wait(TASK)).state is TaskState.FAILED
        assert not any("cell/" in sent for sent in desk.line.sent)
        desk.engine.readmit_peer(books.HOST)
        again = TaskId("again")
        desk.start(task=again)
        await quiet()
        desk.engine.outcome(books.ADDRESSES, Outcome(again, "lease_address", Progress.DONE, result=LEASED))
        await quiet()
        assert "begin create_volumes at cell/Cell_00163e000001" in desk.line.verbs()


def noted(_notes: object, _desk: books.Desk) -> Changes:
    return [books.InstanceSet(InstanceId("lost"), "given up")]


@virtually
@pytest.mark.parametrize("is_past", [False, True])
async def test_what_follows_from_writing_off_is_in_the_book_with_the_mark(
    monkeypatch: pytest.MonkeyPatch, is_past: bool
) -> None:
    step = books.start_instance if is_past else books.create_volumes
    monkeypatch.setattr(step, "let_go", noted)
    async with open_desk() as desk:
        await (past_the_pivot if is_past else with_volumes)(desk)
        desk.engine.abandon_peer(books.HOST)
        assert desk.book.instances[InstanceId("lost")] == "given up"
        assert (await desk.engine.wait(TASK)).state is (TaskState.DONE if is_past else TaskState.FAILED)


@virtually
@pytest.mark.parametrize("is_past", [False, True])
async def test_a_defect_in_what_follows_from_writing_off_halts_its_task_only(
    monkeypatch: pytest.MonkeyPatch, is_past: bool
) -> None:
    errors = iter([RuntimeError("defect"), None])

    def moody(notes: object, desk: books.Desk) -> Changes:
        if error := next(errors):
            raise error
        return noted(notes, desk)

    step = books.start_instance if is_past else books.create_volumes
    monkeypatch.setattr(step, "let_go", moody)
    async with open_desk() as desk:
        await (past_the_pivot if is_past else with_volumes)(desk)
        with capture_logs():
            desk.engine.abandon_peer(books.HOST)
            assert InstanceId("lost") not in desk.book.instances
            shown = desk.book.tasks.view(TASK)
            assert shown.error is not None
            assert (shown.state, shown.error.code) == (
                TaskState.RUNNING if is_past else TaskState.STUCK,
                "internal",
            )
            await desk.engine.wait(TASK)
        assert desk.book.instances[InstanceId("lost")] == "given up"


# ------------------------------------------------------------------ behind the pivot


@virtually
async def test_behind_the_pivot_a_failed_step_is_begun_anew_after_longer_and_longer_pauses() -> None:
    def never_starts(verb: str, task: TaskId, step: str) -> Outcome:
        if step.startswith("start_instance"):
            return Outcome(task, step, Progress.FAILED, fault=FAULT)
        return Outcome(task, step, Progress.BEGUN)

    async with open_desk(Line(never_starts)) as desk:
        await past_the_pivot(desk)
        await quiet(16)
        starts = [sent.split(" ")[:3] for sent in desk.line.sent if "start_instance" in sent]
        assert [(at, step) for at, _, step in starts] == [
            ("0.2", "start_instance"),
            ("1.2", "start_instance~2"),
            ("3.2", "start_instance~3"),
            ("7.2", "start_instance~4"),
            ("15.2", "start_instance~5"),
        ]
        shown = desk.book.tasks.view(TASK)
        assert (shown.state, shown.error) == (TaskState.RUNNING, FAULT)
        desk.line.answer = lambda _verb, task, step: Outcome(task, step, Progress.DONE, result=Nothing())
        ended = await desk.engine.wait(TASK)
        assert (ended.state, ended.error) == (TaskState.DONE, None)


# ------------------------------------------------------------------ defects and refusals


@virtually
async def test_a_step_that_its_peer_refuses_fails() -> None:
    def forbids(verb: str, task: TaskId, step: str) -> Outcome | NanoError:
        return Forbidden("not you") if verb == "begin" else Outcome(task, step, Progress.UNDONE)

    async with open_desk(Line(forbids)) as desk:
        desk.start()
        ended = await desk.engine.wait(TASK)
        assert (ended.state, ended.error) == (TaskState.FAILED, Fault("forbidden", "not you"))
        assert desk.line.verbs()[:2] == [
            "begin lease_address at addresspool",
            "undo lease_address at addresspool",
        ]


@virtually
async def test_a_predicate_with_a_defect_turns_its_own_task_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(books.create_volumes, "_when", lambda notes: notes < 1 / 0)
    async with open_desk() as desk:
        desk.start()
        await quiet()
        with capture_logs() as logs:
            desk.says("lease_address", Progress.DONE, result=LEASED)
            ended = await desk.engine.wait(TASK)
        assert ended.state is TaskState.FAILED
        assert ended.error is not None
        assert ended.error.subject == logs[0]["log_id"]
        assert desk.book.instances == {}


@virtually
async def test_a_result_that_cannot_be_folded_in_undoes_the_step() -> None:
    async with open_desk() as desk:
        desk.start()
        await quiet()
        with capture_logs() as logs:
            desk.says("lease_address", Progress.DONE, result=Nothing())  # a binding was expected
            ended = await desk.engine.wait(TASK)
        assert ended.error is not None
        assert (ended.error.code, ended.error.subject) == ("internal", logs[0]["log_id"])
        assert "undo lease_address at addresspool" in desk.line.verbs()


# ------------------------------------------------------------------ steps that cannot be taken back


REMOVAL = books.REMOVE


@virtually
async def test_a_cancel_that_comes_before_the_pivot_is_known_waits_for_what_its_peer_says() -> None:
    async with open_desk(Line(lambda _verb, task, step: Outcome(task, step, Progress.BEGUN))) as desk:
        desk.start(REMOVAL)
        await quiet()
        desk.engine.cancel(TASK)
        await quiet()
        assert desk.line.verbs() == [
            "begin delete_instance at cell/Cell_00163e000001",
            "undo delete_instance at cell/Cell_00163e000001",
        ]
        assert desk.book.tasks.view(TASK).state is TaskState.UNDOING
        desk.says("delete_instance", Progress.DONE, result=Nothing())
        await quiet()
        shown = desk.book.tasks.view(TASK)
        assert (shown.state, shown.step, shown.error) == (TaskState.RUNNING, "release_address", None)
        desk.says("release_address", Progress.DONE, result=Nothing())
        assert (await desk.engine.wait(TASK)).state is TaskState.DONE


@virtually
async def test_a_pivot_that_failed_after_all_lets_the_task_go_back() -> None:
    async with open_desk(Line(lambda _verb, task, step: Outcome(task, step, Progress.BEGUN))) as desk:
        desk.start(REMOVAL)
        await quiet()
        desk.engine.cancel(TASK)
        await quiet()
        desk.says("delete_instance", Progress.FAILED, fault=FAULT)
        assert (await desk.engine.wait(TASK)).state is TaskState.CANCELLED
        assert desk.book.instances == {INSTANCE: "running"}


@virtually
async def test_a_pivot_that_happened_for_good_never_leads_back(monkeypatch: pytest.MonkeyPatch) -> None:
    errors = iter([RuntimeError("defect"), None])

    def moody(notes: books.Create, _result: object, _desk: books.Desk) -> Moved[books.Create]:
        if error := next(errors):
            raise error
        return notes, ()

    monkeypatch.setattr(books.delete_instance, "fold", moody)
    async with open_desk() as desk:
        desk.start(REMOVAL)
        await quiet()
        desk.line.answer = lambda _verb, task, step: Outcome(task, step, Progress.DONE, result=Nothing())
        with capture_logs():
            desk.says("delete_instance", Progress.DONE, result=Nothing())
            ended = await desk.engine.wait(TASK)
        assert ended.state is TaskState.DONE
        assert "ask delete_instance at cell/Cell_00163e000001" in desk.line.verbs()


# ------------------------------------------------------------------ answers out of the ordinary


@virtually
async def test_a_step_that_its_peer_says_was_undone_has_failed() -> None:
    async with open_desk() as desk:
        desk.start()
        await quiet()
        desk.says("lease_address", Progress.UNDONE)
        ended = await desk.engine.wait(TASK)
        assert ended.error is not None
        assert ended.error.message == "lease_address was undone at its peer"


@virtually
async def test_an_undo_that_its_peer_never_heard_of_is_sent_again() -> None:
    answers = iter([Progress.UNKNOWN, Progress.UNDONE])

    def forgetful(verb: str, task: TaskId, step: str) -> Outcome:
        return Outcome(task, step, next(answers) if verb == "undo" else Progress.BEGUN)

    async with open_desk(Line(forgetful)) as desk:
        desk.start()
        await quiet()
        desk.engine.cancel(TASK)
        assert (await desk.engine.wait(TASK)).state is TaskState.CANCELLED
        assert [verb for verb in desk.line.verbs() if verb.startswith("undo")] == [
            "undo lease_address at addresspool"
        ] * 2


@virtually
async def test_an_action_that_cannot_be_told_any_more_fails_its_step(monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_desk() as desk:
        desk.start()
        monkeypatch.setattr(books.lease_address, "act", lambda notes: notes.colour)
        with capture_logs() as logs:
            ended = await desk.engine.wait(TASK)
        assert ended.error is not None
        assert ended.error.subject == logs[0]["log_id"]
        assert "begin lease_address at addresspool" not in desk.line.verbs()


@virtually
async def test_a_question_that_is_refused_is_asked_again() -> None:
    answers = iter([Forbidden("not now"), None])

    def moody(verb: str, task: TaskId, step: str) -> Outcome | NanoError:
        refusal = next(answers) if verb == "ask" else None
        return refusal or Outcome(task, step, Progress.BEGUN)

    async with open_desk(Line(moody)) as desk:
        desk.start()
        await quiet()
        desk.engine.peer_up(books.ADDRESSES)
        await quiet(5)
        assert desk.line.sent[-2:] == [
            "0.1 ask lease_address at addresspool",
            "1.1 ask lease_address at addresspool",
        ]
        assert desk.book.tasks.view(TASK).state is TaskState.RUNNING
