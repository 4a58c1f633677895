"""The first at once, then what is newer, and each subject no more often than it may."""

from services.gateway.pace import Pace


def test_the_first_is_told_at_once_and_again_only_when_it_is_newer() -> None:
    marks: dict[str, int | None] = {"a": 1}
    pace = Pace(["a"], marks.get, 2.0)
    assert pace.take(10) == ["a"]
    assert pace.take(20) == []
    assert pace.wait_s(20) is None
    marks["a"] = 2
    assert pace.take(20) == ["a"]


def test_what_comes_too_soon_waits_for_its_time_and_is_told_once() -> None:
    marks: dict[str, int | None] = {"a": 1}
    pace = Pace(["a"], marks.get, 2.0)
    pace.take(10)
    for mark, now_s in ((2, 10.5), (3, 11.0), (4, 11.5)):
        marks["a"] = mark
        assert pace.take(now_s) == []
        assert pace.wait_s(now_s) == 12.0 - now_s
    assert pace.wait_s(13) == 0
    assert pace.take(12) == ["a"]
    assert pace.take(12) == []


def test_each_subject_has_a_pace_of_its_own() -> None:
    marks: dict[str, int | None] = {"a": 1, "b": None}
    pace = Pace(["a", "b"], marks.get, 2.0)
    assert pace.take(10) == ["a"]
    marks["b"] = 1
    assert pace.take(11) == ["b"]
    marks |= {"a": 2, "b": 2}
    assert pace.wait_s(11) == 1
    assert pace.take(12) == ["a"]
    assert pace.wait_s(12) == 1
    assert pace.take(13) == ["b"]


def test_a_subject_that_is_gone_is_not_told() -> None:
    marks: dict[str, int | None] = {"a": 1}
    pace = Pace(["a"], marks.get, 2.0)
    pace.take(10)
    marks["a"] = None
    assert pace.take(20) == []
    assert pace.wait_s(20) is None
