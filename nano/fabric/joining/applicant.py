"""How a peer that is not in the zone yet dials its scheduler: it shows a certificate that it signed itself.

It knows no authority either, so it looks at the one that the scheduler shows behind its own certificate,
and `accepts` says whether that will do: because a token names its fingerprint, or because it is the first
one ever seen. Nothing is said on the link before.
"""

import contextlib
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import timedelta

from aioquic.quic.configuration import QuicConfiguration
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from nano.fabric.calls.channel import Channel
from nano.fabric.calls.codec import MessageCodec
from nano.fabric.identity.authority import zone_of
from nano.fabric.identity.credentials import ALPN, WallClock
from nano.fabric.identity.identity import Removed, Usage, verify_issued, verify_peer
from nano.fabric.links.ends import CALL_WINDOWS, Dialled, Handlers, Route
from nano.fabric.links.link import Link
from nano.fabric.links.verdict import Verdict
from nano.fabric.packets.address import Address
from nano.fabric.packets.udp import resolve
from nano.model.errors import NanoError, Untrusted
from nano.model.peers import Peer, Role

Accepts = Callable[[x509.Certificate], None]
"""Told the authority that a scheduler shows; raises `Untrusted` unless this one may let us in."""

DIAL_S = 3.0
"""How long one address may take to answer."""

_VALID = timedelta(days=7)
"""Nobody looks at the time of a self-signed certificate; it has to have one."""
_ANY_SCHEDULER = Peer(Role.SCHEDULER, "")


class ApplicantCredentials:
    """What an applicant shows on one link, and how it judges who answers. Afterwards: whose zone that is."""

    def __init__(self, key: ec.EllipticCurvePrivateKey, accepts: Accepts, clock: WallClock) -> None:
        self._key = key
        self._accepts = accepts
        self._clock = clock
        self.authority: x509.Certificate | None = None
        """The authority of the scheduler that answered, once it was accepted."""

    def server_name(self, expected: Peer) -> str:
        """A name that says nothing: the zone is not known yet."""
        return f"{expected.role}.invalid"  # RFC 2606

    def configuration(
        self, *, dials: str | None, datagram_bytes: int, idle_timeout_s: float
    ) -> QuicConfiguration:
        """Settings for a connection; TLS compares no names, `verify` looks at all that counts."""
        return QuicConfiguration(
            alpn_protocols=ALPN,
            certificate=self._self_signed(),
            private_key=self._key,
            is_client=True,
            server_name=dials,
            idle_timeout=idle_timeout_s,
            max_datagram_size=datagram_bytes,
            verify_mode=ssl.CERT_NONE,
        )

    def verify(
        self, shown: Sequence[x509.Certificate], usage: Usage, role: Role | None, name: str | None
    ) -> Peer:
        """The scheduler that showed this chain; `Untrusted` unless it belongs to an accepted authority."""
        del name  # whoever is the scheduler there
        if len(shown) < 2:  # noqa: PLR2004 - its own, and the authority's
            raise Untrusted("the peer there shows no authority: it is no scheduler that lets peers in")
        authority = verify_issued(shown[0], shown[1:])
        self._accepts(authority)
        zone = zone_of(authority).id
        peer = verify_peer(shown[0], self._clock(), zone=zone, usage=usage, expect_role=role)
        self.authority = authority
        return peer

    def _self_signed(self) -> x509.Certificate:
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, str(Role.APPLICANT))])
        now = self._clock()
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _VALID)
            .not_valid_after(now + _VALID)
            .sign(self._key, hashes.SHA256())
        )


@contextlib.asynccontextmanager
async def linked(
    address: Address, credentials: ApplicantCredentials, route: Route | None = None
) -> AsyncIterator[Channel]:
    """The way to the scheduler at `address`, for one conversation.

    `Unreachable`: nobody answers there; `Untrusted`: it is none that `credentials` accept; `Removed`: it is
    one, and our key was shut out of its zone.
    """
    dialled = Dialled(
        await resolve(address),
        _ANY_SCHEDULER,
        credentials=credentials,
        route=route or Route(),
        handlers=Handlers(),
        windows=CALL_WINDOWS,
    )
    link = await dialled.connect(DIAL_S)

    async def the_link() -> Link:
        return link

    try:
        yield Channel(str(link.peer), the_link, MessageCodec())
    except NanoError as error:
        if link.verdict is Verdict.REMOVED:  # said by the scheduler itself, which was accepted
            raise Removed(error.message) from error
        raise
    finally:
        link.close()
