"""The zone's authority: made once, whole or not at all, and careful what it signs."""

import multiprocessing
import os
import signal
import sys
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from aioquic.tls import verify_certificate
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

import nano.fabric.identity.authority
from nano.fabric.identity.authority import AUTHORITY_FILE, BACKDATED, CERTIFICATE_FILE, LIFETIME, Authority
from nano.fabric.identity.identity import authority_fingerprint, verify_issued
from nano.model.errors import Corrupt, Invalid
from nano.model.peers import Peer, Role
from tests.support.certificates import certificate_of, issue, make_zone, signing_request

NOW = datetime(2026, 1, 1, tzinfo=UTC)
GATEWAY = Peer(Role.GATEWAY, "main")


def test_a_zone_is_made_once_and_found_again(tmp_path: Path) -> None:
    first = Authority.open(tmp_path / "ca", NOW, name="office")
    again = Authority.open(tmp_path / "ca", NOW + timedelta(days=900), name="ignored")
    assert first.zone == again.zone
    assert first.zone.name == "office"
    assert first.certificate == again.certificate
    assert Authority.open(tmp_path / "other", NOW, name="office").zone.id != first.zone.id


def test_only_the_owner_can_read_the_key(tmp_path: Path) -> None:
    umask = os.umask(0)
    try:
        Authority.open(tmp_path / "ca", NOW)
    finally:
        os.umask(umask)
    assert (tmp_path / "ca").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "ca" / AUTHORITY_FILE).stat().st_mode & 0o777 == 0o600


def test_a_lax_restore_is_tightened(tmp_path: Path) -> None:
    zone = Authority.open(tmp_path / "ca", NOW).zone
    (tmp_path / "ca").chmod(0o755)
    (tmp_path / "ca" / AUTHORITY_FILE).chmod(0o644)
    assert Authority.open(tmp_path / "ca", NOW).zone == zone
    assert (tmp_path / "ca").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "ca" / AUTHORITY_FILE).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("found", [None, b"", b"-----BEGIN CERTIFICATE-----\nAAAA"])
def test_a_missing_or_torn_public_certificate_is_made_again(tmp_path: Path, found: bytes | None) -> None:
    first = Authority.open(tmp_path / "ca", NOW)
    first.ca_file.unlink()
    if found is not None:
        first.ca_file.write_bytes(found)
    again = Authority.open(tmp_path / "ca", NOW)
    assert x509.load_pem_x509_certificate(again.ca_file.read_bytes()) == first.certificate


@pytest.mark.parametrize("keep", [0.0, 0.2, 0.6])
def test_a_damaged_authority_is_never_replaced_by_another(tmp_path: Path, keep: float) -> None:
    Authority.open(tmp_path / "ca", NOW)
    path = tmp_path / "ca" / AUTHORITY_FILE
    torn = path.read_bytes()[: int(keep * path.stat().st_size)]
    path.write_bytes(torn)
    with pytest.raises(Corrupt, match="put it back from a backup"):
        Authority.open(tmp_path / "ca", NOW)
    assert path.read_bytes() == torn


def test_a_key_beside_anothers_certificate_is_corrupt(tmp_path: Path) -> None:
    Authority.open(tmp_path / "one", NOW)
    two = Authority.open(tmp_path / "two", NOW)
    path = tmp_path / "one" / AUTHORITY_FILE
    key, _, _ = path.read_bytes().partition(b"-----BEGIN CERTIFICATE")
    path.write_bytes(key + two.ca_file.read_bytes())
    with pytest.raises(Corrupt, match="do not belong together"):
        Authority.open(tmp_path / "one", NOW)


def test_another_authority_signs_once_it_is_followed(tmp_path: Path) -> None:
    zone = make_zone(tmp_path, now=NOW)
    old = zone.fingerprint
    new = zone.make_next(NOW)
    assert zone.trusted == (old,)
    zone.follow([old, new])
    assert zone.fingerprint == old
    zone.follow([new, old])
    made = certificate_of(issue(zone, Role.CELL, "c1", now=NOW))
    assert authority_fingerprint(verify_issued(made, zone.certificates)) == new
    assert zone.ca_file.read_text() == "".join(zone.pems)
    zone.follow([new])
    zone.forget_others()
    files = {each.name for each in (tmp_path / "authority").iterdir()}
    assert files == {f"authority-{new[:16]}.pem", CERTIFICATE_FILE}
    again = make_zone(tmp_path, now=NOW)
    assert (again.trusted, again.zone) == ((new,), zone.zone)


def test_an_authority_that_was_made_and_never_followed_goes(tmp_path: Path) -> None:
    zone = make_zone(tmp_path, now=NOW)
    old = zone.fingerprint
    zone.make_next(NOW)
    again = make_zone(tmp_path, now=NOW)
    again.follow([old])
    again.forget_others()
    assert {each.name for each in (tmp_path / "authority").iterdir()} == {AUTHORITY_FILE, CERTIFICATE_FILE}


def test_an_authority_that_the_book_names_and_nobody_has_is_corrupt(tmp_path: Path) -> None:
    zone = make_zone(tmp_path, now=NOW)
    with pytest.raises(Corrupt, match="put it back from a backup"):
        zone.follow(["ab" * 32])
    with pytest.raises(Corrupt):
        zone.follow([])
    assert zone.trusted == (zone.fingerprint,)


def test_an_applicant_gets_no_certificate(tmp_path: Path) -> None:
    with pytest.raises(Invalid) as refused:
        issue(make_zone(tmp_path), Role.APPLICANT, "a1")
    assert refused.value.field == "role"


def killed_at(line: int, folder: Path) -> None:
    """Open an authority, and die by SIGKILL before the `line`th line of its module is run."""
    lines = count()

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_code.co_filename != nano.fabric.identity.authority.__file__:
            return None
        if event == "line" and next(lines) == line:
            os.kill(os.getpid(), signal.SIGKILL)
        return trace

    sys.settrace(trace)
    Authority.open(folder, NOW)
    sys.settrace(None)


def test_killed_between_any_two_lines_there_is_no_authority_or_a_whole_one(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    for line in count():
        folder = tmp_path / str(line)
        child = fork.Process(target=killed_at, args=(line, folder))
        child.start()
        child.join()
        existed = (folder / AUTHORITY_FILE).exists()
        content = (folder / AUTHORITY_FILE).read_bytes() if existed else b""
        authority = Authority.open(folder, NOW)
        assert {each.name for each in folder.iterdir()} == {AUTHORITY_FILE, CERTIFICATE_FILE}
        assert not existed or content == (folder / AUTHORITY_FILE).read_bytes()
        assert authority.ca_file.stat().st_size > 0
        if child.exitcode == 0:
            break
        assert child.exitcode == -signal.SIGKILL
    assert line > 40


def test_what_is_issued_passes_a_stock_verifier(tmp_path: Path) -> None:
    zone = make_zone(tmp_path)
    cell = issue(zone, Role.CELL, "Cell_525400aabbcc")
    verify_certificate(certificate_of(cell), server_name=cell.dns_name, cafile=str(zone.ca_file))


def test_a_certificate_is_for_its_peer_and_its_time_only(tmp_path: Path) -> None:
    zone = make_zone(tmp_path, now=NOW)
    key = ec.generate_private_key(ec.SECP256R1())
    made = zone.issue(signing_request(key), GATEWAY, NOW)
    extensions = made.extensions
    alternative = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert alternative.get_values_for_type(x509.UniformResourceIdentifier) == [
        f"nano://{zone.zone.id}/gateway/main"
    ]
    assert alternative.get_values_for_type(x509.DNSName) == [f"main.gateway.{zone.zone.id}.nano"]
    assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert set(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == {
        ExtendedKeyUsageOID.CLIENT_AUTH,
        ExtendedKeyUsageOID.SERVER_AUTH,
    }
    assert made.public_key() == key.public_key()
    assert (made.not_valid_before_utc, made.not_valid_after_utc) == (NOW - BACKDATED, NOW + LIFETIME)


def test_names_that_a_request_asks_for_are_not_given(tmp_path: Path) -> None:
    zone = make_zone(tmp_path, now=NOW)
    wish = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"nano://{zone.zone.id}/scheduler/x")])
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .add_extension(wish, critical=False)
        .sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    )
    made = zone.issue(request, GATEWAY, NOW)
    given = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert given.get_values_for_type(x509.UniformResourceIdentifier) == [
        f"nano://{zone.zone.id}/gateway/main"
    ]


@pytest.mark.parametrize(
    "key",
    [
        rsa.generate_private_key(65537, 2048),
        ec.generate_private_key(ec.SECP384R1()),
        ed25519.Ed25519PrivateKey.generate(),
    ],
    ids=["rsa", "p384", "ed25519"],
)
def test_other_kinds_of_key_are_refused(tmp_path: Path, key: CertificateIssuerPrivateKeyTypes) -> None:
    digest = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, digest)
    with pytest.raises(Invalid, match="P-256") as refused:
        make_zone(tmp_path, now=NOW).issue(request, GATEWAY, NOW)
    assert refused.value.field == "csr"


def test_a_request_for_a_key_that_did_not_sign_it_is_refused(tmp_path: Path) -> None:
    der = bytearray(signing_request(ec.generate_private_key(ec.SECP256R1())).public_bytes(Encoding.DER))
    der[-1] ^= 1
    with pytest.raises(Invalid, match="not signed by its own key"):
        make_zone(tmp_path, now=NOW).issue(x509.load_der_x509_csr(bytes(der)), GATEWAY, NOW)


def test_an_id_that_is_no_name_is_refused(tmp_path: Path) -> None:
    request = signing_request(ec.generate_private_key(ec.SECP256R1()))
    with pytest.raises(Invalid) as refused:
        make_zone(tmp_path, now=NOW).issue(request, Peer(Role.CELL, "a/b"), NOW)
    assert refused.value.field == "id"
