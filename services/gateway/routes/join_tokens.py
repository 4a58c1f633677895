"""`/join_tokens/`: what lets one server in without a question. Beyond the documented surface."""

import msgspec

from nano.contracts.nano import v1
from nano.model.errors import Invalid
from nano.model.membership import ShownToken
from nano.web import envelope
from nano.web.bodies import Count
from nano.web.envelope import Answer
from services.gateway import paging, writes
from services.gateway.call import Call, Route
from services.gateway.cursor import Book

LIFETIME_S = 3600
STATES = ("open", "used", "expired")


class TokenPage(msgspec.Struct):
    join_tokens: list[ShownToken]
    """The newest first."""
    total: int


class WantedToken(msgspec.Struct):
    role: str = "cell"
    """cell, imagestore, addresspool or gateway"""
    id: str = ""
    """The one name that it lets in; empty: any that is free."""
    lifetime: Count = LIFETIME_S
    """Seconds."""


class MadeToken(msgspec.Struct):
    id: str
    token: str
    """All that the other server needs; shown this once."""
    expires_ms: int


def state_of(token: ShownToken, now_ms: int) -> str:
    """One word: a used one is used also after its end."""
    if token.used_by:
        return "used"
    return "expired" if token.expires_ms <= now_ms else "open"


async def query(call: Call[None]) -> Answer:
    role, state = call.query.text("role"), call.query.text("state")
    if state not in {"", *STATES}:
        raise Invalid("state", f"state {state!r:.40} is unknown: give one of {', '.join(STATES)}")
    now_ms = call.gateway.now_ms()
    found = [
        token
        for token in call.view.join_tokens.values()
        if role in {"", token.role} and state in {"", state_of(token, now_ms)}
    ]
    found.sort(key=lambda token: (token.created_ms, token.id), reverse=True)
    return envelope.success(TokenPage(paging.page(call.query, found), len(found)))


async def create(call: Call[WantedToken]) -> Answer:
    body = call.body
    message = v1.CreateTokenRequest(role=body.role, id=body.id, lifetime_s=body.lifetime)
    reply = await call.services.admissions.create_token(message, timeout=writes.RPC_S)
    headers = await writes.held(call.gateway, Book.SCHEDULER, reply.revision)
    headers["Cache-Control"] = "no-store"
    return envelope.success(MadeToken(reply.id, reply.token, reply.expires_ms), headers=headers)


async def revoke(call: Call[None]) -> Answer:
    message = v1.TokenRef(id=call.params["id"])
    reply = await call.services.admissions.revoke_token(message, timeout=writes.RPC_S)
    return await writes.done(call.gateway, Book.SCHEDULER, reply.revision)


ROUTES = (
    Route(
        "GET",
        "/join_tokens/",
        query,
        "List join tokens, the newest first",
        answer=TokenPage,
        reads=(Book.SCHEDULER,),
        query={
            "role": "only those for this role",
            "state": ", ".join(STATES),
            **paging.PARAMETERS,
        },
    ),
    Route(
        "POST",
        "/join_tokens/",
        create,
        "Make a token by which one server may join",
        body=WantedToken,
        answer=MadeToken,
        may_be_empty=True,
    ),
    Route("DELETE", "/join_tokens/{id}", revoke, "Revoke a join token; whom it let in stays"),
)
