"""The code that people compare: one for both ends, another for whoever stands between them."""

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from nano.fabric.joining.short_code import NONCE_BYTES, commitment_to, opens, short_code

NONCES = st.binary(min_size=NONCE_BYTES, max_size=NONCE_BYTES)
DER = st.binary(min_size=1, max_size=200)


def test_the_code_is_as_documented() -> None:
    digest = hashlib.sha256(b"nano join" + b"key" + b"authority" + b"a" * 32 + b"s" * 32).digest()
    bits = f"{int.from_bytes(digest, 'big'):0256b}"[:40]
    letters = ["0123456789ABCDEFGHJKMNPQRSTVWXYZ"[int(bits[at : at + 5], 2)] for at in range(0, 40, 5)]
    expected = "".join(letters[:4]) + "-" + "".join(letters[4:])
    assert short_code(b"key", b"authority", b"a" * 32, b"s" * 32) == expected


@given(DER, DER, NONCES, NONCES)
def test_each_part_counts(applicant: bytes, authority: bytes, ours: bytes, theirs: bytes) -> None:
    code = short_code(applicant, authority, ours, theirs)
    for other in (
        short_code(applicant + b"x", authority, ours, theirs),
        short_code(applicant, authority + b"x", ours, theirs),
        short_code(applicant, authority, bytes(NONCE_BYTES - 1) + b"\x01", theirs),
    ):
        assert other != code or ours == bytes(NONCE_BYTES - 1) + b"\x01"
    assert len(code) == 9
    assert not set(code) & set("ILOU")


@given(NONCES, NONCES)
def test_a_commitment_is_opened_by_its_nonce_alone(nonce: bytes, other: bytes) -> None:
    assert opens(nonce, commitment_to(nonce))
    assert opens(other, commitment_to(nonce)) == (other == nonce)


def test_what_is_no_nonce_opens_nothing() -> None:
    assert not opens(b"", commitment_to(b""))
    assert not opens(b"x" * 33, commitment_to(b"x" * 33))
