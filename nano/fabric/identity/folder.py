"""The folder in which a service keeps who it is: its key, its certificate, and whom its zone trusts.

The key lasts over renewals and never leaves the folder: a crash at any moment leaves a certificate that
fits it, or none. One that was removed from the zone gives way to another, and lies aside as `*.before` until
it is known whether the other is let in: that may be so already while the answer is on its way, and nothing
but a refusal brings the first one back. Whom the zone trusts is `trust.json` (`trust.py`); `ca.pem` is the
part of it that TLS wants, made again where the two differ.
"""

import contextlib
from datetime import datetime, timedelta
from pathlib import Path

import structlog
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from nano.fabric.identity import trust
from nano.fabric.identity.authority import key_pem, zone_of
from nano.fabric.identity.identity import (
    TRUST_FILE,
    Identity,
    Usage,
    authority_fingerprint,
    fingerprint_of,
    verify_issued,
    verify_peer,
)
from nano.fabric.identity.trust import ZoneTrust
from nano.files import replace_file
from nano.model.errors import Corrupt, Invalid, NanoError, Untrusted
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
        self._trust_file = folder / TRUST_FILE
        self._aside = {
            file: before_of(file)
            for file in (self._certificate_file, self._key_file)  # a certificate without its key is none
        }

    def kept(self, now: datetime) -> Identity | None:
        """What the folder holds, if it is whole and valid at `now`.

        `Corrupt` when it cannot be read who was shut out of the zone: that is never guessed.
        """
        known = self.trust()
        try:
            if known is not None:
                self._write_bundle(known)
            return self._checked(self._certificate_file.read_text(), self._ca_file.read_text(), now)
        except FileNotFoundError:
            return None
        except (NanoError, UnicodeDecodeError) as error:
            structlog.get_logger().info("identity.unusable", peer=str(self._peer), why=str(error))
            return None

    def keep(self, certificate: str, granted: ZoneTrust, now: datetime) -> Identity:
        """Puts a certificate (PEM) into the folder after checking it, and whom to trust before it.

        Torn in between, `kept` finds that they do not fit, or that the old certificate still does. Another
        key's files that lie aside are gone afterwards.
        `Untrusted`: it is not for this peer and key, or not of the zone that it comes from.
        """
        known = self._newer(granted)
        identity = self._checked(certificate, known.bundle, now)
        self._write_trust(known)
        replace_file(self._certificate_file, certificate.encode(), mode=0o644)
        self._forget_before()
        return identity

    def trust(self) -> ZoneTrust | None:
        """What is kept of whom the zone trusts; None before anybody has said so."""
        return trust.kept(self._trust_file)

    def trusts(self, told: ZoneTrust) -> ZoneTrust:
        """Keeps what the zone trusts now, unless more is known already; gives what is in force, durably.

        `Invalid`: it is of another zone, or holds what is no authority of the zone.
        """
        found = self.trust()
        zone = found.zone if found else zone_of(_bundle(self._ca_file.read_text())[0]).id
        for index, pem in enumerate(told.authorities):
            if told.zone != zone or zone_of(read_certificate(pem)).id != zone:
                raise Invalid(
                    f"authorities[{index}]", f"authorities[{index}] is not of this peer's zone, {zone}"
                )
        known = self._newer(told)
        self._write_trust(known)
        return known

    @property
    def zone(self) -> str:
        """The zone whose authorities are kept here, with a valid certificate or without; empty when none."""
        known = self.trust()
        if known is not None:
            return known.zone
        try:
            return zone_of(_bundle(self._ca_file.read_text())[0]).id
        except (FileNotFoundError, UnicodeDecodeError, Corrupt):
            return ""

    @property
    def path(self) -> Path:
        return self._key_file.parent

    @property
    def issuer(self) -> str:
        """The fingerprint of the authority that signed the kept certificate; empty when none that is
        trusted."""
        certificate = read_certificate(self._certificate_file.read_text())
        try:
            return authority_fingerprint(verify_issued(certificate, _bundle(self._ca_file.read_text())))
        except Untrusted:
            return ""

    @property
    def fingerprint(self) -> str:
        """What the folder's key is known by; the key is made when there is none."""
        return fingerprint_of(self.key().public_key())

    @property
    def signer(self) -> str:
        """The fingerprint of the authority that signs for the zone now; empty when nobody has said so."""
        known = self.trust()
        return "" if known is None else authority_fingerprint(read_certificate(known.authorities[0]))

    @property
    def is_outdated(self) -> bool:
        """Whether another authority than the kept certificate's signs now, so that it should be renewed."""
        return self.signer not in {"", self.issuer}

    def _newer(self, told: ZoneTrust) -> ZoneTrust:
        """`told`, unless what is kept of the same zone is as new. A zone made anew starts from nothing."""
        found = self.trust()
        return told if found is None or found.zone != told.zone or told.revision > found.revision else found

    def _write_trust(self, known: ZoneTrust) -> None:
        content = trust.encode(known)
        if not self._trust_file.exists() or self._trust_file.read_bytes() != content:
            replace_file(self._trust_file, content, mode=0o644)
        self._write_bundle(known)

    def _write_bundle(self, known: ZoneTrust) -> None:
        bundle = known.bundle.encode()
        if not self._ca_file.exists() or self._ca_file.read_bytes() != bundle:
            replace_file(self._ca_file, bundle, mode=0o644)

    def left_s(self, now: datetime) -> float:
        """Seconds from `now` until the kept certificate should be renewed; not above 0 when it is time."""
        end = read_certificate(self._certificate_file.read_text()).not_valid_after_utc
        return (end - RENEWED_BEFORE - now).total_seconds()

    def signing_request(self) -> str:
        """A signing request in PEM for the folder's key; it asks for no name, as none would be given."""
        builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
        return builder.sign(self.key(), hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()

    def _checked(self, certificate_pem: str, bundle: str, now: datetime) -> Identity:
        certificate = read_certificate(certificate_pem)
        zone = zone_of(verify_issued(certificate, _bundle(bundle)))
        verify_peer(
            certificate,
            now,
            zone=zone.id,
            usage=Usage.CLIENT,
            expect_role=self._peer.role,
            expect_id=self._peer.id,
        )
        if certificate.public_key() != self.key().public_key():
            raise Untrusted(f"the certificate of {self._peer} is for another key than its own")
        return Identity(
            zone.id,
            self._peer.role,
            self._peer.id,
            self._certificate_file,
            self._key_file,
            self._ca_file,
        )

    def another_key(self) -> None:
        """From now on the folder has another key, and no certificate yet. Those of before lie aside."""
        self.former_key()
        for file, aside in self._aside.items():
            if file.exists():
                file.replace(aside)

    def former_key(self) -> None:
        """Key and certificate that lie aside are back, whoever put them there, and the other key is gone: for
        when it was refused. Nothing happens where it was let in, or no other was made."""
        if self._certificate_file.exists():  # `keep` came that far
            self._forget_before()
            return
        for file, aside in reversed(self._aside.items()):
            if aside.exists():
                aside.replace(file)

    @property
    def has_former_key(self) -> bool:
        """Whether another key was made, which is neither let in nor refused yet."""
        return not self._certificate_file.exists() and any(aside.exists() for aside in self._aside.values())

    def _forget_before(self) -> None:
        for aside in self._aside.values():
            aside.unlink(missing_ok=True)

    def key(self) -> ec.EllipticCurvePrivateKey:
        """The folder's key; made when there is none, or none that can be read."""
        with contextlib.suppress(FileNotFoundError, ValueError, UnsupportedAlgorithm):
            found = serialization.load_pem_private_key(self._key_file.read_bytes(), password=None)
            if isinstance(found, ec.EllipticCurvePrivateKey):
                return found
        made = ec.generate_private_key(ec.SECP256R1())
        replace_file(self._key_file, key_pem(made), mode=0o600)
        return made


def before_of(file: Path) -> Path:
    """Where a file of a key lies while there is another key."""
    return file.with_name(f"{file.name}.before")


def _bundle(pem: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem.encode())
    except ValueError as error:
        raise Corrupt(f"the authorities' certificates cannot be read: {error}") from error


def read_certificate(pem: str) -> x509.Certificate:
    """The certificate in `pem`; `Corrupt` if there is none."""
    try:
        return x509.load_pem_x509_certificate(pem.encode())
    except ValueError as error:
        raise Corrupt(f"a certificate cannot be read: {error}") from error
