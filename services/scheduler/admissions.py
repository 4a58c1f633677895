"""Who administrators let in and shut out: the service `nano.v1.Admissions`.

Each call decides by the book and is durable before it is answered. What follows from it (a certificate for
whom was admitted, word to every peer of who was removed, the steps of a rotation) is done by those who follow
the book: `door.py` and `members.py`.
"""

from collections.abc import Callable, Sequence

from nano.contracts.nano import v1
from nano.model.errors import Invalid
from nano.model.peers import Peer, Role
from nano.saga.engine import Engine
from nano.shelf import Shelf
from services.scheduler.inventory import Change, Inventory
from services.scheduler.invitations import Invitations
from services.scheduler.membership import BY_TOKEN

_ADMINISTRATORS = frozenset({Role.GATEWAY, Role.ADMIN})

ROLES = {
    f"/nano.v1.Admissions/{method}": _ADMINISTRATORS
    for method in ("CreateToken", "RevokeToken", "Admit", "Refuse", "RemovePeer", "RotateAuthority")
}
"""Who may call what; nobody may call what is not here."""


class AdmissionsRpc(v1.AdmissionsBase):
    """The service, over the scheduler's shelf."""

    def __init__(
        self,
        shelf: Shelf[Inventory],
        engine: Engine,
        invitations: Invitations,
        next_authority: Callable[[], str],
        now_ms: Callable[[], int],
    ) -> None:
        """`next_authority` makes the key that will sign next, durably, and gives its fingerprint."""
        self._shelf = shelf
        self._engine = engine
        self._invitations = invitations
        self._next_authority = next_authority
        self._now_ms = now_ms

    # -------------------------------------------------------------- join tokens

    async def create_token(self, message: v1.CreateTokenRequest) -> v1.TokenReply:
        """The secret leaves in this answer and is kept nowhere."""
        now_ms = self._now_ms()
        membership = self._shelf.book.membership
        token, secret = self._invitations.new(
            _role(message.role), message.id, now_ms, now_ms + message.lifetime_s * 1000
        )
        reply = await self._committed(membership.create_token(token))
        text = self._invitations.text(token, secret, membership.trust.trusted)
        return v1.TokenReply(id=token.id, token=text, expires_ms=token.expires_ms, revision=reply.revision)

    async def revoke_token(self, message: v1.TokenRef) -> v1.AdmissionReply:
        return await self._committed(self._shelf.book.membership.revoke_token(message.id))

    # -------------------------------------------------------------- who waits

    async def admit(self, message: v1.ApplicantRef) -> v1.AdmissionReply:
        membership = self._shelf.book.membership
        changes = membership.admit(message.fingerprint, self._now_ms(), code=message.code)
        return await self._committed(changes)

    async def refuse(self, message: v1.ApplicantRef) -> v1.AdmissionReply:
        membership = self._shelf.book.membership
        return await self._committed(membership.refuse(message.fingerprint, self._now_ms()))

    # -------------------------------------------------------------- who is in

    async def remove_peer(self, message: v1.MemberRef) -> v1.AdmissionReply:
        """No task waits for a cell that is out: what it was asked fails, what it was to undo is given up."""
        peer = Peer(_role(message.role), message.id)
        changes = self._shelf.book.remove_member(peer, self._now_ms())
        if peer.role is not Role.CELL:
            return await self._committed(changes)
        self._engine.abandon_peer(peer, *changes)
        return await self._committed(())

    async def rotate_authority(self, message: v1.RotateAuthorityRequest) -> v1.AdmissionReply:
        """The next authority's key is on disk before the book names it: a crash leaves a key nobody knows."""
        membership = self._shelf.book.membership
        if message.leave_behind:
            return await self._committed(membership.leave_behind())
        membership.check_steady()
        return await self._committed(membership.rotate(self._next_authority()))

    async def _committed(self, changes: Sequence[Change]) -> v1.AdmissionReply:
        revision = self._shelf.commit(*changes)
        await self._shelf.durable(revision)
        return v1.AdmissionReply(revision=revision)


def _role(text: str) -> Role:
    if text not in set(Role):
        raise Invalid("role", f"role {text!r:.40} is unknown: give one of {', '.join(sorted(BY_TOKEN))}")
    return Role(text)
