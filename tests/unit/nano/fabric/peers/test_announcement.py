"""What peers shout, and what is understood of what anybody shouts."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nano.fabric.peers.announcement import LIMIT_BYTES, Announcement, Kind, decode, encode
from nano.model.errors import Corrupt
from nano.model.peers import Peer, Role

NAME = st.from_regex(r"\A[A-Za-z0-9_-]{1,64}\Z")
ANNOUNCEMENTS = st.builds(
    Announcement,
    kind=st.sampled_from(Kind),
    zone=NAME,
    domain=NAME,
    role=st.sampled_from(Role),
    id=NAME,
    port=st.integers(1, 65535),
    wants=st.none() | st.sampled_from(Role),
    version=st.just(1),
)
GOOD = {"kind": "here", "zone": "z", "domain": "nano", "role": "cell", "id": "c1", "port": 5604}


@given(ANNOUNCEMENTS)
def test_every_announcement_fits_a_datagram_and_is_read_back(announcement: Announcement) -> None:
    assert len(encode(announcement)) <= LIMIT_BYTES
    assert decode(encode(announcement)) == announcement


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "hello"},
        {"zone": ""},
        {"zone": "a/b"},
        {"zone": "a\n"},
        {"zone": "a" * 65},
        {"domain": ""},
        {"role": "emperor"},
        {"id": "../x"},
        {"id": 7},
        {"port": 0},
        {"port": 65536},
        {"port": "5604"},
        {"port": 5604.5},
        {"version": 2},
        {"version": "1"},
        {"wants": "all"},
        {"extra": True},
        {"port": None},
    ],
)
def test_anything_else_is_corrupt(change: dict[str, object]) -> None:
    assert decode(msgspec.json.encode(GOOD)).peer == Peer(Role.CELL, "c1")
    with pytest.raises(Corrupt):
        decode(msgspec.json.encode({**GOOD, **change}))


@given(
    st.binary(max_size=LIMIT_BYTES + 1),
    st.integers(0, len(msgspec.json.encode(GOOD)) - 1),
    st.binary(max_size=4),
)
def test_strange_bytes_are_corrupt_or_an_announcement(noise: bytes, at: int, splice: bytes) -> None:
    good = msgspec.json.encode(GOOD)
    for datagram in (noise, good[:at], good[:at] + splice + good[at + 1 :]):
        try:
            said = decode(datagram)
        except Corrupt:
            continue
        assert decode(encode(said)) == said


def test_an_oversized_datagram_is_corrupt_though_it_says_something() -> None:
    padded = msgspec.json.encode(GOOD).ljust(LIMIT_BYTES)
    assert decode(padded).id == "c1"
    with pytest.raises(Corrupt, match="512"):
        decode(padded + b" ")


@pytest.mark.parametrize(
    ("kind", "wants", "answers"),
    [
        (Kind.QUERY, None, True),
        (Kind.QUERY, Role.CELL, True),
        (Kind.QUERY, Role.GATEWAY, False),
        (Kind.HERE, Role.CELL, False),
        (Kind.LEAVING, None, False),
    ],
)
def test_only_those_who_are_asked_answer(kind: Kind, wants: Role | None, answers: bool) -> None:
    said = Announcement(kind, "z", "nano", Role.SCHEDULER, "main", 5600, wants)
    assert said.asks_for(Peer(Role.CELL, "c1")) is answers
