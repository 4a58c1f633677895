"""What a message says of whom the zone trusts: taken whole, or refused with a reason."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nano import wire
from nano.contracts.nano import v1
from nano.fabric.identity.trust import ShutOut, ZoneTrust
from nano.member import trust_message, zone_trust
from nano.model.errors import Corrupt, Invalid
from nano.model.peers import Role

NAMES = st.text("abcXYZ019_-", min_size=1, max_size=64)
COUNTS = st.integers(0, 2**63 - 1)
KEYS = st.binary(min_size=32, max_size=32).map(bytes.hex)
TRUSTS = st.builds(
    ZoneTrust,
    zone=st.just("z"),
    revision=COUNTS,
    authorities=st.lists(st.text(max_size=20), min_size=1, max_size=3).map(tuple),
    removals=st.lists(st.builds(ShutOut, KEYS, st.sampled_from(Role), NAMES, COUNTS), max_size=3).map(tuple),
)
MESSAGES = (
    v1.JoinMessage,
    v1.JoinReply,
    v1.Application,
    v1.Grant,
    v1.RenewRequest,
    v1.ZoneTrust,
    v1.TrustReply,
)


@given(TRUSTS)
def test_it_is_understood_as_it_was_said(trust: ZoneTrust) -> None:
    assert zone_trust(v1.ZoneTrust.parse(bytes(trust_message(trust))), "z") == trust


@pytest.mark.parametrize(
    "message",
    [
        None,
        v1.ZoneTrust(),
        v1.ZoneTrust(authorities=["a"], removals=[v1.Removal(fingerprint="short", role="cell", id="c")]),
        v1.ZoneTrust(authorities=["a"], removals=[v1.Removal(fingerprint="ab" * 32, role="king", id="c")]),
        v1.ZoneTrust(authorities=["a"], removals=[v1.Removal(fingerprint="ab" * 32, role="cell", id="")]),
        v1.ZoneTrust(revision=2**64 - 1, authorities=["a"]),
    ],
)
def test_what_cannot_be_meant_is_refused(message: v1.ZoneTrust | None) -> None:
    with pytest.raises(Invalid) as refused:
        zone_trust(message, "z")
    assert refused.value.field == "trust"


@given(st.sampled_from(MESSAGES), st.binary(max_size=300))
def test_any_bytes_are_a_message_of_the_door_or_refused(contract: Any, data: bytes) -> None:
    try:
        message: Any = wire.decode(contract, data)
    except (Corrupt, Invalid):
        return
    wire.checked(message)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_trust_or_refused(data: bytes) -> None:
    try:
        found = zone_trust(wire.decode(v1.ZoneTrust, data), "z")
    except (Corrupt, Invalid):
        return
    assert found.authorities
