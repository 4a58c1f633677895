"""The text of a join token: read back as it was said, and every slip told from a wrong token."""

import base64
import zlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nano.fabric.joining.join_token import (
    JOINABLE,
    PREFIX,
    TEXT_LIMIT,
    TokenText,
    decode,
    encode,
    secret_digest,
    token_id,
)
from nano.model.errors import Invalid
from nano.model.peers import Role

NAMES = st.text("abcXYZ019_-", min_size=1, max_size=64)
TOKENS = st.builds(
    TokenText,
    version=st.just(1),
    zone=NAMES,
    authorities=st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=3).map(tuple),
    secret=st.binary(min_size=16, max_size=16),
    role=st.sampled_from(sorted(JOINABLE)),
    id=NAMES | st.just(""),
    expires_ms=st.integers(0, 2**63 - 1),
    schedulers=st.lists(st.just("10.0.0.1:5600"), max_size=3).map(tuple),
)
TOKEN = TokenText(1, "z", (b"\x01" * 32,), b"s" * 16, Role.CELL, "", 5, ("10.0.0.1:5600",))


@given(TOKENS)
def test_a_token_is_read_back_as_it_was_said(token: TokenText) -> None:
    assert decode(encode(token)) == token
    assert decode(f"  {encode(token)}\n") == token


@given(TOKENS)
def test_nothing_that_is_printed_holds_the_secret(token: TokenText) -> None:
    for text in (str(token), repr(token), repr([token])):
        assert repr(token.secret)[2:-1] not in text
        assert token_id(token.secret) in text


@given(TOKENS, st.data())
def test_a_slip_in_copying_is_told_as_such(token: TokenText, data: st.DataObject) -> None:
    text = encode(token)
    at = data.draw(st.integers(len(PREFIX), len(text) - 3))  # the last character's spare bits mean nothing
    other = data.draw(st.sampled_from("ABCabc019-_"))
    changed = text[:at] + other + text[at + 1 :]
    for slip in (changed, text[:at], text[:at] + text[at + 1 :]):
        if slip != text:
            with pytest.raises(Invalid, match="copy"):
                decode(slip)


@given(st.text() | st.text().map(lambda text: PREFIX + text) | st.binary().map(lambda b: PREFIX + b.hex()))
def test_anything_else_is_refused_with_its_field(text: str) -> None:
    with pytest.raises(Invalid) as refused:
        decode(text, field="fabric.token")
    assert refused.value.field == "fabric.token"


@given(st.binary(max_size=200))
def test_bytes_of_any_kind_behind_a_right_sum_are_refused_or_a_token(body: bytes) -> None:
    field = ""
    try:
        decode(_text_of(body))
    except Invalid as error:
        field = error.field
    assert field in {"", "token"}


def _text_of(body: bytes) -> str:
    whole = body + zlib.crc32(body).to_bytes(4, "big")
    return PREFIX + base64.urlsafe_b64encode(whole).rstrip(b"=").decode()


@pytest.mark.parametrize("role", [Role.SCHEDULER, Role.ADMIN, Role.APPLICANT])
def test_nobody_joins_by_token_as_what_rules_the_zone(role: Role) -> None:
    with pytest.raises(Invalid, match=f"nobody joins as {role}"):
        decode(encode(msgspec.structs.replace(TOKEN, role=role)))


def test_a_token_of_a_later_version_is_told_as_such() -> None:
    later = list(msgspec.msgpack.decode(msgspec.msgpack.encode(TOKEN)))
    later[0] = 2
    with pytest.raises(Invalid, match="this version cannot read"):
        decode(_text_of(msgspec.msgpack.encode(later)))


def test_what_is_logged_of_a_token_is_not_its_secret() -> None:
    said = str(TOKEN)
    assert token_id(TOKEN.secret) in said
    assert "ssss" not in said
    assert TOKEN.secret.hex() not in said
    assert secret_digest(TOKEN.secret).startswith(token_id(TOKEN.secret))


def test_it_trusts_the_authorities_that_it_names_and_no_other() -> None:
    assert TOKEN.trusts("01" * 32)
    assert not TOKEN.trusts("02" * 32)


def test_the_longest_honest_token_fits() -> None:
    longest = TokenText(
        1,
        "z" * 64,
        (b"\xff" * 32,) * 8,
        b"s" * 16,
        Role.ADDRESSPOOL,
        "i" * 64,
        2**62,
        ("[fe80::1]:65535",) * 16,
    )
    assert len(encode(longest)) < TEXT_LIMIT
