"""Throw-away zones and identities, made by the real authority."""

from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from nano.fabric.identity import trust
from nano.fabric.identity.authority import Authority, key_pem
from nano.fabric.identity.identity import Identity, fingerprint_of, key_in
from nano.fabric.identity.trust import ShutOut, ZoneTrust
from nano.model.peers import Peer, Role


def utc_now() -> datetime:
    return datetime.now(UTC)


def make_zone(folder: Path, *, name: str = "lab", now: datetime | None = None) -> Authority:
    """A new zone whose authority lives below `folder`; the same folder gives the same zone again."""
    return Authority.open(folder / "authority", now or utc_now(), name=name)


def issue(authority: Authority, role: Role, id: str, *, now: datetime | None = None) -> Identity:  # noqa: A002 - the word of Identity
    """An identity with its own key and certificate, in a folder beside the authority's."""
    folder = authority.ca_file.parent.parent / f"{role}-{id}"
    folder.mkdir(mode=0o700, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = authority.issue(signing_request(key), Peer(role, id), now or utc_now())
    identity = Identity(
        zone=authority.zone.id,
        role=role,
        id=id,
        certificate_file=folder / "certificate.pem",
        key_file=folder / "key.pem",
        ca_file=authority.ca_file,
    )
    identity.key_file.write_bytes(key_pem(key))
    identity.certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return identity


def shut_out(authority: Authority, at: Identity, *removed: Identity) -> None:
    """Write into the folder of `at` that the keys of `removed`, and no others, are shut out of the zone."""
    until_ms = 2**40
    entries = tuple(
        ShutOut(fingerprint_of(key_in(certificate_of(each))), each.role, each.id, until_ms)
        for each in removed
    )
    at.trust_file.write_bytes(trust.encode(ZoneTrust(authority.zone.id, 1, authority.pems, entries)))


def certificate_of(identity: Identity) -> x509.Certificate:
    return x509.load_pem_x509_certificate(identity.certificate_file.read_bytes())


def signing_request(key: ec.EllipticCurvePrivateKey) -> x509.CertificateSigningRequest:
    return x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
