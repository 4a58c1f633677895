"""The worked vectors of the REST document (sections 1.5 and 12.1), and what else the signature is made of."""

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from urllib.parse import quote, unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nano import signature
from nano.signature import Authorization, Malformed, Request
from tests.support.signed_vectors import ID, KEY, SCOPE, VECTORS, Vector


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name)
def test_a_worked_vector_has_its_documented_canonical_hash(vector: Vector) -> None:
    canonical = signature.canonical_request(vector.request, vector.signed_headers)
    assert hashlib.sha256(canonical.encode()).hexdigest() == vector.canonical_digest


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name)
def test_a_worked_vector_has_its_documented_signature(vector: Vector) -> None:
    assert (
        signature.signature(
            vector.request,
            signed_headers=vector.signed_headers,
            secret=KEY,
            date=vector.headers["nano-date"],
            scope=SCOPE,
        )
        == vector.signature
    )


def test_vector_a_is_written_as_documented() -> None:
    vector = VECTORS[0]
    assert signature.canonical_request(vector.request, vector.signed_headers).splitlines() == [
        "%252Fapi%252Fv1%252Fguest_search%252F",
        "cell=a+b~c%2F%2B&owner=admin&pool=default",
        "host:192.168.1.31",
        "nano-session:5f0f2f2e-6c3c-4f57-9f0a-0c6d0c9b7a11",
        "nano-date:2024-07-16T08:30:00Z",
        "nano-scope:20240716/default/nano_request",
        "",
        "host;nano-session;nano-date;nano-scope",
        signature.EMPTY_DIGEST,
    ]


def test_sign_gives_the_headers_of_a_worked_vector() -> None:
    vector = VECTORS[1]
    bare = replace(
        vector.request,
        headers={name: vector.headers[name] for name in ("host", "content-type")},
    )
    headers = signature.sign(
        bare,
        api_id=ID,
        secret=KEY,
        at=datetime(2024, 7, 16, 8, 30, 0, 999, tzinfo=UTC),
        session=vector.headers["nano-session"],
    )
    assert headers == {
        "nano-session": vector.headers["nano-session"],
        "nano-date": "2024-07-16T08:30:00Z",
        "nano-scope": SCOPE,
        "nano-authorization": vector.authorization,
    }


def test_sign_writes_the_day_of_the_offset_that_it_is_given() -> None:
    at = datetime(2024, 7, 16, 1, 0, tzinfo=timezone(timedelta(hours=8)))
    headers = signature.sign(VECTORS[0].request, api_id=ID, secret=KEY, at=at)
    assert headers["nano-date"] == "2024-07-16T01:00:00+08:00"
    assert headers["nano-scope"] == "20240716/default/nano_request"


@pytest.mark.parametrize(
    ("method", "path", "digest"),
    [
        ("POST", b"/api/v1/guests/", hashlib.sha256(b"x").hexdigest()),
        ("GET", b"/api/v1/guests/", signature.EMPTY_DIGEST),
        ("POST", b"/api/v1/media_images/a/file/", None),
        ("GET", b"/api/v1/disk_images/a/file/", None),
        ("POST", b"/api/v1/disk_images/a/b/file/", hashlib.sha256(b"x").hexdigest()),
    ],
)
def test_only_image_files_leave_the_body_unsigned(method: str, path: bytes, digest: str | None) -> None:
    assert signature.body_digest(method, path, b"x") == digest


def test_only_the_first_value_of_a_repeated_name_is_signed() -> None:
    once, twice = (
        signature.canonical_request(Request(b"/", query, {}, None), "") for query in (b"a=1", b"a=1&a=2")
    )
    assert once == twice


@pytest.mark.parametrize(
    ("query", "pairs"),
    [
        (b"a+b=%E4%BA%91", [(b"a b", "云".encode())]),
        (b"a&b=&&=c", [(b"a", b""), (b"b", b""), (b"", b"c")]),
        (b"a=%zz&b=1", [(b"b", b"1")]),
        (b"a=1;b=2&c=3", [(b"c", b"3")]),
        (b"a=b=c", [(b"a", b"b=c")]),
        (b"", []),
    ],
)
def test_a_query_is_read_as_the_documented_server_reads_it(
    query: bytes, pairs: list[tuple[bytes, bytes]]
) -> None:
    assert signature.query_pairs(query) == pairs


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("", "authorization required"),
        ("Nano-HMAC", "insufficent authorization: Nano-HMAC"),
        ("Nano-HMAC-SHA1   Credential=a/b", "invalid signature method: Nano-HMAC-SHA1  "),
        (
            "Nano-HMAC-SHA256 Credential=a/b, SignedHeaders=c",
            "insufficent authorization: Nano-HMAC-SHA256 Credential=a/b, SignedHeaders=c",
        ),
        (
            "Nano-HMAC-SHA256 Credentials=a/b, SignedHeaders=c, Signature=d",
            "invalid authorization token: Credentials=a/b",
        ),
        (
            "Nano-HMAC-SHA256 Credential=a/b, Signature=d, SignedHeaders=c",
            "invalid authorization token:  Signature=d",
        ),
        (
            "Nano-HMAC-SHA256 Credential=a/b, SignedHeaders=c, Signature",
            "invalid authorization token:  Signature",
        ),
        ("Nano-HMAC-SHA256 Credential=a, SignedHeaders=c, Signature=d", "invalid API ID: a"),
        ("Nano-HMAC-SHA256 Credential=/b, SignedHeaders=c, Signature=d", "invalid API ID: /b"),
    ],
)
def test_a_malformed_authorization_is_refused_with_its_documented_text(value: str, text: str) -> None:
    with pytest.raises(Malformed) as refusal:
        signature.parse_authorization(value)
    assert str(refusal.value) == text


def test_blanks_around_names_and_values_do_not_count() -> None:
    value = "Nano-HMAC-SHA256   Credential = a/b/c ,SignedHeaders= host;x,  Signature =00 "
    assert signature.parse_authorization(value) == Authorization("a", "b/c", "host;x", "00")


@given(
    st.text() | st.text(alphabet="Nano-HMAC-SHA256 Credential=/,SignedHeaders").map(signature.METHOD.__add__)
)
def test_the_authorization_parser_answers_or_refuses_whatever_comes(value: str) -> None:
    try:
        claim = signature.parse_authorization(value)
    except Malformed:
        return
    assert claim.api_id


_WORD = st.text(alphabet="abcXYZ019-_.;", min_size=1)


@given(_WORD, _WORD, _WORD, _WORD)
def test_an_authorization_that_is_written_is_read_back(
    api_id: str, scope: str, headers: str, digest: str
) -> None:
    claim = Authorization(api_id, scope, headers, digest)
    assert signature.parse_authorization(signature.authorization_value(claim)) == claim


@given(st.binary())
def test_what_is_escaped_is_decoded_to_the_same_bytes(value: bytes) -> None:
    assert signature.percent_decode(signature.escape(value).encode(), form=True) == value
    assert signature.percent_decode(quote(value).encode()) == value


@given(st.binary())
def test_the_percent_decoder_agrees_with_the_standard_library_on_all_that_it_takes(text: bytes) -> None:
    try:
        decoded = signature.percent_decode(text)
    except ValueError:
        return
    assert decoded == unquote_to_bytes(text)


@given(st.binary())
def test_any_query_gives_pairs_and_a_canonical_form(query: bytes) -> None:
    signature.canonical_request(Request(b"/", query, {}, None), "host")
    assert all(isinstance(pair, tuple) for pair in signature.query_pairs(query))
