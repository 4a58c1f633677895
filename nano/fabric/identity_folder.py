"""The folder in which a service keeps who it is: its key, its certificate, the authority's certificate.

The key lasts over renewals and never leaves the folder: a crash at any moment leaves a certificate that fits
it, or none.
"""

import contextlib
from datetime import datetime, timedelta
from pathlib import Path

import structlog
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from nano.fabric.authority import key_pem, replace_file, zone_of
from nano.fabric.identity import Identity, Usage, verify_issued, verify_peer
from nano.model.errors import Corrupt, NanoError, Untrusted
from nano.model.peers import Peer

RENEWED_BEFORE = timedelta(days=1)
"""How long before its end a certificate is renewed: a day for the scheduler to come back in."""


class IdentityFolder:
    """What `peer` has to show, on disk. Made with mode 0700 if it is not there."""

    def __init__(self, folder: Path, peer: Peer) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        self._peer = peer
        self._key_file = folder / "key.pem"
        self._certificate_file = folder / "certificate.pem"
        self._ca_file = folder / "ca.pem"

    def kept(self, now: datetime) -> Identity | None:
        """What the folder holds, if it is whole and valid at `now`."""
        try:
            return self._checked(self._certificate_file.read_text(), self._ca_file.read_text(), now)
        except FileNotFoundError:
            return None
        except (NanoError, UnicodeDecodeError) as error:
            structlog.get_logger().info("identity.unusable", peer=str(self._peer), why=str(error))
            return None

    def keep(self, certificate: str, authority: str, now: datetime) -> Identity:
        """Puts certificates (PEM) into the folder after checking them, the authority's first.

        Torn in between, `kept` finds that they do not fit. `Untrusted`: they are not for this peer and key.
        """
        identity = self._checked(certificate, authority, now)
        pem = authority.encode()
        if not self._ca_file.exists() or self._ca_file.read_bytes() != pem:
            replace_file(self._ca_file, pem, mode=0o644)
        replace_file(self._certificate_file, certificate.encode(), mode=0o644)
        return identity

    def left_s(self, now: datetime) -> float:
        """Seconds from `now` until the kept certificate should be renewed; not above 0 when it is time."""
        end = read_certificate(self._certificate_file.read_text()).not_valid_after_utc
        return (end - RENEWED_BEFORE - now).total_seconds()

    def signing_request(self) -> str:
        """A signing request in PEM for the folder's key; it asks for no name, as none would be given."""
        builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
        return builder.sign(self._key(), hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()

    def _checked(self, certificate_pem: str, authority_pem: str, now: datetime) -> Identity:
        certificate, authority = read_certificate(certificate_pem), read_certificate(authority_pem)
        zone = zone_of(authority)
        verify_issued(certificate, authority)
        verify_peer(
            certificate,
            now,
            zone=zone.id,
            usage=Usage.CLIENT,
            expect_role=self._peer.role,
            expect_id=self._peer.id,
        )
        if certificate.public_key() != self._key().public_key():
            raise Untrusted(f"the certificate of {self._peer} is for another key than its own")
        return Identity(
            zone.id,
            self._peer.role,
            self._peer.id,
            self._certificate_file,
            self._key_file,
            self._ca_file,
        )

    def _key(self) -> ec.EllipticCurvePrivateKey:
        """The folder's key; made when there is none, or none that can be read."""
        with contextlib.suppress(FileNotFoundError, ValueError, UnsupportedAlgorithm):
            found = serialization.load_pem_private_key(self._key_file.read_bytes(), password=None)
            if isinstance(found, ec.EllipticCurvePrivateKey):
                return found
        made = ec.generate_private_key(ec.SECP256R1())
        replace_file(self._key_file, key_pem(made), mode=0o600)
        return made


def read_certificate(pem: str) -> x509.Certificate:
    """The certificate in `pem`; `Corrupt` if there is none."""
    try:
        return x509.load_pem_x509_certificate(pem.encode())
    except ValueError as error:
        raise Corrupt(f"a certificate cannot be read: {error}") from error
