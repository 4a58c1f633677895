from nano.saga.timers import Due, Timers


def test_timers_go_off_in_order_of_time_and_then_of_setting() -> None:
    timers = Timers()
    assert timers.set(5.0, Due.TASK, "late")
    assert timers.set(1.0, Due.LANE, "first")
    assert not timers.set(1.0, Due.TASK, "second")
    assert timers.next_s() == 1.0
    assert timers.pop_due(0.9) is None
    assert timers.pop_due(1.0) == (Due.LANE, "first")
    assert timers.pop_due(1.0) == (Due.TASK, "second")
    assert timers.pop_due(1.0) is None
    assert timers.pop_due(9.0) == (Due.TASK, "late")
    assert timers.next_s() is None


def test_what_is_over_can_be_sifted_out() -> None:
    timers = Timers()
    for number in range(10):
        timers.set(float(10 - number), Due.DEADLINE, str(number))
    timers.sift(lambda _due, key: int(key) % 2 == 0)
    assert len(timers) == 5
    assert [timers.pop_due(99.0) for _ in range(5)] == [(Due.DEADLINE, key) for key in "86420"]
