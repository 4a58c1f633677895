"""A service's own folder: what is believed of it after a crash, a copy, or a year."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from nano.fabric.identity.authority import LIFETIME, Authority
from nano.fabric.identity.folder import RENEWED_BEFORE, IdentityFolder
from nano.fabric.identity.trust import ShutOut, ZoneTrust, encode
from nano.model.errors import Corrupt, Invalid, Untrusted
from nano.model.peers import Peer, Role
from tests.support.certificates import make_zone

NOW = datetime(2026, 1, 1, tzinfo=UTC)
GATEWAY = Peer(Role.GATEWAY, "main")


def pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()


def trust_of(zone: Authority, revision: int = 1, *, removals: tuple[ShutOut, ...] = ()) -> ZoneTrust:
    return ZoneTrust(zone.zone.id, revision, zone.pems, removals)


def granted(zone: Authority, folder: IdentityFolder, peer: Peer = GATEWAY) -> tuple[str, ZoneTrust]:
    request = x509.load_pem_x509_csr(folder.signing_request().encode())
    return pem(zone.issue(request, peer, NOW)), trust_of(zone)


def filled(tmp_path: Path) -> tuple[Authority, IdentityFolder]:
    zone = make_zone(tmp_path / "zone", now=NOW)
    folder = IdentityFolder(tmp_path / "own", GATEWAY)
    folder.keep(*granted(zone, folder), NOW)
    return zone, folder


def test_what_was_kept_is_found_again_with_the_same_key(tmp_path: Path) -> None:
    zone, folder = filled(tmp_path)
    key = (tmp_path / "own" / "key.pem").read_bytes()
    found = IdentityFolder(tmp_path / "own", GATEWAY).kept(NOW)
    assert found is not None
    assert (found.zone, found.peer) == (zone.zone.id, GATEWAY)
    folder.keep(*granted(zone, folder), NOW)
    assert found.key_file.read_bytes() == key
    assert found.key_file.stat().st_mode & 0o777 == 0o600
    assert found.key_file.parent.stat().st_mode & 0o777 == 0o700


def test_a_certificate_is_renewed_from_a_day_before_its_end(tmp_path: Path) -> None:
    _, folder = filled(tmp_path)
    due = NOW + LIFETIME - RENEWED_BEFORE
    assert folder.left_s(due - timedelta(seconds=1)) == 1
    assert folder.left_s(due) == 0
    assert folder.kept(due) is not None
    assert folder.kept(NOW + LIFETIME) is None


@pytest.mark.parametrize("file", ["key.pem", "certificate.pem"])
@pytest.mark.parametrize("content", [None, b"", b"\xff\x00", b"-----BEGIN CERTIFICATE-----\n"])
def test_with_a_file_missing_or_torn_nothing_is_kept_and_enrolment_mends_it(
    tmp_path: Path, file: str, content: bytes | None
) -> None:
    zone, folder = filled(tmp_path)
    (tmp_path / "own" / file).unlink()
    if content is not None:
        (tmp_path / "own" / file).write_bytes(content)
    assert folder.kept(NOW) is None
    folder.keep(*granted(zone, folder), NOW)
    assert folder.kept(NOW) is not None


def test_torn_between_two_zones_nothing_is_kept(tmp_path: Path) -> None:
    _, folder = filled(tmp_path)
    other = make_zone(tmp_path / "other", now=NOW)
    (tmp_path / "own" / "trust.json").write_bytes(encode(trust_of(other)))
    assert folder.kept(NOW) is None


@pytest.mark.parametrize("content", [None, b"", b"\xff\x00", b"-----BEGIN CERTIFICATE-----\n"])
def test_the_bundle_for_tls_is_made_again_of_what_is_trusted(tmp_path: Path, content: bytes | None) -> None:
    zone, folder = filled(tmp_path)
    (tmp_path / "own" / "ca.pem").unlink()
    if content is not None:
        (tmp_path / "own" / "ca.pem").write_bytes(content)
    assert folder.kept(NOW) is not None
    assert (tmp_path / "own" / "ca.pem").read_text() == pem(zone.certificate)


def test_a_folder_of_an_older_version_is_kept_without_a_file_of_removals(tmp_path: Path) -> None:
    _, folder = filled(tmp_path)
    (tmp_path / "own" / "trust.json").unlink()
    assert folder.kept(NOW) is not None
    assert folder.trust() is None


def test_removals_that_cannot_be_read_are_not_guessed(tmp_path: Path) -> None:
    _, folder = filled(tmp_path)
    (tmp_path / "own" / "trust.json").write_bytes(b"{")
    with pytest.raises(Corrupt, match=r"trust\.json"):
        folder.kept(NOW)


def test_what_is_older_than_what_is_known_changes_nothing(tmp_path: Path) -> None:
    zone, folder = filled(tmp_path)
    removal = ShutOut("ab" * 32, Role.CELL, "c1", 5)
    told = trust_of(zone, 7, removals=(removal,))
    assert folder.trusts(told) == told
    assert folder.trusts(trust_of(zone, 6)) == told
    folder.keep(*granted(zone, folder), NOW)
    assert IdentityFolder(tmp_path / "own", GATEWAY).trust() == told


def test_a_zone_made_anew_starts_from_nothing(tmp_path: Path) -> None:
    zone, folder = filled(tmp_path)
    folder.trusts(trust_of(zone, 7, removals=(ShutOut("ab" * 32, Role.CELL, "c1", 5),)))
    other = make_zone(tmp_path / "other", now=NOW)
    folder.keep(*granted(other, folder), NOW)
    assert folder.trust() == trust_of(other)


def test_nobody_of_another_zone_is_trusted_by_order(tmp_path: Path) -> None:
    zone, folder = filled(tmp_path)
    other = make_zone(tmp_path / "other", now=NOW)
    with pytest.raises(Invalid) as refused:
        folder.trusts(trust_of(other, 9))
    assert refused.value.field == "authorities[0]"
    with pytest.raises(Invalid) as refused:
        folder.trusts(ZoneTrust(zone.zone.id, 9, (*zone.pems, *other.pems)))
    assert refused.value.field == "authorities[1]"


def test_from_one_authority_to_the_next_a_folder_is_valid_all_the_way(tmp_path: Path) -> None:
    zone, folder = filled(tmp_path)
    old = zone.fingerprint
    new = zone.make_next(NOW)
    zone.follow([old, new])
    folder.trusts(trust_of(zone, 2))
    assert (folder.issuer, folder.signer, folder.is_outdated) == (old, old, False)
    zone.follow([new, old])
    folder.trusts(trust_of(zone, 3))
    assert (folder.issuer, folder.signer, folder.is_outdated) == (old, new, True)
    assert folder.kept(NOW) is not None
    certificate, _ = granted(zone, folder)
    folder.keep(certificate, trust_of(zone, 3), NOW)
    assert (folder.issuer, folder.is_outdated) == (new, False)
    zone.follow([new])
    folder.trusts(trust_of(zone, 4))
    assert folder.kept(NOW) is not None


def test_a_grant_for_another_peer_or_key_is_not_kept(tmp_path: Path) -> None:
    zone, folder = filled(tmp_path)
    before = (tmp_path / "own" / "certificate.pem").read_bytes()
    with pytest.raises(Untrusted):
        folder.keep(*granted(zone, folder, Peer(Role.GATEWAY, "other")), NOW)
    with pytest.raises(Untrusted, match="another key"):
        folder.keep(*granted(zone, IdentityFolder(tmp_path / "elsewhere", GATEWAY)), NOW)
    assert (tmp_path / "own" / "certificate.pem").read_bytes() == before


def test_a_folder_copied_to_another_service_is_not_its_identity(tmp_path: Path) -> None:
    filled(tmp_path)
    assert IdentityFolder(tmp_path / "own", Peer(Role.CELL, "main")).kept(NOW) is None


# ------------------------------------------------------------------ another key


def removed(tmp_path: Path) -> tuple[Authority, IdentityFolder, str]:
    """A folder that has made another key, and the fingerprint of the one before."""
    zone, folder = filled(tmp_path)
    before = folder.fingerprint
    folder.another_key()
    assert folder.fingerprint != before
    assert folder.kept(NOW) is None
    return zone, folder, before


def aside(tmp_path: Path) -> set[str]:
    return {path.name for path in (tmp_path / "own").glob("*.before")}


def test_another_key_stays_over_a_crash_and_the_former_is_back_once_it_is_refused(tmp_path: Path) -> None:
    _, folder, before = removed(tmp_path)
    another = folder.fingerprint
    found = IdentityFolder(tmp_path / "own", GATEWAY)  # the next life of the service
    assert (found.fingerprint, found.has_former_key) == (another, True)
    found.former_key()
    assert (found.fingerprint, found.has_former_key) == (before, False)
    assert found.kept(NOW) is not None
    assert not aside(tmp_path)
    found.former_key()
    assert found.fingerprint == before


def test_once_another_key_is_let_in_the_former_is_gone_and_no_refusal_brings_it_back(tmp_path: Path) -> None:
    zone, folder, _ = removed(tmp_path)
    another = folder.fingerprint
    assert aside(tmp_path) == {"key.pem.before", "certificate.pem.before"}
    folder.keep(*granted(zone, folder), NOW)
    assert not aside(tmp_path)
    folder.former_key()
    assert folder.fingerprint == another
    assert folder.kept(NOW) is not None


def test_what_a_crash_left_aside_behind_a_certificate_is_never_brought_back(tmp_path: Path) -> None:
    """Between the certificate of the other key and the end of what lies aside."""
    zone, folder, _ = removed(tmp_path)
    left = {name: (tmp_path / "own" / name).read_bytes() for name in aside(tmp_path)}
    folder.keep(*granted(zone, folder), NOW)
    another = folder.fingerprint
    for name, content in left.items():
        (tmp_path / "own" / name).write_bytes(content)
    assert not folder.has_former_key
    folder.another_key()
    folder.former_key()
    assert folder.fingerprint == another
    assert folder.kept(NOW) is not None


@pytest.mark.parametrize("again", [True, False])
def test_torn_while_the_keys_change_places_nothing_is_lost(tmp_path: Path, *, again: bool) -> None:
    """The certificate lies aside, its key does not, on the way there or back."""
    _, folder = filled(tmp_path)
    before = folder.fingerprint
    certificate = tmp_path / "own" / "certificate.pem"
    certificate.replace(certificate.with_name("certificate.pem.before"))
    if again:
        folder.another_key()
        assert folder.fingerprint != before
    folder.former_key()
    assert folder.fingerprint == before
    assert folder.kept(NOW) is not None


def test_a_third_key_does_not_push_out_the_one_with_a_certificate(tmp_path: Path) -> None:
    _, folder, before = removed(tmp_path)
    folder.another_key()
    assert folder.fingerprint != before
    folder.former_key()
    assert folder.fingerprint == before
    assert folder.kept(NOW) is not None


@pytest.mark.parametrize("file", ["trust.json", "ca.pem"])
def test_the_zone_is_known_beyond_the_end_of_the_certificate(tmp_path: Path, file: str) -> None:
    zone, folder = filled(tmp_path)
    assert folder.kept(NOW + LIFETIME) is None
    assert folder.zone == zone.zone.id
    (tmp_path / "own" / file).unlink()  # one is enough: a folder of an older version has the other
    assert folder.zone == zone.zone.id
    assert IdentityFolder(tmp_path / "new", GATEWAY).zone == ""
