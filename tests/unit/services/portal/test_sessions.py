"""Sessions end by themselves, and only a keep-alive makes them last."""

import pytest

from nano.model.errors import Untrusted
from services.portal.sessions import LIFE_S, MOST_OF_ONE_USER, Sessions


def test_a_session_lives_as_long_as_documented() -> None:
    sessions = Sessions()
    session = sessions.open("ann", "10.0.0.1", 0)
    assert sessions.find(session.id, LIFE_S - 0.1) == session  # looking does not extend it
    with pytest.raises(Untrusted):
        sessions.find(session.id, LIFE_S)


def test_a_keep_alive_pushes_the_end() -> None:
    sessions = Sessions()
    session = sessions.open("ann", "10.0.0.1", 0)
    sessions.extend(session, 100)
    assert sessions.is_open(session.id, 100 + LIFE_S - 1)
    assert not sessions.is_open(session.id, 100 + LIFE_S)


def test_a_closed_session_is_not_brought_back() -> None:
    sessions = Sessions()
    session = sessions.open("ann", "10.0.0.1", 0)
    sessions.close(session.id)
    sessions.extend(session, 1)
    with pytest.raises(Untrusted):
        sessions.find(session.id, 2)


def test_all_sessions_of_a_user_end_but_one() -> None:
    sessions = Sessions()
    here, there, other = (sessions.open(user, "a", 0) for user in ("ann", "ann", "bob"))
    sessions.close_user("ann", but=here.id)
    assert [sessions.is_open(each.id, 1) for each in (here, there, other)] == [True, False, True]


def test_of_too_many_the_one_that_ends_first_goes() -> None:
    sessions = Sessions()
    opened = [sessions.open("ann", "a", number) for number in range(MOST_OF_ONE_USER)]
    sessions.extend(opened[0], 100)
    sessions.open("ann", "a", 101)
    assert sessions.is_open(opened[0].id, 102)
    assert not sessions.is_open(opened[1].id, 102)


def test_what_has_ended_is_forgotten() -> None:
    sessions = Sessions()
    sessions.open("ann", "a", 0)
    late = sessions.open("bob", "a", 100)
    assert sessions.everybody(LIFE_S) == [late]


def test_an_id_is_in_no_log() -> None:
    session = Sessions().open("ann", "a", 0)
    assert session.id not in repr(session)
    assert session.label not in session.id
