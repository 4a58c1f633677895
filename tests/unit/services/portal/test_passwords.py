"""What is good enough, and that only the hash is kept."""

from collections.abc import Iterator

import pytest

from nano.model.errors import Invalid
from services.portal.passwords import Passwords, check_policy


@pytest.fixture
def passwords() -> Iterator[Passwords]:
    made = Passwords()
    yield made
    made.close()


@pytest.mark.parametrize("password", ["Abcdefg1", "Zürich2026", "A1a" + "x" * 1000])
def test_a_password_of_eight_characters_with_all_three_kinds_is_taken(password: str) -> None:
    check_policy("password", password)


@pytest.mark.parametrize(
    ("password", "missing"),
    [
        ("Abcdef1", "8 characters"),
        ("Abcdefgh", "a digit"),
        ("ABCDEFG1", "a lower case"),
        ("abcdefg1", "an upper case"),
        ("", "8 characters"),
        ("A1a" + "x" * 1022, "longer"),
    ],
)
def test_a_weak_one_is_refused_with_what_it_lacks(password: str, missing: str) -> None:
    with pytest.raises(Invalid, match=missing) as refused:
        check_policy("new", password)
    assert refused.value.field == "new"


async def test_a_secret_fits_its_password_only(passwords: Passwords) -> None:
    secret = await passwords.secret("Abcdefg1")
    assert secret.startswith("$argon2id$")
    assert await passwords.fits("Abcdefg1", secret)
    assert not await passwords.fits("Abcdefg2", secret)
    assert secret != await passwords.secret("Abcdefg1")


async def test_nobody_has_no_password(passwords: Passwords) -> None:
    assert not await passwords.fits("nobody's password", None)
    assert not await passwords.fits("x", "not a hash")
