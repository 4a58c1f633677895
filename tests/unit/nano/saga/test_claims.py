import pytest

from nano.model.errors import Busy
from nano.model.ids import TaskId
from nano.saga.claims import Claims

FIRST, SECOND = TaskId("first"), TaskId("second")


def test_the_second_comer_is_refused_and_told_who_holds_it() -> None:
    claims = Claims()
    claims.take(["instance/vm"], FIRST)
    with pytest.raises(Busy, match="instance/vm is held by task first") as refused:
        claims.check(["name/vm", "instance/vm"])
    assert refused.value.subject == "vm"


def test_all_are_taken_or_none() -> None:
    claims = Claims()
    claims.take(["b"], FIRST)
    with pytest.raises(Busy):
        claims.take(["a", "b"], SECOND)
    assert claims.holder("a") is None


def test_taking_again_what_is_ones_own_is_no_conflict() -> None:
    claims = Claims()
    claims.take(["a"], FIRST)
    claims.take(["a", "b"], FIRST)
    assert len(claims) == 2


def test_nobody_frees_what_another_holds() -> None:
    claims = Claims()
    claims.take(["a"], FIRST)
    claims.release(["a"], SECOND)
    assert claims.holder("a") == FIRST
    claims.release(["a"], FIRST)
    assert claims.holder("a") is None
