"""Signed requests are taken or refused with the documented texts (REST document, sections 1.4 and 12.2)."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nano.model.errors import Untrusted
from nano.web.keys import Credential
from services.gateway.keyring import Keyring, SignedRequest, is_fresh, new_credential
from tests.support.signed_vectors import ID, KEY, NOW_S, SCOPE, VECTORS, Vector

KEYRING = Keyring([Credential(ID, KEY), Credential("other", "another key")])


def refusal(request: SignedRequest, now_s: float = NOW_S) -> str:
    with pytest.raises(Untrusted) as refused:
        KEYRING.verify(request, now_s)
    return refused.value.message


def signed(vector: Vector) -> SignedRequest:
    return SignedRequest(vector.request, vector.authorization)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name)
def test_a_worked_vector_is_taken(vector: Vector) -> None:
    assert KEYRING.verify(signed(vector), NOW_S) == Credential(ID, KEY)


Change = Callable[[Vector], Vector]


def _header(name: str, value: str) -> Change:
    return lambda vector: replace(vector, headers={**vector.headers, name: value})


ALTERED: dict[str, tuple[Change, str]] = {
    "path": (
        lambda vector: replace(vector, path=vector.path.replace(b"_", b"-")),
        "signature corrupted",
    ),
    "query": (lambda vector: replace(vector, query=vector.query + b"&zone=1"), "signature corrupted"),
    "host": (_header("host", "192.168.1.32"), "signature corrupted"),
    "session": (_header("nano-session", "t"), "signature corrupted"),
    "date, fresh": (_header("nano-date", "2024-07-16T08:30:01Z"), "signature corrupted"),
    "date, in another offset": (_header("nano-date", "2024-07-16T10:30:00+02:00"), "signature corrupted"),
    "date, old": (
        _header("nano-date", "2024-07-16T08:00:00Z"),
        "expired request with date 2024-07-16T08:00:00Z",
    ),
    "date, none": (_header("nano-date", "yesterday"), "expired request with date yesterday"),
    "date, missing": (_header("nano-date", ""), "expired request with date "),
    "scope": (
        _header("nano-scope", "20240716/other/nano_request"),
        f"request scope mismatch: 20240716/other/nano_request => {SCOPE}",
    ),
    "scope, missing": (_header("nano-scope", ""), f"request scope mismatch:  => {SCOPE}"),
}


@pytest.mark.parametrize("part", ALTERED)
@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name)
def test_an_altered_vector_is_refused_with_its_documented_text(vector: Vector, part: str) -> None:
    change, text = ALTERED[part]
    altered = SignedRequest(change(vector).request, vector.authorization)
    is_stream = altered.parts.body_digest is None
    assert refusal(altered) == ("unauthorized stream" if is_stream else text)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name)
def test_each_altered_byte_of_the_path_is_refused(vector: Vector) -> None:
    for index in range(len(vector.path)):
        path = bytearray(vector.path)
        path[index] ^= 1
        assert refusal(SignedRequest(replace(vector, path=bytes(path)).request, vector.authorization))


def test_each_altered_byte_of_the_body_is_refused() -> None:
    vector = VECTORS[1]
    for index in range(len(vector.body)):
        body = bytearray(vector.body)
        body[index] ^= 1
        altered = SignedRequest(replace(vector, body=bytes(body)).request, vector.authorization)
        assert refusal(altered) == "signature corrupted"


def test_an_altered_content_type_is_refused() -> None:
    altered = _header("content-type", "text/plain")(VECTORS[1])
    assert refusal(SignedRequest(altered.request, altered.authorization)) == "signature corrupted"


def test_the_bytes_of_an_image_are_not_signed() -> None:
    vector = replace(VECTORS[2], body=b"other bytes")
    assert KEYRING.verify(signed(vector), NOW_S).id == ID


@pytest.mark.parametrize("index", range(64))
def test_each_altered_digit_of_the_signature_is_refused(index: int) -> None:
    vector = VECTORS[0]
    digits = list(vector.signature)
    digits[index] = "0" if digits[index] != "0" else "1"
    assert refusal(signed(replace(vector, signature="".join(digits)))) == "signature corrupted"


def test_an_unknown_id_is_refused_before_all_else() -> None:
    vector = _header("nano-date", "never")(VECTORS[0])
    request = SignedRequest(vector.request, vector.authorization.replace(ID, "nobody"))
    assert refusal(request) == "invalid API ID: nobody"


def test_the_id_of_another_credential_is_refused() -> None:
    vector = VECTORS[0]
    request = SignedRequest(vector.request, vector.authorization.replace(ID, "other"))
    assert refusal(request) == "signature corrupted"


def test_a_request_without_authorization_is_refused() -> None:
    assert refusal(SignedRequest(VECTORS[0].request, "")) == "authorization required"
    assert refusal(SignedRequest(VECTORS[2].request, "")) == "unauthorized stream"


@pytest.mark.parametrize(
    ("offset_s", "fresh"), [(0, True), (900, True), (-900, True), (901, False), (-901, False)]
)
def test_a_date_is_taken_within_a_quarter_of_an_hour_of_our_clock(offset_s: float, fresh: bool) -> None:
    assert is_fresh("2024-07-16T08:30:00Z", NOW_S + offset_s) is fresh


@pytest.mark.parametrize(
    ("date", "fresh"),
    [
        ("2024-07-16T16:30:00+08:00", True),
        ("2024-07-16T08:30:00.5Z", True),
        ("2024-07-15T22:30:00-10:00", True),
        ("2024-07-16T08:30:00", False),
        ("2024-07-16 08:30:00Z", False),
        ("2024-13-16T08:30:00Z", False),
        ("2024-07-16T08:30:00+99:99", False),
        ("1721118600", False),
    ],
)
def test_only_a_whole_rfc_3339_time_is_a_date(date: str, fresh: bool) -> None:
    assert is_fresh(date, NOW_S) is fresh


@given(st.text() | st.from_regex(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(Z|[+-]\d\d:\d\d)", fullmatch=True))
def test_any_text_is_fresh_or_not(date: str) -> None:
    assert is_fresh(date, NOW_S) in {True, False}


@given(st.text(), st.dictionaries(st.sampled_from(["nano-date", "nano-scope", "host"]), st.text()))
def test_whatever_is_claimed_without_the_key_is_refused(value: str, headers: dict[str, str]) -> None:
    vector = replace(VECTORS[0], headers={**VECTORS[0].headers, **headers})
    if vector.headers != VECTORS[0].headers or value != VECTORS[0].authorization:
        assert refusal(SignedRequest(vector.request, value))


def test_each_new_credential_is_its_own_and_hides_its_key() -> None:
    one, two = new_credential(), new_credential()
    assert one.id != two.id
    assert one.key != two.key
    assert one.key not in repr(one)
    request = SignedRequest(VECTORS[0].request, VECTORS[0].authorization)
    with pytest.raises(Untrusted, match="invalid API ID: dummyID"):
        Keyring([one]).verify(request, NOW_S)
