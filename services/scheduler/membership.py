"""Who may be in the zone: the part of the scheduler's book that lets peers in and shuts them out.

The inventory embeds it as `membership`, passes it the changes that it does not know itself, and gives its
snapshot along. Pure, and the same for the live book and the replay; whatever it grants is durable before the
certificate leaves.

A name is held by one key. What is removed is a key, never a name, so that the name is free for a server that
was made anew.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, TypeAlias

import msgspec

from nano.model import names
from nano.model.errors import Conflict, Exhausted, Forbidden, Invalid, NotFound
from nano.model.membership import (
    VALID_MS,
    Applicant,
    AuthorityState,
    How,
    JoinToken,
    Member,
    Removal,
    Trust,
)
from nano.model.peers import Peer, Role
from services.scheduler import rotation

APPLICANTS_LIMIT = 64
"""How many may wait: whoever can send a packet can apply, so one that is away gives way to a new one."""
TOKENS_LIMIT = 1000
TOKEN_LIFE_LIMIT_MS = 30 * 24 * 3_600_000
TOKEN_KEPT_MS = 7 * 24 * 3_600_000
"""How long a token that has expired stays to be read: whoever asks why a server was refused finds it."""
REFUSED_MS = 24 * 3_600_000
"""How long a refused key is told so, before it may ask again."""
OVERTAKEN_LIMIT = 100_000
"""Removals and rotations between a backup and now; each is a deed of a person."""
BY_TOKEN = frozenset({Role.CELL, Role.IMAGESTORE, Role.ADDRESSPOOL, Role.GATEWAY})
_SHORT = 16
_READ_AS = str.maketrans("OIL", "011")  # Crockford's base32 (nano/fabric/joining/short_code.py)


class MemberPut(msgspec.Struct, frozen=True, tag="member_put"):
    member: Member


class MemberGone(msgspec.Struct, frozen=True, tag="member_gone"):
    role: Role
    id: str


class ApplicantPut(msgspec.Struct, frozen=True, tag="applicant_put"):
    applicant: Applicant


class ApplicantGone(msgspec.Struct, frozen=True, tag="applicant_gone"):
    fingerprint: str


class TokenPut(msgspec.Struct, frozen=True, tag="token_put"):
    token: JoinToken


class TokenGone(msgspec.Struct, frozen=True, tag="token_gone"):
    id: str


class RemovalPut(msgspec.Struct, frozen=True, tag="removal_put"):
    removal: Removal


class RemovalGone(msgspec.Struct, frozen=True, tag="removal_gone"):
    fingerprint: str


class TrustPut(msgspec.Struct, frozen=True, tag="trust_put"):
    """What is trusted changed, or how far its change has come."""

    trust: Trust


MembershipChange: TypeAlias = (
    MemberPut
    | MemberGone
    | ApplicantPut
    | ApplicantGone
    | TokenPut
    | TokenGone
    | RemovalPut
    | RemovalGone
    | TrustPut
)


class Membership:
    """Members, applicants, join tokens, removals, and the authorities that are trusted."""

    kinds: ClassVar[Mapping[str, Any]] = {
        "members": Member,
        "applicants": Applicant,
        "join_tokens": JoinToken,
        "removals": Removal,
        "trust": Trust,
    }

    def __init__(self) -> None:
        self.members: dict[Peer, Member] = {}
        self.applicants: dict[str, Applicant] = {}
        """By the fingerprint of the key."""
        self.tokens: dict[str, JoinToken] = {}
        self.removals: dict[str, Removal] = {}
        """By the fingerprint of the key."""
        self.trust = Trust()
        self._by_key: dict[str, Peer] = {}
        self._by_digest: dict[str, str] = {}

    # -------------------------------------------------------------- reading

    @property
    def trust_revision(self) -> int:
        """Grows with each removal, each that is forgotten, and each change of authorities."""
        return self.trust.revision

    def member(self, peer: Peer) -> Member:
        if peer not in self.members:
            raise NotFound(f"the zone has no member {peer}", field="id", subject=str(peer))
        return self.members[peer]

    def holder(self, fingerprint: str) -> Member | None:
        """The member whose key this is."""
        peer = self._by_key.get(fingerprint)
        return None if peer is None else self.members[peer]

    def applicant(self, prefix: str) -> Applicant:
        """The one whose fingerprint begins like that; NotFound or Conflict when it is not exactly one."""
        if not prefix:
            raise Invalid("fingerprint", "fingerprint is missing: give it or its beginning")
        found = [one for key, one in self.applicants.items() if key.startswith(prefix.lower())]
        if not found:
            raise NotFound(
                f"nobody waits to be let in with the fingerprint {prefix}",
                field="fingerprint",
                subject=prefix,
            )
        if len(found) > 1:
            raise Conflict(
                f"{len(found)} applicants have a fingerprint that begins with {prefix}: give more of it",
                field="fingerprint",
                subject=prefix,
            )
        return found[0]

    def claiming(self, peer: Peer) -> list[Applicant]:
        """Those that wait under this name and were not refused, the longest waiting first."""
        claiming = [one for one in self.applicants.values() if one.peer == peer and not one.refused_until_ms]
        return sorted(claiming, key=lambda one: (one.since_ms, one.fingerprint))

    def enters_first_pool(self, peer: Peer) -> bool:
        """Whether such a cell enters the first pool by itself: not when a person is to say where it goes.

        One that is not known was let in by a zone that kept no members yet.
        """
        member = self.members.get(peer)
        return member is None or member.how in {How.LOCAL, How.TOKEN}

    def was_removed(self, peer: Peer) -> bool:
        """Whether nobody of that name is in the zone since a key of that name was shut out."""
        return peer not in self.members and any(
            Peer(one.role, one.id) == peer for one in self.removals.values()
        )

    def waiting_for(self) -> list[str]:
        """The members that the rotation of the authority waits for, as `role/id`."""
        return rotation.waiting_for(self.trust, self.members.values())

    @property
    def authority(self) -> AuthorityState:
        """Where the zone stands with its authority."""
        trust = self.trust
        return AuthorityState(
            "zone",
            trust.revision,
            trust.trusted,
            trust.phase,
            tuple(self.waiting_for()),
            trust.left_behind,
        )

    def behind(self, revision: int) -> list[Peer]:
        """The members that are not known to have this revision of the trust in force, in order."""
        return sorted(peer for peer, one in self.members.items() if one.trust_revision < revision)

    def check_key(self, fingerprint: str) -> None:
        """Forbidden when the key was shut out."""
        removal = self.removals.get(fingerprint)
        if removal is not None:
            raise Forbidden(
                f"the key {fingerprint[:_SHORT]} of {removal.role}/{removal.id} was removed from the zone: "
                "to join again it needs another key, which a new join token or --start-over has it make",
                subject=fingerprint,
            )

    # -------------------------------------------------------------- letting in

    def enrolled(self, peer: Peer, fingerprint: str, how: How, now_ms: int) -> list[MembershipChange]:
        """The key gets a certificate for the name; asked twice, it gets another.

        Forbidden when the key was removed. Conflict when the name is another key's, or the key another
        name's: except for what was let in by its own host and comes from there again, with its folder lost
        or its name changed. The key that it had before is shut out then.
        """
        self.check_key(fingerprint)
        changes: list[MembershipChange] = []
        known = self.members.get(peer)
        if known is not None and known.fingerprint != fingerprint:
            if not (how is How.LOCAL and known.how is How.LOCAL):
                raise Conflict(
                    f"{peer} is held by another key, {known.fingerprint[:_SHORT]}: remove it first, if that "
                    "server is no more",
                    field="id",
                    subject=str(peer),
                )
            changes += self._shut_out(known, now_ms)
            known = None
        other = self.holder(fingerprint)
        if other is not None and other.peer != peer:
            if not (how is How.LOCAL and other.how is How.LOCAL):
                raise Conflict(
                    f"the key {fingerprint[:_SHORT]} is {other.peer}: a server has one name; remove that "
                    "first, and let the server make another key",
                    field="id",
                    subject=str(other.peer),
                )
            changes.append(MemberGone(other.role, other.id))
        if fingerprint in self.applicants:
            changes.append(ApplicantGone(fingerprint))
        made = known or Member(peer.role, peer.id, fingerprint, how, now_ms, now_ms)
        return [*changes, MemberPut(replace(made, issued_ms=now_ms))]

    def renewed(self, peer: Peer, fingerprint: str, now_ms: int) -> list[MembershipChange]:
        """The member gets another certificate. Forbidden unless the key is its own."""
        self.check_key(fingerprint)
        known = self.members.get(peer)
        if known is None or known.fingerprint != fingerprint:
            raise Forbidden(
                f"{peer} is not a member with the key {fingerprint[:_SHORT]}: it has to join again",
                subject=str(peer),
            )
        return [MemberPut(replace(known, issued_ms=now_ms))]

    def redeem(self, secret_digest: str, peer: Peer, fingerprint: str, now_ms: int) -> list[MembershipChange]:
        """Who knows a token's secret is let in by it; the key that used it may ask again until it ends."""
        token = self.tokens.get(self._by_digest.get(secret_digest, ""))
        if token is None:
            raise Forbidden("this join token is not known here: it was revoked, or is of another zone")
        if (why := _unfit(token, peer, fingerprint, now_ms)) is not None:
            raise Forbidden(
                f"join token {token.id} (for {_for_whom(token)}) {why}", field="token", subject=token.id
            )
        return [
            *self.enrolled(peer, fingerprint, How.TOKEN, now_ms),
            TokenPut(replace(token, used_by=fingerprint)),
        ]

    def create_token(self, token: JoinToken) -> list[MembershipChange]:
        """Invalid names the field. Those that expired long ago are forgotten on the way."""
        if token.role not in BY_TOKEN:
            roles = ", ".join(sorted(BY_TOKEN))
            raise Invalid("role", f"role {token.role} cannot join by a token: give one of {roles}")
        if token.name:
            names.plain("id", token.name)
        life_ms = token.expires_ms - token.created_ms
        if not 0 < life_ms <= TOKEN_LIFE_LIMIT_MS:
            raise Invalid(
                "lifetime",
                f"a lifetime of {life_ms // 1000} seconds is not allowed: give 1 to "
                f"{TOKEN_LIFE_LIMIT_MS // 1000}",
            )
        old = [one.id for one in self.tokens.values() if one.expires_ms + TOKEN_KEPT_MS <= token.created_ms]
        if len(self.tokens) - len(old) >= TOKENS_LIMIT:
            raise Exhausted(f"{TOKENS_LIMIT} join tokens are kept: revoke some")
        return [*(TokenGone(one) for one in old), TokenPut(token)]

    def revoke_token(self, token: str) -> list[MembershipChange]:
        """Nobody gets in by it any more; whom it let in stays a member."""
        if token not in self.tokens:
            raise NotFound(f"there is no join token {token!r}", field="token", subject=token)
        return [TokenGone(token)]

    # -------------------------------------------------------------- waiting

    def applied(self, applicant: Applicant) -> list[MembershipChange]:
        """It waits from now on; one that waited before keeps its place, and takes the new code.

        Forbidden when the key was removed or refused, or may not wait at all; Exhausted when everybody
        waits and is there.
        """
        self.check_key(applicant.fingerprint)
        if applicant.role is not Role.CELL:
            raise Forbidden(
                f"a {applicant.role} cannot wait to be let in: give it a join token "
                f"(nanoctl token create --role {applicant.role})",
                field="role",
            )
        names.plain("id", applicant.id)
        changes: list[MembershipChange] = []
        known = self.applicants.get(applicant.fingerprint)
        if known is not None:
            if applicant.since_ms < known.refused_until_ms:
                raise Forbidden(
                    f"an administrator refused the key {applicant.fingerprint[:_SHORT]}: ask for it again",
                    subject=applicant.fingerprint,
                )
            if known.refused_until_ms == 0:
                applicant = replace(applicant, since_ms=known.since_ms)
        elif len(self.applicants) >= APPLICANTS_LIMIT:
            changes.append(ApplicantGone(self._least_missed(applicant.host).fingerprint))
        return [*changes, ApplicantPut(replace(applicant, refused_until_ms=0))]

    def _least_missed(self, host: str) -> Applicant:
        """The oldest that is away of the host that most are from, when one more comes from `host`: who comes
        with key after key pushes out its own.
        """
        of_host = Counter([host, *(one.host for one in self.applicants.values())])
        absent = [one for one in self.applicants.values() if not one.present]
        if not absent:
            raise Exhausted(
                f"{APPLICANTS_LIMIT} servers wait to be let in already: admit or refuse some, or join by a "
                "token",
                retry_after_s=30.0,
            )
        return min(
            absent,
            key=lambda one: (-of_host[one.host], not one.refused_until_ms, one.since_ms, one.fingerprint),
        )

    def present(self, fingerprint: str, *, present: bool) -> list[MembershipChange]:
        """Whether it is there to hear the answer; nothing follows when it does not wait any more."""
        known = self.applicants.get(fingerprint)
        if known is None or known.present == present:
            return []
        return [ApplicantPut(replace(known, present=present))]

    def nobody_is_present(self) -> list[MembershipChange]:
        """After our own restart every link is gone."""
        return [ApplicantPut(replace(one, present=False)) for one in self.applicants.values() if one.present]

    def admit(
        self, prefix: str, now_ms: int, how: How = How.ADMITTED, code: str = ""
    ) -> list[MembershipChange]:
        """Let the applicant in, one that was refused before too; it need not be there now.

        Conflict when its code is another one than `code`, which was read at its own end.
        """
        applicant = self.applicant(prefix)
        if code and _letters(code) != _letters(applicant.code):
            raise Conflict(
                f"the code of {applicant.fingerprint[:_SHORT]} is {applicant.code} here, not {code!r:.20}: "
                "it was mistyped, or read at another server; look again. If it is what that very server "
                "shows, somebody stands in between: do not admit it",
                field="code",
                subject=applicant.fingerprint,
            )
        return self.enrolled(applicant.peer, applicant.fingerprint, how, now_ms)

    def admit_first(self, peer: Peer, now_ms: int) -> list[MembershipChange]:
        """Let in the only key that claims the name. NotFound or Conflict when it is not exactly one."""
        claiming = self.claiming(peer)
        if not claiming:
            raise NotFound(f"nobody waits to be let in as {peer}", field="id", subject=str(peer))
        if len(claiming) > 1:
            keys = ", ".join(one.fingerprint[:_SHORT] for one in claiming)
            raise Conflict(
                f"{len(claiming)} keys claim to be {peer} ({keys}): compare the codes and admit one of them "
                "by its fingerprint",
                field="id",
                subject=str(peer),
            )
        return self.admit(claiming[0].fingerprint, now_ms, How.FIRST_USE)

    def refuse(self, prefix: str, now_ms: int) -> list[MembershipChange]:
        """It is told no, and again for a day whenever it asks."""
        applicant = self.applicant(prefix)
        return [ApplicantPut(replace(applicant, refused_until_ms=now_ms + REFUSED_MS))]

    # -------------------------------------------------------------- shutting out

    def remove(self, peer: Peer, now_ms: int) -> list[MembershipChange]:
        """Its key is refused everywhere from now on; its name is free for another key."""
        if peer.role is Role.SCHEDULER:
            raise Conflict(
                f"{peer} is the zone's own scheduler: it cannot be removed", field="id", subject=str(peer)
            )
        return self._shut_out(self.member(peer), now_ms)

    def _shut_out(self, member: Member, now_ms: int) -> list[MembershipChange]:
        """Also of the tokens that the key used: one may outlive the memory of the removal, and the key may
        repeat what it was let in by."""
        until_ms = max(member.issued_ms, now_ms) + VALID_MS
        used = [one.id for one in self.tokens.values() if one.used_by == member.fingerprint]
        return [
            MemberGone(member.role, member.id),
            RemovalPut(Removal(member.fingerprint, member.role, member.id, until_ms)),
            *(TokenGone(one) for one in used),
        ]

    def forget_old_removals(self, now_ms: int) -> list[MembershipChange]:
        """Of keys that can have no valid certificate any more."""
        return [RemovalGone(one.fingerprint) for one in self.removals.values() if one.until_ms <= now_ms]

    # -------------------------------------------------------------- what is trusted

    def first_authority(self, fingerprint: str) -> list[MembershipChange]:
        """The zone's authority, for a book that names none yet."""
        if self.trust.trusted:
            return []
        revision = self.trust.revision + 1
        return [
            TrustPut(replace(self.trust, revision=revision, trusted=(fingerprint,), since_revision=revision))
        ]

    def acknowledged(self, peer: Peer, revision: int, issuer: str) -> list[MembershipChange]:
        """The member has this revision of the trust in force, and shows a certificate of that authority.

        An authority that is not trusted is not written down: whoever names it may say anything.
        """
        known = self.members.get(peer)
        issuer = issuer if issuer in self.trust.trusted else ""
        if known is None or (known.trust_revision, known.issuer) == (revision, issuer):
            return []
        return [MemberPut(replace(known, trust_revision=revision, issuer=issuer))]

    def overtaken(self, revision: int) -> list[MembershipChange]:
        """A member has a revision in force that this book never made: it was put back from a backup. What is
        trusted here gets a larger one, so that members take it. A number that no backup explains is a lie,
        by which one member would use up the numbers of all. A rotation waits anew: that revision knew nothing
        of it.
        """
        if not self.trust.revision < revision <= self.trust.revision + OVERTAKEN_LIMIT:
            return []
        return [TrustPut(replace(self.trust, revision=revision + 1, since_revision=revision + 1))]

    def check_steady(self) -> None:
        """Conflict while the authority is being rotated."""
        rotation.check_steady(self.trust, self.members.values())

    def rotate(self, authority: str) -> list[MembershipChange]:
        """Begin to move the zone to another authority, whose key is kept by now."""
        return [TrustPut(rotation.begun(self.trust, authority, self.members.values()))]

    def leave_behind(self) -> list[MembershipChange]:
        """Go on with the rotation though some members are away: they have to join again."""
        return [TrustPut(rotation.left_behind(self.trust, self.members.values()))]

    def advance(self) -> list[MembershipChange]:
        """The next phase of the rotation, when nobody is waited for any more."""
        following = rotation.next_trust(self.trust, self.members.values())
        return [] if following is None else [TrustPut(following)]

    # -------------------------------------------------------------- one way in

    def apply(self, change: MembershipChange) -> None:
        match change:
            case MemberPut(member):
                self._forget_key(member.peer)
                self.members[member.peer] = member
                self._by_key[member.fingerprint] = member.peer
            case MemberGone(role, name):
                peer = Peer(role, name)
                self._forget_key(peer)
                self.members.pop(peer, None)
            case ApplicantPut(applicant):
                self.applicants[applicant.fingerprint] = applicant
            case ApplicantGone(fingerprint):
                self.applicants.pop(fingerprint, None)
            case TokenPut(token):
                self.tokens[token.id] = token
                self._by_digest[token.digest] = token.id
            case TokenGone(gone):
                self._forget_token(gone)
            case RemovalPut(removal):
                self.removals[removal.fingerprint] = removal
                self._trust_changed()
            case RemovalGone(fingerprint):
                self.removals.pop(fingerprint, None)
                self._trust_changed()
            case TrustPut(trust):
                self.trust = trust

    def _forget_key(self, peer: Peer) -> None:
        known = self.members.get(peer)
        if known is not None and self._by_key.get(known.fingerprint) == peer:
            del self._by_key[known.fingerprint]

    def _forget_token(self, token: str) -> None:
        known = self.tokens.pop(token, None)
        if known is not None:
            self._by_digest.pop(known.digest, None)

    def _trust_changed(self) -> None:
        self.trust = replace(self.trust, revision=self.trust.revision + 1)

    def snapshot(self) -> dict[str, Sequence[Any]]:
        return {
            "members": list(self.members.values()),
            "applicants": list(self.applicants.values()),
            "join_tokens": list(self.tokens.values()),
            "removals": list(self.removals.values()),
            "trust": [self.trust],
        }

    @classmethod
    def restore(cls, snapshot: Mapping[str, Sequence[Any]]) -> "Membership":
        book = cls()
        for member in snapshot["members"]:
            book.apply(MemberPut(member))
        for applicant in snapshot["applicants"]:
            book.apply(ApplicantPut(applicant))
        for token in snapshot["join_tokens"]:
            book.apply(TokenPut(token))
        book.removals = {removal.fingerprint: removal for removal in snapshot["removals"]}
        for trust in snapshot["trust"]:
            book.trust = trust
        return book


def _letters(code: str) -> str:
    """The code as it is compared: people leave out the dash, do not shout, and take 0 and 1, which it has,
    for letters that it has not."""
    return code.replace("-", "").replace(" ", "").upper().translate(_READ_AS)


def _unfit(token: JoinToken, peer: Peer, fingerprint: str, now_ms: int) -> str | None:
    """Why the token does not let this key in under this name."""
    if now_ms >= token.expires_ms:
        return f"expired {(now_ms - token.expires_ms) // 1000} seconds ago: create another"
    if token.role is not peer.role:
        return f"does not let in a {peer.role}"
    if token.name and token.name != peer.id:
        return f"does not let in {peer}"
    if token.used_by and token.used_by != fingerprint:
        return "was used by another server already: create another"
    return None


def _for_whom(token: JoinToken) -> str:
    return f"{token.role}/{token.name}" if token.name else f"any {token.role}"
