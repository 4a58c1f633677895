"""`/authority/`: which key signs for the zone, and its change. Beyond the documented surface."""

import msgspec

from nano.contracts.nano import v1
from nano.model.membership import AuthorityState
from nano.web import envelope
from nano.web.envelope import Answer
from services.gateway import writes
from services.gateway.call import Call, Route
from services.gateway.cursor import Book


class Rotation(msgspec.Struct):
    leave_behind: bool = False
    """Of a rotation that is under way: go on without those that it waits for; they have to join again."""


async def read(call: Call[None]) -> Answer:
    return envelope.success(call.view.authority)


async def rotate(call: Call[Rotation]) -> Answer:
    message = v1.RotateAuthorityRequest(leave_behind=call.body.leave_behind)
    reply = await call.services.admissions.rotate_authority(message, timeout=writes.RPC_S)
    return await writes.done(call.gateway, Book.SCHEDULER, reply.revision)


ROUTES = (
    Route(
        "GET",
        "/authority/",
        read,
        "Read which authority the zone trusts, and whom a change of it waits for",
        answer=AuthorityState,
        reads=(Book.SCHEDULER,),
    ),
    Route(
        "POST",
        "/authority/",
        rotate,
        "Give the zone another authority, or leave behind whom that waits for",
        body=Rotation,
        may_be_empty=True,
    ),
)
