"""What a peer keeps of whom the zone trusts: read back as written, or refused."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nano.fabric.identity.trust import ShutOut, ZoneTrust, decode, encode, kept
from nano.model.errors import Corrupt
from nano.model.peers import Role

NAMES = st.text("abcXYZ019_-", min_size=1, max_size=64)
COUNTS = st.integers(0, 2**63 - 1)
KEYS = st.binary(min_size=32, max_size=32).map(bytes.hex)
TRUSTS = st.builds(
    ZoneTrust,
    zone=NAMES,
    revision=COUNTS,
    authorities=st.lists(st.text(max_size=20), min_size=1, max_size=3).map(tuple),
    removals=st.lists(st.builds(ShutOut, KEYS, st.sampled_from(Role), NAMES, COUNTS), max_size=3).map(tuple),
)
PATH = Path("trust.json")


@given(TRUSTS)
def test_it_is_read_back_as_it_was_written(told: ZoneTrust) -> None:
    assert decode(encode(told), PATH) == told


@given(TRUSTS, st.data())
def test_torn_it_is_refused_and_never_half_believed(told: ZoneTrust, data: st.DataObject) -> None:
    content = encode(told)
    torn = content[: data.draw(st.integers(0, len(content) - 3))]
    with pytest.raises(Corrupt) as refused:
        decode(torn, PATH)
    assert "delete it" in refused.value.message


@given(st.binary(max_size=100))
def test_other_bytes_are_corrupt(content: bytes) -> None:
    with pytest.raises(Corrupt):
        decode(content, PATH)


def test_what_was_never_told_is_not_there(tmp_path: Path) -> None:
    assert kept(tmp_path / "trust.json") is None


def test_the_bundle_joins_certificates_line_by_line() -> None:
    assert ZoneTrust("z", 1, ("a", "b\n")).bundle == "a\nb\n"
