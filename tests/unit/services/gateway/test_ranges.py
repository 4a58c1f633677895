"""Ranges as RFC 9110 has them."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.ranges import Span, Unsatisfiable, asked


@pytest.mark.parametrize(
    ("header", "span"),
    [
        ("bytes=0-0", Span(0, 1)),
        ("bytes=3-5", Span(3, 6)),
        ("bytes=3-", Span(3, 10)),
        ("bytes=3-99", Span(3, 10)),
        ("bytes=-4", Span(6, 10)),
        ("bytes=-99", Span(0, 10)),
        ("", None),
        ("bytes=-", None),
        ("bytes=5-3", None),
        ("bytes=0-1,3-4", None),
        ("lines=0-1", None),
        ("bytes=a-b", None),
    ],
)
def test_a_range_of_ten_bytes(header: str, span: Span | None) -> None:
    assert asked(header, 10) == span


@pytest.mark.parametrize("header", ["bytes=10-", "bytes=10-20", "bytes=-0"])
def test_a_range_outside_of_the_file_is_unsatisfiable(header: str) -> None:
    with pytest.raises(Unsatisfiable):
        asked(header, 10)


@given(st.text() | st.from_regex(r"bytes=\d*-\d*", fullmatch=True), st.integers(0, 2**60))
def test_any_range_is_within_the_file_or_refused(header: str, size_bytes: int) -> None:
    with contextlib.suppress(Unsatisfiable):  # all else fails the test
        span = asked(header, size_bytes)
        assert span is None or 0 <= span.start < span.end <= size_bytes
