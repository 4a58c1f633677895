"""A monitor channel is good once, for a while, for one session."""

import pytest

from nano.model.errors import Forbidden, NotFound
from services.portal.channels import LIFE_S, MOST, MOST_OF_ONE_USER, Channels
from services.portal.sessions import Session

ANN = Session("a", "ann", "10.0.0.1")
BOB = Session("b", "bob", "10.0.0.2")


def test_it_is_good_once() -> None:
    channels = Channels()
    key = channels.open("vm", ANN, 0, by_cookie=True)
    assert channels.take(key, ANN, 1).instance == "vm"
    with pytest.raises(NotFound):
        channels.take(key, ANN, 1)


def test_it_is_good_for_15_seconds() -> None:
    channels = Channels()
    early, late = (channels.open("vm", ANN, 0, by_cookie=True) for _ in range(2))
    assert channels.take(early, ANN, LIFE_S - 0.1)
    with pytest.raises(NotFound):
        channels.take(late, ANN, LIFE_S)


def test_it_is_good_for_who_asked_and_another_ones_attempt_uses_it_up() -> None:
    channels = Channels()
    key = channels.open("vm", ANN, 0, by_cookie=True)
    with pytest.raises(Forbidden):
        channels.take(key, BOB, 1)
    with pytest.raises(NotFound):
        channels.take(key, ANN, 1)


def test_a_browser_shows_its_cookie_and_an_old_client_cannot() -> None:
    channels = Channels()
    with pytest.raises(Forbidden):
        channels.take(channels.open("vm", ANN, 0, by_cookie=True), None, 1)
    assert channels.take(channels.open("vm", ANN, 0, by_cookie=False), None, 1).session == ANN


def test_nobody_takes_the_room_of_others() -> None:
    channels = Channels()
    keys = [channels.open("vm", ANN, 0, by_cookie=True) for _ in range(MOST)]
    assert channels.take(channels.open("vm", BOB, 0, by_cookie=True), BOB, 0)
    with pytest.raises(NotFound):
        channels.take(keys[-1 - MOST_OF_ONE_USER], ANN, 0)
    assert channels.take(keys[-MOST_OF_ONE_USER], ANN, 0)
