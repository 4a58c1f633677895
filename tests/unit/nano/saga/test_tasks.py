from typing import Any

import msgspec
import pytest

from nano import codec
from nano.model.errors import Busy, Conflict, Invalid, NotFound
from nano.model.ids import TaskId
from nano.model.task import Fault, TaskState
from nano.saga.record import (
    Idempotency,
    Mark,
    PeerDeclaredDead,
    PeerReadmitted,
    StepMarked,
    TaskChange,
    TaskEnded,
    TaskOpened,
    TasksForgotten,
    TaskTurned,
)
from nano.saga.tasks import KEY_LIFE_MS, Tasks

FAULT = Fault("no_address", "pool lan is used up", subject="lan")
KEY = Idempotency("key", "digest")


def opened(name: str, **more: Any) -> TaskOpened:
    fields = {"created_ms": 0, "claims": (f"instance/{name}",), **more}
    return TaskOpened(TaskId(name), "create", f"vm-{name}", msgspec.Raw(b'{"a":1}'), 4, 2, **fields)


def marked(name: str, index: int, mark: Mark, **more: Any) -> StepMarked:
    return StepMarked(TaskId(name), f"step-{index}", index, mark, **more)


def ended(name: str, state: TaskState = TaskState.DONE) -> TaskEnded:
    return TaskEnded(TaskId(name), state, 9)


def tasks_after(*changes: TaskChange, history_limit: int = 10) -> Tasks:
    tasks = Tasks(history_limit=history_limit)
    for change in changes:
        tasks.apply(change)
    return tasks


# ------------------------------------------------------------------ what is shown


def test_a_task_shows_what_it_measured() -> None:
    tasks = tasks_after(opened("t"), marked("t", 0, Mark.DONE), marked("t", 1, Mark.BEGUN, at="cell/a"))
    tasks.percent[TaskId("t")] = 60
    shown = tasks.view(TaskId("t"))
    assert (shown.state, shown.step, shown.step_index, shown.step_count) == (
        TaskState.RUNNING,
        "step-1",
        1,
        4,
    )
    assert shown.progress_percent == 40
    tasks.apply(marked("t", 1, Mark.DONE))
    assert tasks.view(TaskId("t")).progress_percent == 50


def test_a_failure_turns_the_task_back_and_stays_its_reason() -> None:
    tasks = tasks_after(
        opened("t"),
        marked("t", 0, Mark.DONE),
        marked("t", 1, Mark.BEGUN, at="cell/a"),
        marked("t", 1, Mark.FAILED, fault=FAULT),
    )
    assert tasks.view(TaskId("t")).state is TaskState.UNDOING
    stuck = Fault("unreachable", "cell/a is not there")
    tasks.apply(marked("t", 1, Mark.STUCK, fault=stuck))
    assert tasks.view(TaskId("t")).state is TaskState.STUCK
    assert tasks.view(TaskId("t")).error == stuck
    tasks.apply(marked("t", 1, Mark.UNDONE))
    tasks.apply(marked("t", 0, Mark.UNDONE))
    tasks.apply(ended("t", TaskState.FAILED))
    assert tasks.view(TaskId("t")).error == FAULT


def test_behind_the_pivot_a_failure_is_trouble_and_counts_attempts() -> None:
    tasks = tasks_after(opened("t"), marked("t", 2, Mark.DONE))
    for attempt in (1, 2, 3):
        tasks.apply(marked("t", 3, Mark.BEGUN, at="cell/a"))
        assert tasks.record(TaskId("t")).attempt == attempt
        tasks.apply(marked("t", 3, Mark.FAILED, fault=FAULT))
        assert tasks.view(TaskId("t")).state is TaskState.RUNNING
        assert tasks.view(TaskId("t")).error == FAULT
    tasks.apply(marked("t", 3, Mark.BEGUN, at="cell/a"))
    tasks.apply(marked("t", 3, Mark.DONE))
    assert tasks.view(TaskId("t")).error is None
    assert tasks.record(TaskId("t")).at == ((3, "cell/a"),)


def test_notes_are_those_of_the_last_mark_that_changed_them() -> None:
    changed = marked("t", 0, Mark.DONE, notes=msgspec.Raw(b'{"a":2}'))
    tasks = tasks_after(opened("t"), changed, marked("t", 1, Mark.BEGUN, at="cell/a"))
    assert bytes(tasks.record(TaskId("t")).notes) == b'{"a":2}'


def test_a_cancel_and_a_deadline_turn_it_back_for_reasons_of_their_own() -> None:
    tasks = tasks_after(opened("a"), opened("b"), TaskTurned(TaskId("a")), TaskTurned(TaskId("b"), FAULT))
    assert tasks.record(TaskId("a")).cancelled
    assert tasks.record(TaskId("b")).error == FAULT
    assert not tasks.record(TaskId("b")).cancelled


def test_a_cancel_that_came_too_late_is_as_if_it_had_never_been() -> None:
    tasks = tasks_after(
        opened("t"),
        marked("t", 2, Mark.BEGUN, at="cell/a"),
        TaskTurned(TaskId("t")),
        marked("t", 2, Mark.DONE),
    )
    record = tasks.record(TaskId("t"))
    assert not record.back
    assert not record.cancelled
    with pytest.raises(Conflict, match="can only go forward"):
        tasks.check_cancellable(TaskId("t"))


def test_what_was_never_there_is_not_found() -> None:
    with pytest.raises(NotFound, match="there is no task x"):
        Tasks().view(TaskId("x"))


# ------------------------------------------------------------------ claims, debts, history


def test_an_open_task_holds_its_claims_until_it_has_ended() -> None:
    tasks = tasks_after(opened("t"))
    with pytest.raises(Busy, match="held by task t"):
        tasks.claims.check(["instance/t"])
    tasks.apply(ended("t"))
    tasks.claims.check(["instance/t"])


def test_every_peer_of_an_ended_task_is_owed_a_word() -> None:
    at_a, at_pool = marked("t", 0, Mark.BEGUN, at="cell/a"), marked("t", 1, Mark.BEGUN, at="addresspool")
    tasks = tasks_after(opened("t"), at_a, at_pool, ended("t"), opened("u"), at_a_of("u"), ended("u"))
    assert tasks.debts == {"cell/a": {"t": None, "u": None}, "addresspool": {"t": None}}
    tasks.apply(TasksForgotten("cell/a", (TaskId("t"), TaskId("gone"))))
    tasks.apply(TasksForgotten("addresspool", (TaskId("t"),)))
    assert tasks.debts == {"cell/a": {"u": None}}


def at_a_of(name: str) -> StepMarked:
    return marked(name, 0, Mark.BEGUN, at="cell/a")


def test_the_dead_are_owed_nothing() -> None:
    tasks = tasks_after(opened("t"), at_a_of("t"), ended("t"), opened("u"), at_a_of("u"))
    tasks.apply(PeerDeclaredDead("cell/a"))
    tasks.apply(ended("u"))
    assert tasks.debts == {}
    tasks.apply(PeerReadmitted("cell/a"))
    assert tasks.dead == set()


def test_history_is_bounded_and_open_tasks_are_never_dropped() -> None:
    tasks = tasks_after(opened("open"), history_limit=2)
    for name in "abc":
        tasks.apply(opened(name))
        tasks.apply(ended(name))
    assert [task.id for task in tasks.page(limit=10)] == ["open", "c", "b"]
    assert not tasks.knows(TaskId("a"))


# ------------------------------------------------------------------ keys and pages


def test_a_key_names_its_task_for_a_day_and_within_its_credential() -> None:
    tasks = tasks_after(opened("t", requester="ann", idempotency=KEY, created_ms=1000))
    assert tasks.repeated("ann", KEY, now_ms=1000 + KEY_LIFE_MS - 1) == "t"
    assert tasks.repeated("ann", KEY, now_ms=1000 + KEY_LIFE_MS) is None
    assert tasks.repeated("bob", KEY, now_ms=1000) is None


def test_the_same_key_with_another_body_is_refused() -> None:
    tasks = tasks_after(opened("t", requester="ann", idempotency=KEY))
    with pytest.raises(Invalid, match="this key named another request") as refused:
        tasks.repeated("ann", Idempotency("key", "other"), now_ms=0)
    assert refused.value.field == "Idempotency-Key"


def test_old_keys_go_when_new_ones_come() -> None:
    tasks = tasks_after(
        opened("a", idempotency=Idempotency("a", "1"), created_ms=0),
        opened("b", idempotency=Idempotency("b", "1"), created_ms=KEY_LIFE_MS),
    )
    assert [key.task for key in tasks.snapshot()["task_keys"]] == ["b"]


def test_pages_join_without_gap_or_double() -> None:
    tasks = tasks_after(*(opened(name) for name in "abcdef"), ended("b"), ended("d"))
    whole = [task.id for task in tasks.page(limit=10)]
    assert whole == ["f", "e", "c", "a", "d", "b"]
    first = tasks.page(limit=3)
    second = tasks.page(limit=3, after=first[-1].id)
    assert [task.id for task in (*first, *second)] == whole
    assert tasks.page(limit=3, after=TaskId("b")) == []


def test_a_page_is_filtered() -> None:
    tasks = tasks_after(opened("a"), opened("b"), TaskTurned(TaskId("b")), opened("c"), ended("c"))
    assert [task.id for task in tasks.page(limit=9, states=[TaskState.UNDOING])] == ["b"]
    assert [task.id for task in tasks.page(limit=9, subject="vm-c")] == ["c"]
    assert tasks.page(limit=9, kind="delete") == []


# ------------------------------------------------------------------ on disk


def _list_of(kind: Any) -> Any:
    return list[kind]


def test_a_snapshot_and_the_journal_give_the_same_tasks() -> None:
    changes: list[TaskChange] = [
        opened("a", requester="ann", idempotency=KEY),
        marked("a", 0, Mark.DONE, notes=msgspec.Raw(b'{"a":2}')),
        marked("a", 1, Mark.BEGUN, at="cell/a"),
        opened("b"),
        marked("b", 0, Mark.BEGUN, at="cell/dead"),
        TaskTurned(TaskId("b"), FAULT),
        PeerDeclaredDead("cell/dead"),
        marked("b", 0, Mark.ABANDONED),
        opened("c"),
        marked("c", 0, Mark.BEGUN, at="addresspool"),
        ended("c"),
    ]
    journal = codec.decode(codec.encode(changes), list[TaskChange])
    replayed = tasks_after(*journal)
    pages = {
        kind: codec.decode(msgspec.json.format(codec.encode(nouns), indent=2), _list_of(Tasks.kinds[kind]))
        for kind, nouns in tasks_after(*changes).snapshot().items()
    }
    restored = Tasks.restore(pages)
    expected = codec.encode(tasks_after(*changes).snapshot())
    assert codec.encode(replayed.snapshot()) == expected
    assert codec.encode(restored.snapshot()) == expected
    assert restored.claims.holder("instance/a") == "a"
    assert restored.repeated("ann", KEY, now_ms=0) == "a"
    assert restored.debts == {"addresspool": {"c": None}}
    assert restored.view(TaskId("c")) == replayed.view(TaskId("c"))
