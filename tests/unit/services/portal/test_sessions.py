"""Sessions end by themselves, and only a keep-alive makes them last."""

import pytest

from nano.model.errors import Untrusted
from services.portal.sessions import LIFE_S, MOST_OF_ONE_USER, Sessions


def test_a_session_lives_as_long_as_documented() -> None:
    sessions = Sessions()
    secret, session = sessions.open("ann", "10.0.0.1", 0)
    assert sessions.find(secret, LIFE_S - 0.1) == session  # looking does not extend it
    with pytest.raises(Untrusted):
        sessions.find(secret, LIFE_S)


def test_a_keep_alive_pushes_the_end() -> None:
    sessions = Sessions()
    _, session = sessions.open("ann", "10.0.0.1", 0)
    sessions.extend(session, 100)
    assert sessions.is_open(session.key, 100 + LIFE_S - 1)
    assert not sessions.is_open(session.key, 100 + LIFE_S)


def test_a_closed_session_is_not_brought_back() -> None:
    sessions = Sessions()
    secret, session = sessions.open("ann", "10.0.0.1", 0)
    sessions.close(session.key)
    sessions.extend(session, 1)
    with pytest.raises(Untrusted):
        sessions.find(secret, 2)


def test_all_sessions_of_a_user_end_but_one() -> None:
    sessions = Sessions()
    here, there, other = (sessions.open(user, "a", 0)[1] for user in ("ann", "ann", "bob"))
    sessions.close_user("ann", but=here.key)
    assert [sessions.is_open(each.key, 1) for each in (here, there, other)] == [True, False, True]


def test_of_too_many_the_one_that_ends_first_goes() -> None:
    sessions = Sessions()
    opened = [sessions.open("ann", "a", number)[1] for number in range(MOST_OF_ONE_USER)]
    sessions.extend(opened[0], 100)
    sessions.open("ann", "a", 101)
    assert sessions.is_open(opened[0].key, 102)
    assert not sessions.is_open(opened[1].key, 102)


def test_what_has_ended_is_forgotten() -> None:
    sessions = Sessions()
    sessions.open("ann", "a", 0)
    _, late = sessions.open("bob", "a", 100)
    assert sessions.everybody(LIFE_S) == [late]


def test_an_id_is_nowhere_but_with_its_owner() -> None:
    sessions = Sessions()
    secret, session = sessions.open("ann", "a", 0)
    assert secret not in repr(session) + repr(sessions.kept(0, 0)) + session.label
    with pytest.raises(Untrusted):
        sessions.find(session.key, 1)


def test_a_restart_keeps_what_has_not_ended() -> None:
    before = Sessions()
    (early, _), (late, kept) = before.open("ann", "a", 0), before.open("bob", "b", 100)
    after = Sessions()
    after.restore(before.kept(150, 1_000_000), 5, 1_000_000 + 60_000)  # a minute later, another clock
    with pytest.raises(Untrusted):
        after.find(early, 5)
    assert after.find(late, 5) == kept
    assert not after.is_open(kept.key, 5 + 70)


def test_no_restored_session_lives_longer_than_a_new_one() -> None:
    before = Sessions()
    _, session = before.open("ann", "a", 0)
    after = Sessions()
    after.restore(before.kept(0, 10**12), 0, 0)  # the clock was set back by years
    assert not after.is_open(session.key, LIFE_S)
