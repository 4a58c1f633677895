"""Nobody holds everything."""

from contextlib import ExitStack

import pytest

from nano.model.errors import Exhausted
from services.portal.room import Room


def test_one_user_has_a_part_and_all_have_an_end() -> None:
    room = Room("consoles", 3, 2)
    with ExitStack() as held:
        for _ in range(2):
            held.enter_context(room.held("ann"))
        with pytest.raises(Exhausted, match="user ann has 2 consoles"), room.held("ann"):
            pass
        held.enter_context(room.held("bob"))
        with pytest.raises(Exhausted, match="3 consoles are open here"), room.held("bob"):
            pass
        assert len(room) == 3
    assert len(room) == 0
    with room.held("ann"):
        assert len(room) == 1


def test_what_fails_is_given_back() -> None:
    room = Room("streams", 1, 1)
    with pytest.raises(KeyError), room.held("ann"):
        raise KeyError
    with room.held("bob"):
        pass
