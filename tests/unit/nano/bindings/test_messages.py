"""The words between cell and responder: read as written, and refused with the member that is wrong."""

import json
from contextlib import suppress
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nano.bindings.messages import (
    DEFAULT_LEASE_S,
    Ask,
    Bind,
    Entry,
    List,
    Replace,
    Unbind,
    Watch,
    decode_answer,
    decode_ask,
    encode_ask,
    encode_entries,
    encode_fault,
    entry_from,
    entry_json,
)
from nano.model.address import Binding, Provider
from nano.model.errors import BY_CODE, Conflict, Invalid, NanoError

IP = IPv4Address("10.0.0.7")
BINDING = Binding("vm/0", IP, IPv4Address("255.255.255.0"), IPv4Address("10.0.0.1"), (IP, IP), Provider.DHCP)
ENTRY = Entry("00:16:3e:00:00:07", BINDING, "vm-7", granted_ms=5, declined_ms=6)


@pytest.mark.parametrize("ask", [Bind(ENTRY), Unbind(ENTRY.mac), Replace((ENTRY, ENTRY)), List(), Watch()])
def test_an_ask_is_read_as_it_was_written(ask: Ask) -> None:
    line = encode_ask(ask)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert decode_ask(line) == ask


def test_entries_are_read_as_they_were_written() -> None:
    assert decode_answer(encode_entries((ENTRY,))) == (ENTRY,)


@pytest.mark.parametrize("kind", BY_CODE.values())
def test_a_fault_is_raised_as_what_it_was(kind: type[NanoError]) -> None:
    error = Invalid("mac", "no", subject="x") if kind is Invalid else kind("no", field="mac", subject="x")
    with pytest.raises(kind) as raised:
        decode_answer(encode_fault(error))
    assert (raised.value.message, raised.value.field, raised.value.subject) == ("no", "mac", "x")


def test_a_lease_lasts_as_long_as_the_model_says_when_nothing_is_said() -> None:
    short = entry_json(ENTRY)
    del short["lease_s"]
    assert entry_from(short).binding.lease_s == DEFAULT_LEASE_S == BINDING.lease_s


@pytest.mark.parametrize(
    ("member", "wrong"),
    [
        ("mac", "00:16:3E:00:00:07"),
        ("mac", 7),
        ("owner", None),
        ("address", "10.0.0.256"),
        ("address", 167772167),
        ("netmask", ""),
        ("gateway", "gateway"),
        ("dns", "10.0.0.53"),
        ("dns", ["10.0.0.53", 1]),
        ("provider", "magic"),
        ("lease_s", 0),
        ("lease_s", 2**32),
        ("lease_s", True),
        ("hostname", "no spaces"),
        ("hostname", "-edge"),
        ("granted_ms", "5"),
    ],
)
def test_the_member_that_is_wrong_is_named(member: str, wrong: object) -> None:
    with pytest.raises(Invalid) as refused:
        entry_from({**entry_json(ENTRY), member: wrong})
    assert refused.value.field == member


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
members = st.sampled_from([*entry_json(ENTRY), "ask", "entry", "entries", "fault"])
objects = st.dictionaries(members, json_values | st.just(entry_json(ENTRY)), max_size=6)


@given(objects | objects.map(lambda found: {**found, "ask": "bind", "entry": {**entry_json(ENTRY), **found}}))
def test_no_object_does_more_than_be_refused(found: dict[str, object]) -> None:
    line = json.dumps(found).encode()
    for decode in (decode_ask, decode_answer):
        with suppress(NanoError):
            decode(line)


@given(st.binary(max_size=60))
def test_no_bytes_do_more_than_be_refused(line: bytes) -> None:
    for decode in (decode_ask, decode_answer):
        with pytest.raises(Invalid):
            decode(line)


def test_a_conflict_keeps_what_it_is_about() -> None:
    with pytest.raises(Conflict, match="taken"):
        decode_answer(encode_fault(Conflict("taken", subject=ENTRY.mac)))
