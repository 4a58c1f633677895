"""Certificates for whom the book lets in, and what the book says of whom to trust.

The one place where book and authority meet: the book names the authorities that are trusted, the authority
holds their keys.
"""

from collections.abc import Callable
from datetime import datetime

from cryptography import x509

from nano.contracts.nano import v1
from nano.fabric.identity.authority import Authority, pem_of
from nano.fabric.identity.trust import ShutOut, ZoneTrust
from nano.member import trust_message
from nano.model.membership import How
from nano.model.peers import Peer
from nano.shelf import Shelf
from services.scheduler.inventory import Inventory


class Grants:
    """For local enrolment (`nano.fabric.joining.enrolment.Members`) and for `door.py`."""

    def __init__(
        self,
        shelf: Shelf[Inventory],
        authority: Authority,
        now_ms: Callable[[], int],
        clock: Callable[[], datetime],
    ) -> None:
        """A book that names no authority yet takes over the one that is there."""
        self._shelf = shelf
        self._authority = authority
        self._now_ms = now_ms
        self._clock = clock
        if shelf.book.membership.trust.trusted:
            self.settled()
        else:
            shelf.commit(*shelf.book.membership.first_authority(authority.fingerprint))
            self._follow()

    @property
    def zone(self) -> str:
        return self._authority.zone.id

    def trust(self) -> ZoneTrust:
        """Whom the zone trusts now. To be shown once it is `durable`."""
        self._follow()
        membership = self._shelf.book.membership
        removals = tuple(
            ShutOut(each.fingerprint, each.role, each.id, each.until_ms)
            for _, each in sorted(membership.removals.items())
        )
        return ZoneTrust(self.zone, membership.trust.revision, self._authority.pems, removals)

    def enrolled(self, peer: Peer, fingerprint: str) -> None:
        """A service of this host is let in with that key; raises when it may not be."""
        membership = self._shelf.book.membership
        self._shelf.commit(*membership.enrolled(peer, fingerprint, How.LOCAL, self._now_ms()))
        self._follow()

    async def durable(self) -> None:
        await self._shelf.durable()

    async def grant(self, csr: x509.CertificateSigningRequest, peer: Peer) -> v1.Grant:
        """A certificate for `peer`, whom the book has let in by now: that is durable before this returns."""
        trust = self.trust()
        certificate = self._authority.issue(csr, peer, self._clock())
        await self._shelf.durable()
        return v1.Grant(certificate=pem_of(certificate), trust=trust_message(trust), zone=self.zone)

    def challenge(self, fingerprint: str, peer: Peer, commitment: bytes) -> bytes:
        """The scheduler's nonce for an applicant's commitment: the same after a restart, known to nobody
        before. Another one for another name, so that a code that was compared stands for the name too.
        """
        return self._authority.derive(b"challenge", fingerprint.encode(), str(peer).encode(), commitment)

    def next_authority(self) -> str:
        """The fingerprint of another authority, whose key is on the disk by now."""
        return self._authority.make_next(self._clock())

    def settled(self) -> None:
        """That what the book trusts now is durable was made sure: the keys of all others go."""
        self._follow()
        self._authority.forget_others()

    def _follow(self) -> None:
        trusted = self._shelf.book.membership.trust.trusted
        if self._authority.trusted != trusted:
            self._authority.follow(trusted)
