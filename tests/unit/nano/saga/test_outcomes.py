from typing import Any

import msgspec

from nano import codec
from nano.model.action import Nothing, Outcome, Progress, ReleaseAddress
from nano.model.ids import InstanceId, TaskId
from nano.saga.outcomes import OutcomePut, OutcomeRecord, Outcomes, OutcomesForgotten

TASK = TaskId("t")
ACTION = ReleaseAddress(InstanceId("vm"))


def record(step: str, progress: Progress = Progress.DONE, attempt: int = 1) -> OutcomeRecord:
    return OutcomeRecord(TASK, step, progress, attempt, ACTION, Nothing())


def test_an_outcome_is_told_under_the_key_that_it_was_asked_by() -> None:
    assert record("start", attempt=2).outcome(7) == Outcome(TASK, "start~2", Progress.DONE, 7, Nothing())


def test_only_the_attempt_that_is_kept_is_found() -> None:
    outcomes = Outcomes()
    outcomes.apply(OutcomePut(record("start", attempt=2)))
    assert outcomes.find(TASK, "start~2") == record("start", attempt=2)
    assert outcomes.find(TASK, "start~3") is None
    late = outcomes.find(TASK, "start")
    assert late is not None
    assert late.progress is Progress.UNDONE
    assert outcomes.find(TASK, "other") is None


def test_a_forgotten_task_leaves_its_name_only_and_not_for_ever() -> None:
    outcomes = Outcomes(forgotten_limit=2)
    outcomes.apply(OutcomePut(record("start")))
    outcomes.apply(OutcomesForgotten((TASK,)))
    assert len(outcomes) == 0
    assert outcomes.is_forgotten(TASK)
    outcomes.apply(OutcomesForgotten((TaskId("u"), TaskId("v"))))
    assert not outcomes.is_forgotten(TASK)
    assert outcomes.is_forgotten(TaskId("v"))


def _list_of(kind: Any) -> Any:
    return list[kind]


def test_outcomes_come_back_from_a_snapshot() -> None:
    outcomes = Outcomes()
    for change in (
        OutcomePut(record("a")),
        OutcomePut(record("b", Progress.BEGUN)),
        OutcomesForgotten((TaskId("u"),)),
    ):
        outcomes.apply(change)
    pages = {
        kind: codec.decode(msgspec.json.encode(nouns), _list_of(Outcomes.kinds[kind]))
        for kind, nouns in outcomes.snapshot().items()
    }
    again = Outcomes.restore(pages)
    assert list(again) == list(outcomes)
    assert again.is_forgotten(TaskId("u"))
