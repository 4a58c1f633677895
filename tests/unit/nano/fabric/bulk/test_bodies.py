"""What both ends of a transfer agree on."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nano.fabric.bulk.bodies import error_header, error_in, offset_in, roles_for, size_in
from nano.model.errors import BY_CODE, Invalid, NanoError, from_code
from nano.model.peers import Role

CELLS, GATEWAYS = frozenset({Role.CELL}), frozenset({Role.GATEWAY})
TABLE = {("GET", "/"): CELLS, ("GET", "/images/"): GATEWAYS, ("PUT", "/images/"): CELLS}


@pytest.mark.parametrize(
    ("method", "path", "roles"),
    [
        ("GET", "/chunks/1", CELLS),
        ("GET", "/images/1", GATEWAYS),
        ("PUT", "/images/1", CELLS),
        ("PUT", "/chunks/1", frozenset()),
        ("HEAD", "/images/1", frozenset()),
    ],
)
def test_the_longest_row_decides_and_without_one_nobody_may(
    method: str, path: str, roles: frozenset[Role]
) -> None:
    assert roles_for(TABLE, method, path) == roles


@given(st.integers(0, 10**18 - 1))
def test_an_offset_is_read_back(offset: int) -> None:
    assert offset_in(f"bytes={offset}-") == offset
    assert size_in(str(offset)) == offset


@given(st.text(max_size=40))
def test_any_range_gives_an_offset_or_is_invalid(text: str) -> None:
    with contextlib.suppress(Invalid):
        assert offset_in(text) >= 0


def test_a_range_that_is_not_spoken_is_named() -> None:
    with pytest.raises(Invalid) as found:
        offset_in("bytes=0-5")
    assert found.value.field == "range"


@given(st.text(max_size=40))
def test_any_length_is_a_number_or_none(text: str) -> None:
    size = size_in(text)
    assert size is None or size >= 0


@pytest.mark.parametrize("code", sorted(BY_CODE))
def test_an_error_in_a_header_comes_back_as_itself(code: str) -> None:
    error = from_code(code, "what ü", field="f", subject="ü", retry_after_s=2.0)
    header = error_header(error)
    assert header.isascii(), "a header is"
    again = error_in([(":status", "500"), ("nano-error", header)], "what ü")
    assert type(again) is type(error)
    assert vars(again) == vars(error)


@given(st.text(max_size=60))
def test_any_error_header_gives_an_error(text: str) -> None:
    assert isinstance(error_in([(":status", "500"), ("nano-error", text)], "x"), NanoError)
