"""Messages of the contracts, and bytes that are none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nano.contracts.nano import v1
from nano.fabric.calls.codec import MessageCodec
from nano.model.errors import Corrupt, Invalid

CODEC = MessageCodec()


def _kinds() -> list[type]:
    found = [getattr(v1, name) for name in v1.__all__]
    return [kind for kind in found if isinstance(kind, type) and hasattr(kind, "parse")]


@pytest.mark.parametrize("kind", _kinds(), ids=lambda kind: kind.__name__)
def test_an_empty_message_of_each_kind_comes_back(kind: type) -> None:
    assert CODEC.decode(CODEC.encode(kind(), kind), kind) == kind()


@given(data=st.binary(max_size=200), index=st.integers(0, 10_000))
def test_any_bytes_are_a_message_or_an_error(data: bytes, index: int) -> None:
    kinds = _kinds()
    try:
        CODEC.decode(data, kinds[index % len(kinds)])
    except (Corrupt, Invalid):
        return


def test_a_deeply_nested_message_is_refused_or_read_but_does_no_harm() -> None:
    nested = b""
    for _ in range(2_000):
        size = len(nested)
        nested = b"\x0a" + bytes([size & 0x7F | 0x80, size >> 7]) + nested if size < 16_000 else nested
    for kind in _kinds():
        try:
            CODEC.decode(nested, kind)
        except (Corrupt, Invalid):
            continue


def test_a_field_that_is_not_of_its_type_is_named() -> None:
    with pytest.raises(Invalid) as found:
        CODEC.decode(b"\x08\x05", v1.PoolRef)  # a number where the name belongs
    assert found.value.field == "name"


def test_a_handler_that_answers_with_another_message_is_told() -> None:
    first, second, *_ = _kinds()
    with pytest.raises(TypeError, match=first.__name__):
        CODEC.encode(second(), first)
