"""An identity's files, read once and made ready for the handshakes of both directions."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Self, cast

from aioquic.quic.configuration import QuicConfiguration
from cryptography import x509

from nano.fabric.identity import trust
from nano.fabric.identity.identity import (
    Identity,
    Removed,
    Usage,
    dns_name,
    fingerprint_of,
    key_in,
    verify_applicant,
    verify_issued,
    verify_peer,
)
from nano.model.errors import Untrusted
from nano.model.peers import Peer, Role

WallClock = Callable[[], datetime]
"""The time of day, aware: certificates end by the calendar, everything else here runs on the loop's time."""

ALPN = ["h3"]
DATAGRAM_FRAME_LIMIT = 65_535


@dataclass(frozen=True, slots=True)
class Credentials:
    """What one process shows to others and checks others by."""

    identity: Identity
    authorities: tuple[x509.Certificate, ...]
    removed: frozenset[str]
    """Fingerprints of keys that the zone shut out."""
    clock: WallClock
    _base: QuicConfiguration

    @classmethod
    def load(cls, identity: Identity, clock: WallClock) -> Self:
        """Read the files of `identity`: connections use what was read, whatever happens to the files."""
        bundle = identity.ca_file.read_bytes()
        base = QuicConfiguration(
            alpn_protocols=ALPN, cadata=bundle, max_datagram_frame_size=DATAGRAM_FRAME_LIMIT
        )
        base.load_cert_chain(identity.certificate_file, identity.key_file)
        known = trust.kept(identity.trust_file)
        return cls(
            identity,
            tuple(x509.load_pem_x509_certificates(bundle)),
            frozenset() if known is None else known.removed,
            clock,
            base,
        )

    def configuration(
        self, *, dials: str | None, datagram_bytes: int, idle_timeout_s: float, shows_authority: bool = False
    ) -> QuicConfiguration:
        """Settings for a connection: `dials` is the server name of whom we call, None when we are called.

        `datagram_bytes` is the size of UDP payload that the path is known to carry. With `shows_authority`
        the chain ends in the authority itself, so that who does not know the zone yet can look at it.
        """
        chain: list[x509.Certificate] = []
        if shows_authority:
            with contextlib.suppress(Untrusted):  # a rotation left us behind: members can still renew here
                chain = [self.issuer]
        return replace(
            self._base,
            is_client=dials is not None,
            server_name=dials,
            idle_timeout=idle_timeout_s,
            max_datagram_size=datagram_bytes,
            certificate_chain=chain,
        )

    def server_name(self, expected: Peer) -> str:
        """By which name to dial `expected`."""
        return dns_name(self.identity.zone, expected)

    @property
    def issuer(self) -> x509.Certificate:
        """The authority that signed what this process shows."""
        return verify_issued(self.certificate, self.authorities)

    @property
    def certificate(self) -> x509.Certificate:
        """What this process shows."""
        return cast("x509.Certificate", self._base.certificate)

    def verify(
        self,
        shown: Sequence[x509.Certificate],
        usage: Usage,
        role: Role | None,
        name: str | None,
        *,
        applicants: bool = False,
    ) -> Peer:
        """Who showed `shown`, its own certificate first; `Untrusted` if nobody, a stranger, one who was
        shut out, or another than expected. With `applicants` a stranger is let in as one who asks to be let
        in.
        """
        if not shown:
            raise Untrusted("the peer showed no certificate: it has to enrol in this zone first")
        try:
            return self._named(shown[0], usage, role, name, applicants=applicants)
        except (
            ValueError,
            TypeError,
        ) as error:  # cryptography reads a certificate's parts when they are asked
            raise Untrusted(f"the peer's certificate cannot be read: {error}") from error

    def _named(
        self,
        certificate: x509.Certificate,
        usage: Usage,
        role: Role | None,
        name: str | None,
        *,
        applicants: bool,
    ) -> Peer:
        self.check(fingerprint_of(key_in(certificate)))
        if applicants and certificate.issuer not in {each.subject for each in self.authorities}:
            return verify_applicant(certificate)
        verify_issued(certificate, self.authorities)
        return verify_peer(
            certificate,
            self.clock(),
            zone=self.identity.zone,
            usage=usage,
            expect_role=role,
            expect_id=name,
        )

    def check(self, fingerprint: str) -> None:
        """`Removed` when the key of that fingerprint was shut out of the zone."""
        if fingerprint in self.removed:
            raise Removed(
                f"the key {fingerprint[:16]} was removed from the zone: to come back, join with a new key",
                subject=fingerprint,
            )
