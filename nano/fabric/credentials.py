"""An identity's files, read once and made ready for the handshakes of both directions."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Self

from aioquic.quic.configuration import QuicConfiguration
from cryptography import x509

from nano.fabric.h3 import ALPN
from nano.fabric.identity import Identity, Usage, verify_issued, verify_peer
from nano.model.errors import Untrusted
from nano.model.peers import Peer, Role

WallClock = Callable[[], datetime]
"""The time of day, aware: certificates end by the calendar, everything else here runs on the loop's time."""

DATAGRAM_FRAME_LIMIT = 65_535


@dataclass(frozen=True, slots=True)
class Credentials:
    """What one process shows to others and checks others by."""

    identity: Identity
    authority: x509.Certificate
    clock: WallClock
    _base: QuicConfiguration

    @classmethod
    def load(cls, identity: Identity, clock: WallClock) -> Self:
        """Read the files of `identity`: connections use what was read, whatever happens to the files."""
        authority_pem = identity.ca_file.read_bytes()
        base = QuicConfiguration(
            alpn_protocols=ALPN, cadata=authority_pem, max_datagram_frame_size=DATAGRAM_FRAME_LIMIT
        )
        base.load_cert_chain(identity.certificate_file, identity.key_file)
        return cls(identity, x509.load_pem_x509_certificate(authority_pem), clock, base)

    def configuration(
        self, *, dials: str | None, datagram_bytes: int, idle_timeout_s: float
    ) -> QuicConfiguration:
        """Settings for a connection: `dials` is the server name of whom we call, None when we are called.

        `datagram_bytes` is the size of UDP payload that the path is known to carry.
        """
        return replace(
            self._base,
            is_client=dials is not None,
            server_name=dials,
            idle_timeout=idle_timeout_s,
            max_datagram_size=datagram_bytes,
        )

    def verify(
        self, certificate: x509.Certificate | None, usage: Usage, role: Role | None, name: str | None
    ) -> Peer:
        """Who showed `certificate`; `Untrusted` if nobody, a stranger, or another than expected."""
        if certificate is None:
            raise Untrusted("the peer showed no certificate: it has to enrol in this zone first")
        verify_issued(certificate, self.authority)
        return verify_peer(
            certificate,
            self.clock(),
            zone=self.identity.zone,
            usage=usage,
            expect_role=role,
            expect_id=name,
        )
