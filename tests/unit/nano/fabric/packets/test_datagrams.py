"""The first byte, and what a pace says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nano.fabric.packets import datagrams
from nano.model.errors import Corrupt


def test_a_pace_is_five_bytes() -> None:
    assert datagrams.pace(2.5) == b"\x01\x00\x00\x09\xc4"
    assert datagrams.interval_s(b"\x01\x00\x00\x09\xc4") == 2.5


@given(st.floats(0, 60))
def test_a_pace_is_kept_to_the_millisecond(interval_s: float) -> None:
    assert abs(datagrams.interval_s(datagrams.pace(interval_s)) - interval_s) <= 0.0005


@given(st.binary(max_size=20).filter(lambda data: len(data) != 5))
def test_a_pace_of_another_length_is_refused(data: bytes) -> None:
    with pytest.raises(Corrupt, match="it has 5"):
        datagrams.interval_s(data)
