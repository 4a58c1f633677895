from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nano.codec import decode, encode


@dataclass(frozen=True)
class Place:
    address: IPv4Address
    interface: IPv4Interface
    networks: tuple[IPv4Network, ...]
    tags: frozenset[str] = frozenset()


@given(
    st.ip_addresses(v=4),
    st.ip_addresses(v=4),
    st.integers(0, 32),
    st.frozensets(st.text()),
)
def test_what_is_written_is_read_back(
    address: IPv4Address, other: IPv4Address, bits: int, tags: frozenset[str]
) -> None:
    interface = IPv4Interface(f"{other}/{bits}")
    place = Place(address, interface, (interface.network,), tags)
    assert decode(encode(place), Place) == place


def test_the_same_value_is_always_the_same_bytes() -> None:
    names = [f"tag-{number}" for number in range(50)]
    assert encode(frozenset(names)) == encode(frozenset(reversed(names)))
    assert encode({"b": 1, "a": 2}) == b'{"a":2,"b":1}'


@pytest.mark.parametrize("bad", ["10.0.0.256", "", "fe80::1", 167772161, None, ["10.0.0.1"]])
def test_what_is_no_address_is_refused_and_its_place_named(bad: object) -> None:
    data = msgspec.json.encode({"address": bad, "interface": "10.0.0.1/24", "networks": []})
    with pytest.raises(msgspec.ValidationError, match=r"\$\.address"):
        decode(data, Place)


def test_a_type_without_json_is_refused() -> None:
    with pytest.raises(TypeError, match="no JSON for object"):
        encode(object())


@given(st.binary())
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        decode(data, Place)
    except msgspec.DecodeError:
        return
    assert data
