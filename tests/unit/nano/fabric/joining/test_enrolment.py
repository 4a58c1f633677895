"""What the scheduler answers to an enrolment line: a certificate, or an error that names the field."""

from datetime import UTC, datetime

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from nano.fabric.identity.authority import Authority
from nano.fabric.identity.identity import Usage, verify_issued, verify_peer
from nano.fabric.joining.enrolment import (
    ENROLLED,
    Admission,
    Grant,
    NoBook,
    Refusal,
    Request,
    answer,
    decode_request,
)
from nano.model.errors import Invalid
from nano.model.peers import Peer, Role
from tests.support.certificates import make_zone, signing_request

NOW = datetime(2026, 1, 1, tzinfo=UTC)
KEY = ec.generate_private_key(ec.SECP256R1())
CSR = signing_request(KEY).public_bytes(Encoding.PEM).decode()
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["role", "id", "csr", "x"]), inner),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def zone(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_zone(tmp_path_factory.mktemp("zone"), now=NOW)


def said(zone: Authority, line: bytes) -> Grant | Refusal:
    answered = answer(zone, NoBook(zone), line, NOW, uid=0, admission=Admission())
    assert answered.count(b"\n") == 1
    assert answered.endswith(b"\n")
    return msgspec.json.decode(answered, type=Grant | Refusal)


@pytest.mark.parametrize("role", sorted(ENROLLED))
def test_a_service_of_this_host_is_granted_its_certificate(zone: Authority, role: Role) -> None:
    granted = said(zone, msgspec.json.encode(Request(role, "main", CSR)) + b"\n")
    assert isinstance(granted, Grant)
    made = x509.load_pem_x509_certificate(granted.certificate.encode())
    verify_issued(made, x509.load_pem_x509_certificates(granted.trust.bundle.encode()))
    assert verify_peer(made, NOW, zone=granted.trust.zone, usage=Usage.SERVER) == Peer(role, "main")
    assert made.public_key() == KEY.public_key()
    assert granted.trust.zone == zone.zone.id


@pytest.mark.parametrize(
    ("line", "field"),
    [
        (b"", "request"),
        (b"\n", "request"),
        (b"{", "request"),
        (b"\xff\xfe\n", "request"),
        (b"[]\n", "request"),
        (b'{"\x80ole":"cell"}\n', "request"),
        (b'{"id":"main","csr":"x"}\n', "role"),
        (b'{"role":"cell","csr":"x"}\n', "id"),
        (b'{"role":"cell","id":"main"}\n', "csr"),
        (b'{"role":"cell","id":7,"csr":"x"}\n', "id"),
        (b'{"role":"cell","id":"main","csr":"x","uid":0}\n', "uid"),
        (msgspec.json.encode(Request("admin", "me", CSR)), "role"),
        (msgspec.json.encode(Request("emperor", "me", CSR)), "role"),
        (msgspec.json.encode(Request("cell", "../etc", CSR)), "id"),
        (msgspec.json.encode(Request("cell", "", CSR)), "id"),
        (msgspec.json.encode(Request("cell", "main", "")), "csr"),
        (msgspec.json.encode(Request("cell", "main", CSR[: len(CSR) // 2])), "csr"),
        (msgspec.json.encode(Request("cell", "main", CSR.replace("REQUEST", "TEAPOT"))), "csr"),
    ],
)
def test_a_refusal_names_the_field_that_is_wrong(zone: Authority, line: bytes, field: str) -> None:
    refused = said(zone, line)
    assert isinstance(refused, Refusal)
    assert (refused.code, refused.field) == ("invalid", field)
    assert refused.message


@given(
    st.one_of(
        st.binary(max_size=200),
        JSON.map(msgspec.json.encode),
        st.binary(max_size=4).map(lambda splice: b'{"ro' + splice + b'e":"cell","id":"a","csr":"b"}'),
    )
)
def test_any_bytes_are_a_request_or_invalid(line: bytes) -> None:
    request: Request | None
    try:
        request = decode_request(line)
    except Invalid as error:
        request, field = None, error.field
    if request is None:
        assert field
    else:
        assert decode_request(msgspec.json.encode(request)) == request


@given(at=st.integers(0, len(CSR) - 1), byte=st.characters(codec="utf-8"))
def test_a_request_with_a_wrong_character_is_granted_or_refused(zone: Authority, at: int, byte: str) -> None:
    line = msgspec.json.encode({"role": "cell", "id": "main", "csr": CSR[:at] + byte + CSR[at + 1 :]})
    reply = said(zone, line)
    assert isinstance(reply, Grant) or reply.field in {"csr", "request"}
