"""How things look in a terminal."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nano.cli.show import parse_size, size


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("512", 512),
        ("1K", 1024),
        ("512M", 512 * 2**20),
        ("1.5GiB", 3 * 2**29),
        ("2 GB", 2**31),
        ("1t", 2**40),
        ("7b", 7),
    ],
)
def test_sizes_are_read_in_powers_of_1024(text: str, expected: int) -> None:
    assert parse_size(text) == expected


@given(st.text(max_size=12))
def test_any_text_is_a_size_or_a_value_error(text: str) -> None:
    try:
        found = parse_size(text)
    except ValueError:
        return
    assert found > 0


@pytest.mark.parametrize("text", ["", "M", "-1G", "0", "12X", "1e999G", "nan", "inf"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the caller names the field
        parse_size(text)


@pytest.mark.parametrize(
    ("number", "expected"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (2**50 * 2048, "2048.0 PiB")]
)
def test_sizes_are_shown_for_people(number: int, expected: str) -> None:
    assert size(number) == expected
