"""Who a peer is, and how its certificate proves it.

A certificate of the zone names its owner twice: the URI `nano://<zone>/<role>/<id>` is the truth that we
check, the DNS name beside it is what TLS libraries want to compare with a server name. Neither holds an
address, so a peer may move. `verify_issued` proves that the zone's authority signed it, `verify_peer` whom it
names; a link is trusted after both.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from nano.model import names
from nano.model.errors import Invalid, Untrusted
from nano.model.peers import Peer, Role

SCHEME = "nano"
TRUST_FILE = "trust.json"
_LABEL_LIMIT = 63  # RFC 1035, 2.3.4


class Usage(StrEnum):
    """In what part of a handshake a certificate was shown."""

    SERVER = "server"
    CLIENT = "client"


class Removed(Untrusted):
    """The key of a certificate was shut out of the zone."""


class Foreign(Untrusted):
    """No authority that is trusted has signed a certificate."""


_EKU = {Usage.SERVER: ExtendedKeyUsageOID.SERVER_AUTH, Usage.CLIENT: ExtendedKeyUsageOID.CLIENT_AUTH}


@dataclass(frozen=True, slots=True)
class Identity:
    """A peer's own certificate and key on disk, and the certificates of the authorities that it trusts."""

    zone: str
    role: Role
    id: str
    certificate_file: Path
    key_file: Path
    ca_file: Path

    @property
    def peer(self) -> Peer:
        return Peer(self.role, self.id)

    @property
    def dns_name(self) -> str:
        return dns_name(self.zone, self.peer)

    @property
    def trust_file(self) -> Path:
        """Whom the zone shut out, as far as this peer was told; see `trust.py`."""
        return self.certificate_file.with_name(TRUST_FILE)


def dns_name(zone: str, peer: Peer) -> str:
    """The server name to dial `peer` by: `<id>.<role>.<zone>.nano`, in valid lower-case labels."""
    return ".".join((_label(peer.id), _label(peer.role), _label(zone), SCHEME))


def uri(zone: str, peer: Peer) -> str:
    """What a certificate says about its owner."""
    return f"{SCHEME}://{zone}/{peer.role}/{peer.id}"


def parse_uri(text: str) -> tuple[str, Peer]:
    """Zone and peer of a certificate's URI; `Untrusted` when it is none of ours."""
    scheme, _, path = text.partition("://")
    try:
        zone, role, name = path.split("/")
        found = names.plain("zone", zone), Peer(Role(role), names.plain("id", name))
    except (ValueError, Invalid) as error:
        raise _foreign(text) from error
    if scheme != SCHEME or found[1].role is Role.APPLICANT:
        raise _foreign(text)
    return found


def fingerprint_of(key: ec.EllipticCurvePublicKey) -> str:
    """What a key is known by: SHA-256 of its SubjectPublicKeyInfo (RFC 5280, 4.1.2.7), in hex."""
    return hashlib.sha256(spki_of(key)).hexdigest()


def spki_of(key: ec.EllipticCurvePublicKey) -> bytes:
    """The key as DER of its SubjectPublicKeyInfo."""
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def key_in(certificate: x509.Certificate | x509.CertificateSigningRequest) -> ec.EllipticCurvePublicKey:
    """The key that `certificate` is for; `Untrusted` unless it is of the one kind that Nano uses."""
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise Untrusted(f"the key of a certificate cannot be read: {error}") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise Untrusted("the certificate is not for an ECDSA key on P-256")
    return key


def authority_fingerprint(certificate: x509.Certificate) -> str:
    """What an authority is known by: SHA-256 of its certificate, in hex."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def verify_issued(certificate: x509.Certificate, authorities: Iterable[x509.Certificate]) -> x509.Certificate:
    """Which of `authorities` itself signed `certificate`; `Untrusted` if none: a zone has no
    intermediates."""
    failure: Exception | None = None
    for authority in authorities:
        try:
            certificate.verify_directly_issued_by(authority)
        except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm) as error:
            failure = error
        else:
            return authority
    raise Foreign(
        "the certificate was not signed by this zone's authority: the peer is of another zone, or the "
        "zone was made anew; enrol the peer again"
    ) from failure


def verify_applicant(certificate: x509.Certificate) -> Peer:
    """Who asks to be let in with a certificate that it signed itself: a key without a name.

    `Untrusted` when it is not self-signed or of another kind of key. What else it says is nobody's business.
    """
    try:
        certificate.verify_directly_issued_by(certificate)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm) as error:
        raise Foreign(
            "the certificate was signed neither by this zone's authority nor by its own key: enrol the peer "
            "again"
        ) from error
    return Peer(Role.APPLICANT, fingerprint_of(key_in(certificate)))


def verify_peer(
    certificate: x509.Certificate,
    now: datetime,
    *,
    zone: str,
    usage: Usage,
    expect_role: Role | None = None,
    expect_id: str | None = None,
) -> Peer:
    """The peer that `certificate` names; `Untrusted` if it may not be shown as `usage` in `zone` at `now`.

    `now` is aware. Who signed it is not looked at here: that is `verify_issued`.
    """
    found_zone, peer = _named(certificate)
    if found_zone != zone:
        raise Untrusted(f"{peer} is of zone {found_zone}, this is zone {zone}", subject=str(peer))
    _check_time(certificate, now, peer)
    _check_use(certificate, usage, peer)
    if expect_role not in {None, peer.role} or expect_id not in {None, peer.id}:
        expected = f"{expect_role or '*'}/{expect_id or '*'}"
        raise Untrusted(f"{peer} answered where {expected} was expected", subject=str(peer))
    return peer


def _foreign(text: str) -> Untrusted:
    return Untrusted(f"the certificate is for {text[:200]!r}: expected {SCHEME}://<zone>/<role>/<id>")


def _named(certificate: x509.Certificate) -> tuple[str, Peer]:
    try:
        named = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        found = named.get_values_for_type(x509.UniformResourceIdentifier)
    except (
        x509.ExtensionNotFound,
        x509.DuplicateExtension,
        x509.UnsupportedGeneralNameType,
        ValueError,
    ) as error:
        raise Untrusted("the certificate names nobody: it has no readable alternative names") from error
    if len(found) != 1:
        raise Untrusted(f"the certificate has {len(found)} URIs: a peer's has exactly one")
    return parse_uri(found[0])


def _check_time(certificate: x509.Certificate, now: datetime, peer: Peer) -> None:
    if now < certificate.not_valid_before_utc:
        since = certificate.not_valid_before_utc.isoformat()
        raise Untrusted(
            f"the certificate of {peer} is valid from {since}, here it is {now.isoformat()}: set the clocks",
            subject=str(peer),
        )
    if now >= certificate.not_valid_after_utc:
        until = certificate.not_valid_after_utc.isoformat()
        raise Untrusted(
            f"the certificate of {peer} ended {until}, here it is {now.isoformat()}: it was not renewed in "
            "time, or the clocks differ",
            subject=str(peer),
        )


def _check_use(certificate: x509.Certificate, usage: Usage, peer: Peer) -> None:
    extensions = certificate.extensions
    try:
        uses = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        constraints = extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound as error:
        raise Untrusted(
            f"the certificate of {peer} does not say what it is for", subject=str(peer)
        ) from error
    if _EKU[usage] not in uses:
        raise Untrusted(f"the certificate of {peer} may not be used as {usage}", subject=str(peer))
    if constraints.ca:
        raise Untrusted(f"the certificate of {peer} is an authority's, not a peer's", subject=str(peer))


def _label(text: str) -> str:
    """A valid DNS label for `text`; one that had to be changed ends in a digest, so that two stay two."""
    lower = text.lower()
    plain = re.sub(r"[^a-z0-9-]", "-", lower).strip("-")
    if plain == lower and len(plain) <= _LABEL_LIMIT:
        return plain
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"{plain[: _LABEL_LIMIT - 9].strip('-')}-{digest}".strip("-")
