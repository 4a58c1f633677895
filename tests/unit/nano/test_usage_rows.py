"""Samples in rows: read as the general decoder reads them, or not at all."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nano.contracts.nano import v1
from nano.usage_rows import ROW_BYTES, pack, read, unpack

NUMBERS = st.integers(0, 2**64 - 1)
ROWS = st.lists(
    st.tuples(st.floats(width=32, allow_nan=False, allow_infinity=False), *([NUMBERS] * 8)), max_size=12
)


@given(ROWS)
def test_rows_come_back(rows: list[tuple[float, ...]]) -> None:
    data = pack(rows)
    assert len(data) == ROW_BYTES * len(rows)
    assert unpack(data) == rows


@given(NUMBERS, st.lists(st.text(max_size=40), max_size=12), st.binary(max_size=300))
def test_a_message_is_read_as_the_general_decoder_reads_it(at_ms: int, names: list[str], rows: bytes) -> None:
    assert read(bytes(v1.Usages(at_ms=at_ms, subjects=names, rows=rows))) == (at_ms, names, rows)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_a_value_error(data: bytes) -> None:
    try:
        at_ms, names, rows = read(data)
    except ValueError:
        return
    again = v1.Usages.parse(data)
    assert (at_ms, names, rows) == (again.at_ms, again.subjects, again.rows)


@pytest.mark.parametrize(
    "data",
    [
        b"\x08",  # a number that is not there
        b"\x08" + b"\x80" * 3,  # one that is cut
        b"\x08" + b"\xff" * 9 + b"\x02",  # one that is too large
        b"\x12\x05ab",  # a text that is cut
        b"\x12\x01\xff",  # no UTF-8
        b"\x1a\x01",  # rows that are cut
        b"\x22\x00",  # another field
        b"\x10\x00",  # another kind of field
    ],
)
def test_what_is_not_well_formed_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - of several kinds, UnicodeDecodeError is one
        read(data)


def test_half_a_row_is_none() -> None:
    with pytest.raises(ValueError, match="no rows"):
        unpack(bytes(ROW_BYTES - 1))


@pytest.mark.parametrize("share", [float("nan"), float("inf"), float("-inf")])
def test_a_share_that_is_no_number_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="no number"):
        unpack(pack([(share, *range(8))]))
