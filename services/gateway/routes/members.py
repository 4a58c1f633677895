"""`/members/` and `/removals/`: who is in the zone, and who was shut out. Beyond the documented surface."""

import msgspec

from nano.contracts.nano import v1
from nano.model.membership import Member, Removal
from nano.model.peers import Role
from nano.web import envelope
from nano.web.envelope import Answer
from services.gateway import paging, writes
from services.gateway.call import Call, Route
from services.gateway.cursor import Book


class MemberInfo(msgspec.Struct):
    role: Role
    id: str
    fingerprint: str
    how: str
    """local, token, admitted or first-use"""
    since_ms: int
    issued_ms: int
    """When it last got a certificate."""
    informed: bool
    """It is known to refuse everybody who was removed until now."""
    issuer: str
    """The fingerprint of the authority behind its certificate, as far as it is known."""


class MemberPage(msgspec.Struct):
    members: list[MemberInfo]
    """By role and name."""
    total: int
    uninformed: int
    """How many of them are not known to refuse everybody who was removed until now."""


class RemovalPage(msgspec.Struct):
    removals: list[Removal]
    """By role and name."""
    total: int


def _shown(member: Member, revision: int) -> MemberInfo:
    """The scheduler decides what is trusted, and so always knows."""
    informed = member.role is Role.SCHEDULER or member.trust_revision >= revision
    return MemberInfo(
        member.role,
        member.id,
        member.fingerprint,
        member.how,
        member.since_ms,
        member.issued_ms,
        informed,
        member.issuer,
    )


async def query(call: Call[None]) -> Answer:
    role, informed = call.query.text("role"), call.query.flag("informed")
    revision = call.view.authority.revision
    known = [_shown(one, revision) for one in call.view.members.values() if role in {"", one.role}]
    uninformed = sum(not one.informed for one in known)
    found = [one for one in known if informed in {None, one.informed}]
    found.sort(key=lambda one: (one.role, one.id))
    return envelope.success(MemberPage(paging.page(call.query, found), len(found), uninformed))


async def remove(call: Call[None]) -> Answer:
    """Its links are closed, its key is refused; `/members/?informed=false` says who does not know yet."""
    message = v1.MemberRef(role=call.params["role"], id=call.params["id"])
    reply = await call.services.admissions.remove_peer(message, timeout=writes.RPC_S)
    return await writes.done(call.gateway, Book.SCHEDULER, reply.revision)


async def query_removals(call: Call[None]) -> Answer:
    found = sorted(call.view.removals.values(), key=lambda one: (one.role, one.id, one.fingerprint))
    return envelope.success(RemovalPage(paging.page(call.query, found), len(found)))


_READS = (Book.SCHEDULER,)

ROUTES = (
    Route(
        "GET",
        "/members/",
        query,
        "List who was let into the zone",
        answer=MemberPage,
        reads=_READS,
        query={
            "role": "only members of this role",
            "informed": "true: only those that know of every removal; false: only the others",
            **paging.PARAMETERS,
        },
    ),
    Route("DELETE", "/members/{role}/{id}", remove, "Shut a server or service out of the zone"),
    Route(
        "GET",
        "/removals/",
        query_removals,
        "List keys that are shut out, for as long as they could be used",
        answer=RemovalPage,
        reads=_READS,
        query=paging.PARAMETERS,
    ),
)
