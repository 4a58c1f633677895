"""What the log says of who comes into the zone and who goes: one line for each thing that happened.

The book's changes in, lines out. A change says how something is now, not that it is new: a member that renews
or catches up is written as one that comes. So what was known before is remembered here.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from nano.model.membership import Applicant, JoinToken, Member, Removal, Trust
from nano.model.peers import Peer
from services.scheduler.membership import (
    ApplicantGone,
    ApplicantPut,
    MemberGone,
    MemberPut,
    Membership,
    RemovalPut,
    TokenGone,
    TokenPut,
    TrustPut,
)

SHORT = 16
"""How much of a fingerprint is enough to find it by."""


class Line(NamedTuple):
    """An event, and what is known of it."""

    event: str
    fields: dict[str, Any]
    by_stranger: bool = False
    """Whether anybody who reaches the door can make any number of these."""


class Comings:
    """Whoever is known by now."""

    def __init__(self, membership: Membership) -> None:
        self._members = {peer: one.fingerprint for peer, one in membership.members.items()}
        self._applicants = dict(membership.applicants)
        self._tokens = dict(membership.tokens)
        self._trust = membership.trust

    def lines(self, changes: Sequence[object]) -> Iterator[Line]:
        """What to write of one commit."""
        joined = {each.member.fingerprint for each in changes if isinstance(each, MemberPut)}
        redeemed = {each.token.used_by: each.token.id for each in changes if isinstance(each, TokenPut)}
        for change in changes:
            match change:
                case MemberPut(member):
                    yield from self._member(member, redeemed.get(member.fingerprint, ""))
                case MemberGone(role, name):
                    self._members.pop(Peer(role, name), None)
                case RemovalPut(removal):
                    yield Line("member.removed", _who(removal))
                case ApplicantPut(applicant):
                    yield from self._applicant(applicant)
                case ApplicantGone(fingerprint):
                    yield from self._forgotten(fingerprint, joined)
                case TokenPut(token):
                    yield from self._token(token)
                case TokenGone(name):
                    self._tokens.pop(name, None)
                    yield Line("token.gone", {"token": name})
                case TrustPut(trust):
                    yield from self._authority(trust)

    def _member(self, member: Member, token: str) -> Iterator[Line]:
        if self._members.get(member.peer) != member.fingerprint:
            self._members[member.peer] = member.fingerprint
            by = {"token": token} if token else {}
            yield Line("member.joined", _who(member) | {"how": str(member.how)} | by)

    def _applicant(self, applicant: Applicant) -> Iterator[Line]:
        known = self._applicants.get(applicant.fingerprint)
        self._applicants[applicant.fingerprint] = applicant
        fields = _who(applicant) | {"host": applicant.host}
        if applicant.refused_until_ms and (known is None or not known.refused_until_ms):
            yield Line("applicant.refused", fields)
        elif known is None or (known.peer, known.code) != (applicant.peer, applicant.code):
            yield Line("applicant.waits", fields, by_stranger=True)

    def _forgotten(self, fingerprint: str, joined: set[str]) -> Iterator[Line]:
        """An applicant does not wait any more: it was let in, or others have taken its place."""
        known = self._applicants.pop(fingerprint, None)
        if known is not None and fingerprint not in joined:
            yield Line("applicant.gone", _who(known) | {"host": known.host}, by_stranger=True)

    def _token(self, token: JoinToken) -> Iterator[Line]:
        is_new = token.id not in self._tokens
        self._tokens[token.id] = token
        if is_new:
            yield Line("token.created", {"token": token.id, "role": str(token.role), "id": token.name})

    def _authority(self, trust: Trust) -> Iterator[Line]:
        before, self._trust = self._trust, trust
        if (trust.phase, trust.left_behind) != (before.phase, before.left_behind):
            fields = {"phase": str(trust.phase), "signs": trust.trusted[0][:SHORT]}
            left = {"left_behind": list(trust.left_behind)} if trust.left_behind else {}
            yield Line("authority.rotation", fields | left)


def _who(one: Member | Applicant | Removal) -> dict[str, Any]:
    return {"role": str(one.role), "id": one.id, "key": one.fingerprint[:SHORT]}
