from nano.model.ids import TaskId
from nano.saga.lanes import Call, Forgets, Lanes

A, B = "cell/a", "cell/b"


def lanes(lane_limit: int = 2) -> Lanes:
    return Lanes(lane_limit=lane_limit, backoff_s=1.0, backoff_limit_s=5.0)


def call(at: str, task: str, *, ask: bool = False) -> Call:
    return Call(at, TaskId(task), ask, 0)


def test_targets_take_turns() -> None:
    row = lanes()
    for task in ("1", "2"):
        row.push(call(A, task))
    row.push(call(B, "3"))
    assert [row.take(), row.take(), row.take(), row.take()] == [
        call(A, "1"),
        call(B, "3"),
        call(A, "2"),
        None,
    ]


def test_a_slow_target_gets_no_more_than_its_share_of_calls() -> None:
    row = lanes(lane_limit=2)
    for task in ("1", "2", "3"):
        row.push(call(A, task))
    assert [row.take(), row.take(), row.take()] == [call(A, "1"), call(A, "2"), None]
    row.finished(A)
    assert row.take() == call(A, "3")


def test_a_task_waits_once_in_a_lane_and_a_question_does_not_replace_a_call() -> None:
    row = lanes()
    row.push(call(A, "1"))
    row.push(call(A, "1", ask=True))
    assert row.take() == call(A, "1")
    assert row.take() is None


def test_who_does_not_answer_is_left_alone_longer_each_time() -> None:
    row = lanes()
    row.push(call(A, "1"))
    pauses = []
    for _ in range(5):
        taken = row.take()
        assert taken == call(A, "1")
        pauses.append(row.failed(taken))
        assert row.take() is None
        row.wake(A)
    assert pauses == [1.0, 2.0, 4.0, 5.0, 5.0]
    assert row.failures(A) == 5
    row.take()
    row.finished(A)
    assert row.failures(A) == 0


def test_two_calls_that_fail_together_count_as_one_silence() -> None:
    row = lanes()
    for task in ("1", "2"):
        row.push(call(A, task))
    first, second = row.take(), row.take()
    assert first is not None
    assert second is not None
    assert row.failed(first) == 1.0
    assert row.failed(second) == 1.0
    assert row.failures(A) == 1


def test_a_call_whose_task_was_settled_meanwhile_does_not_wait_again() -> None:
    row = lanes()
    row.push(call(A, "1"))
    taken = row.take()
    assert taken is not None
    row.settled(A, TaskId("1"))
    row.failed(taken)
    row.wake(A)
    assert row.take() is None
    assert row.waiting(A) == []


def test_a_sleeping_target_holds_up_nobody_else() -> None:
    row = lanes()
    row.push(call(A, "1"))
    row.sleep(A)
    row.push(call(B, "2"))
    assert [row.take(), row.take()] == [call(B, "2"), None]
    assert row.waiting(A) == ["1"]
    row.wake(A)
    assert row.take() == call(A, "1")


def test_what_has_ended_is_told_once_however_often_it_was_pushed() -> None:
    row = lanes()
    row.push(call(A, "1"))
    row.push_forgets(A)
    row.push_forgets(A)
    assert [row.take(), row.take(), row.take()] == [Forgets(A), call(A, "1"), None]
    assert row.failed(Forgets(A)) == 1.0
    row.wake(A)
    assert row.take() == Forgets(A)


def test_to_the_dead_nothing_is_sent() -> None:
    row = lanes()
    row.push(call(A, "1"))
    row.push_forgets(A)
    row.drop(A)
    assert row.take() is None
