"""Guessing gets slow, knowing does not."""

import pytest

from nano.model.errors import Exhausted
from services.portal.throttle import FIRST_WAIT_S, FORGET_S, LONGEST_WAIT_S, Throttle, login_keys


def fails(throttle: Throttle, count: int, now_s: float = 0, user: str = "ann", address: str = "a") -> None:
    for _ in range(count):
        throttle.attempt(login_keys(user, address), now_s)


def test_some_attempts_are_free_and_then_each_waits_twice_as_long() -> None:
    throttle = Throttle()
    fails(throttle, 5)
    with pytest.raises(Exhausted) as waiting:
        fails(throttle, 1)
    assert waiting.value.retry_after_s == FIRST_WAIT_S
    fails(throttle, 1, FIRST_WAIT_S)
    with pytest.raises(Exhausted) as waiting:
        fails(throttle, 1, FIRST_WAIT_S)
    assert waiting.value.retry_after_s == 2 * FIRST_WAIT_S


def test_a_refused_attempt_is_not_charged() -> None:
    throttle = Throttle()
    fails(throttle, 5)
    for _ in range(50):
        with pytest.raises(Exhausted):
            fails(throttle, 1)
    fails(throttle, 1, FIRST_WAIT_S)


def test_a_wait_has_an_end() -> None:
    throttle, now_s = Throttle(), 0.0
    for _ in range(40):
        fails(throttle, 1, now_s)
        now_s += LONGEST_WAIT_S
    with pytest.raises(Exhausted) as waiting:
        fails(throttle, 1, now_s - LONGEST_WAIT_S)
    assert waiting.value.retry_after_s == LONGEST_WAIT_S


def test_success_forgets() -> None:
    throttle = Throttle()
    fails(throttle, 5)
    throttle.succeeded(login_keys("ann", "a"))
    fails(throttle, 5)


def test_time_forgets() -> None:
    throttle = Throttle()
    fails(throttle, 5)
    fails(throttle, 5, FORGET_S)


def test_a_stranger_slows_themselves_down_and_not_the_user() -> None:
    throttle = Throttle()
    fails(throttle, 5, address="stranger")
    with pytest.raises(Exhausted):
        fails(throttle, 1, address="stranger")
    fails(throttle, 1, address="home")


def test_many_users_from_one_address_are_slowed_as_well() -> None:
    throttle = Throttle()
    for number in range(20):
        fails(throttle, 1, user=f"u{number}")
    with pytest.raises(Exhausted):
        fails(throttle, 1, user="another")


def test_the_addresses_of_one_network_are_one() -> None:
    throttle = Throttle()
    for number in range(5):
        fails(throttle, 1, address=f"2001:db8:1:2::{number:x}")
    with pytest.raises(Exhausted):
        fails(throttle, 1, address="2001:db8:1:2:ffff::1")
    fails(throttle, 1, address="2001:db8:1:3::1")
    fails(throttle, 1, address="192.0.2.1")


def test_a_long_name_is_not_kept() -> None:
    """Up to 20 000 names are: of a megabyte each they would fill the host."""
    keys = login_keys("x" * (1 << 20), "192.0.2.1")
    assert max(len(key) for key, _ in keys) < 100
    assert not {key for key, _ in keys[::2]} & {key for key, _ in login_keys("x" * 64, "192.0.2.1")}
