"""The rotation of the zone's authority: each phase waits for everybody, and a restart goes on."""

from dataclasses import replace

import pytest

from nano.model.errors import Conflict, Invalid
from nano.model.membership import How, Member, Phase, Trust
from nano.model.peers import Role
from services.scheduler.rotation import begun, left_behind, next_trust, waiting_for

OLD, NEW = "a" * 64, "b" * 64
STEADY = Trust(revision=4, trusted=(OLD,), since_revision=1)


def member(name: str, revision: int = 4, issuer: str = OLD) -> Member:
    return Member(Role.CELL, name, name * 64, How.TOKEN, 0, 0, revision, issuer)


def test_nothing_is_waited_for_and_nothing_follows_while_no_rotation_is_under_way() -> None:
    assert waiting_for(STEADY, [member("1", revision=0, issuer="")]) == []
    assert next_trust(STEADY, []) is None


def test_the_new_authority_is_trusted_first_and_signs_when_all_know_it() -> None:
    introducing = begun(STEADY, NEW, [])
    assert introducing == Trust(5, (OLD, NEW), Phase.INTRODUCING, 5)
    one, two = member("1", 5), member("2", 4)
    assert waiting_for(introducing, [one, two]) == ["cell/2"]
    assert next_trust(introducing, [one, two]) is None
    assert next_trust(introducing, [one, member("2", 7)]) == Trust(6, (NEW, OLD), Phase.MOVING, 6)


def test_a_removal_within_the_introduction_does_not_start_the_wait_anew() -> None:
    introducing = replace(begun(STEADY, NEW, []), revision=9)
    assert next_trust(introducing, [member("1", 5)]) == Trust(10, (NEW, OLD), Phase.MOVING, 10)


def test_the_old_authority_goes_when_all_show_the_new_one() -> None:
    moving = Trust(6, (NEW, OLD), Phase.MOVING, 6)
    assert waiting_for(moving, [member("1", 6), member("2", 6, NEW)]) == ["cell/1"]
    assert next_trust(moving, [member("1", 6), member("2", 6, NEW)]) is None
    assert next_trust(moving, [member("1", 6, NEW)]) == Trust(7, (NEW,), Phase.STEADY, 7)


def test_a_second_rotation_waits_for_the_first_and_names_whom_that_waits_for() -> None:
    introducing = begun(STEADY, NEW, [])
    with pytest.raises(Conflict, match=r"introducing.*cell/1, cell/2, cell/3, cell/4, cell/5 and 1 more"):
        begun(introducing, "c" * 64, [member(name) for name in "123456"])
    with pytest.raises(Invalid, match="trusted already"):
        begun(STEADY, OLD, [])


def test_who_is_left_behind_is_not_waited_for_in_the_next_phase_either() -> None:
    introducing = begun(STEADY, NEW, [])
    gone = member("2")
    going_on = left_behind(introducing, [member("1", 5), gone])
    assert going_on.left_behind == ("cell/2",)
    moving = next_trust(going_on, [member("1", 5), gone])
    assert moving is not None
    assert moving.phase is Phase.MOVING
    assert waiting_for(moving, [member("1", 6), gone]) == ["cell/1"]
    assert next_trust(moving, [member("1", 6, NEW), gone]) == Trust(7, (NEW,), Phase.STEADY, 7)


def test_nobody_can_be_left_behind_by_no_rotation() -> None:
    with pytest.raises(Conflict, match="no rotation"):
        left_behind(STEADY, [])
