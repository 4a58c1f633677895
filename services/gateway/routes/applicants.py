"""`/applicants/`: servers that wait to be let in, known by their keys. Beyond the documented surface."""

import msgspec

from nano.contracts.nano import v1
from nano.model.membership import Applicant
from nano.web import envelope
from nano.web.envelope import Answer
from services.gateway import paging, writes
from services.gateway.call import Call, Route
from services.gateway.cursor import Book


class ApplicantPage(msgspec.Struct):
    applicants: list[Applicant]
    """Who has waited longest first."""
    total: int


class Admission(msgspec.Struct):
    code: str = ""
    """What the other end shows: another one than ours is refused. Empty: it was compared already."""


async def query(call: Call[None]) -> Answer:
    name, present = call.query.text("name"), call.query.flag("present")
    found = [
        one
        for one in call.view.applicants.values()
        if name in {"", one.id} and present in {None, one.present}
    ]
    found.sort(key=lambda one: (one.since_ms, one.fingerprint))
    return envelope.success(ApplicantPage(paging.page(call.query, found), len(found)))


async def admit(call: Call[Admission]) -> Answer:
    message = v1.ApplicantRef(fingerprint=call.params["fingerprint"], code=call.body.code)
    reply = await call.services.admissions.admit(message, timeout=writes.RPC_S)
    return await writes.done(call.gateway, Book.SCHEDULER, reply.revision)


async def refuse(call: Call[None]) -> Answer:
    message = v1.ApplicantRef(fingerprint=call.params["fingerprint"])
    reply = await call.services.admissions.refuse(message, timeout=writes.RPC_S)
    return await writes.done(call.gateway, Book.SCHEDULER, reply.revision)


_ONE = "/applicants/{fingerprint}"

ROUTES = (
    Route(
        "GET",
        "/applicants/",
        query,
        "List servers that wait to be let in",
        answer=ApplicantPage,
        reads=(Book.SCHEDULER,),
        query={
            "name": "only those that claim this name",
            "present": "true: only those that are there now; false: only the others",
            **paging.PARAMETERS,
        },
    ),
    Route(
        "POST",
        _ONE,
        admit,
        "Let in a server, by its key's fingerprint or the beginning of that",
        body=Admission,
        may_be_empty=True,
    ),
    Route("DELETE", _ONE, refuse, "Refuse a server: it is told so for a day"),
)
