"""Whom a certificate names, and when that is believed."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given
from hypothesis import strategies as st

from nano.fabric.identity.authority import BACKDATED, LIFETIME, Authority
from nano.fabric.identity.identity import (
    Usage,
    dns_name,
    fingerprint_of,
    key_in,
    parse_uri,
    uri,
    verify_applicant,
    verify_issued,
    verify_peer,
)
from nano.model.errors import Untrusted
from nano.model.peers import Peer, Role
from tests.support.certificates import certificate_of, issue, make_zone

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CELL = Peer(Role.CELL, "Cell_525400aabbcc")
PLAIN = st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True)
LABEL = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")


@pytest.fixture(scope="module")
def zone(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_zone(tmp_path_factory.mktemp("zone"), now=NOW)


def certificate(zone: Authority, *, now: datetime = NOW) -> x509.Certificate:
    return certificate_of(issue(zone, CELL.role, CELL.id, now=now))


def strange(*extensions: x509.ExtensionType) -> x509.Certificate:
    """A certificate of nobody's authority that is valid now and holds `extensions`."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(x509.Name([]))
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(NOW - BACKDATED)
        .not_valid_after(NOW + LIFETIME)
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(key, hashes.SHA256())


def named(*uris: str) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([x509.UniformResourceIdentifier(each) for each in uris])


SERVER_ONLY = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
LEAF = x509.BasicConstraints(ca=False, path_length=None)


@pytest.mark.parametrize("usage", Usage)
def test_a_certificate_of_the_zone_names_its_peer_at_either_end(zone: Authority, usage: Usage) -> None:
    shown = certificate(zone)
    verify_issued(shown, zone.certificates)
    assert verify_peer(shown, NOW, zone=zone.zone.id, usage=usage) == CELL
    assert (
        verify_peer(
            shown, NOW, zone=zone.zone.id, usage=usage, expect_role=Role.CELL, expect_id="Cell_525400aabbcc"
        )
        == CELL
    )


def test_another_zones_authority_is_not_ours(zone: Authority, tmp_path: Path) -> None:
    other = make_zone(tmp_path, now=NOW)
    with pytest.raises(Untrusted, match="not signed by this zone's authority"):
        verify_issued(certificate(other), zone.certificates)
    with pytest.raises(Untrusted, match="is of zone"):
        verify_peer(certificate(other), NOW, zone=zone.zone.id, usage=Usage.SERVER)


def test_a_peer_cannot_sign_for_another(zone: Authority) -> None:
    with pytest.raises(Untrusted):
        verify_issued(certificate(zone), [certificate(zone)])


@pytest.mark.parametrize(("role", "id_"), [(Role.GATEWAY, None), (None, "Cell_other"), (Role.CELL, "x")])
def test_the_wrong_peer_is_refused_by_name(zone: Authority, role: Role | None, id_: str | None) -> None:
    with pytest.raises(Untrusted, match="answered where") as refused:
        verify_peer(
            certificate(zone),
            NOW,
            zone=zone.zone.id,
            usage=Usage.SERVER,
            expect_role=role,
            expect_id=id_,
        )
    assert refused.value.subject == "cell/Cell_525400aabbcc"


@pytest.mark.parametrize(
    ("when", "valid"),
    [
        (NOW - BACKDATED - timedelta(seconds=1), False),
        (NOW - BACKDATED, True),
        (NOW + LIFETIME - timedelta(seconds=1), True),
        (NOW + LIFETIME, False),
    ],
)
def test_a_certificate_is_believed_within_its_time(zone: Authority, when: datetime, valid: bool) -> None:
    shown = certificate(zone)
    if valid:
        assert verify_peer(shown, when, zone=zone.zone.id, usage=Usage.CLIENT) == CELL
    else:
        with pytest.raises(Untrusted, match="clocks"):
            verify_peer(shown, when, zone=zone.zone.id, usage=Usage.CLIENT)


@pytest.mark.parametrize(
    ("extensions", "why"),
    [
        ((), "names nobody"),
        ((named(),), "0 URIs"),
        ((named("nano://z/cell/a", "nano://z/cell/b"),), "2 URIs"),
        ((named("spiffe://z/cell/a"),), "expected nano://"),
        ((named("nano://z/emperor/a"),), "expected nano://"),
        ((named("nano://z/cell"),), "expected nano://"),
        ((named("nano://z/cell/a/b"),), "expected nano://"),
        ((named("nano://z/cell/"),), "expected nano://"),
        ((named("nano://z/cell/a"), LEAF), "does not say what it is for"),
        ((named("nano://z/cell/a"), SERVER_ONLY), "does not say what it is for"),
        ((named("nano://z/cell/a"), SERVER_ONLY, LEAF), "may not be used as client"),
        (
            (
                named("nano://z/cell/a"),
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]),
                x509.BasicConstraints(ca=True, path_length=None),
            ),
            "is an authority's",
        ),
    ],
)
def test_a_certificate_that_is_not_a_clients_is_refused(
    extensions: tuple[x509.ExtensionType, ...], why: str
) -> None:
    with pytest.raises(Untrusted, match=why):
        verify_peer(strange(*extensions), NOW, zone="z", usage=Usage.CLIENT)


MEMBERS = st.sampled_from(sorted(set(Role) - {Role.APPLICANT}))


@given(zone=PLAIN, role=MEMBERS, name=PLAIN)
def test_a_uri_is_read_back_as_it_was_said(zone: str, role: Role, name: str) -> None:
    assert parse_uri(uri(zone, Peer(role, name))) == (zone, Peer(role, name))


@given(st.one_of(st.text(), st.text().map("nano://z/cell/".__add__), st.text().map("nano://".__add__)))
def test_any_other_uri_is_untrusted_or_says_the_same_again(text: str) -> None:
    try:
        zone, peer = parse_uri(text)
    except Untrusted:
        return
    assert uri(zone, peer) == text


@given(zone=PLAIN, role=st.sampled_from(Role), name=PLAIN)
def test_every_peer_has_a_valid_dns_name(zone: str, role: Role, name: str) -> None:
    labels = dns_name(zone, Peer(role, name)).split(".")
    assert len(labels) == 4
    assert all(LABEL.fullmatch(label) and len(label) <= 63 for label in labels)


def test_names_that_need_changing_stay_two() -> None:
    assert dns_name("z1", Peer(Role.GATEWAY, "Main-1")) == "main-1.gateway.z1.nano"
    assert dns_name("z1", Peer(Role.CELL, "a_b")) != dns_name("z1", Peer(Role.CELL, "a-b"))
    assert dns_name("z1", Peer(Role.CELL, "a_b")).startswith("a-b-")


def self_signed(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "anybody")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + LIFETIME)
    )
    return builder.sign(key, hashes.SHA256())


def test_an_applicant_is_known_by_its_key_alone() -> None:
    shown = self_signed(ec.generate_private_key(ec.SECP256R1()))
    assert verify_applicant(shown) == Peer(Role.APPLICANT, fingerprint_of(key_in(shown)))


def test_an_applicant_of_another_kind_of_key_is_refused() -> None:
    with pytest.raises(Untrusted, match="P-256"):
        verify_applicant(self_signed(rsa.generate_private_key(65537, 2048)))


def test_who_was_let_in_elsewhere_is_no_applicant(tmp_path: Path) -> None:
    with pytest.raises(Untrusted, match="nor by its own key"):
        verify_applicant(certificate(make_zone(tmp_path, now=NOW)))


def test_no_certificate_names_an_applicant() -> None:
    with pytest.raises(Untrusted):
        parse_uri("nano://z/applicant/a")
