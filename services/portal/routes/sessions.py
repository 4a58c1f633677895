"""`/sessions/`: logging in and staying so (REST document, section 9.3); `/session/` is one's own.

Pages show their session by a cookie that scripts cannot read, so they ask for "mine" and know no id.
"""

from typing import Any

import msgspec

from nano.model.errors import Forbidden, NotFound, Untrusted
from nano.web import envelope
from nano.web.envelope import Answer
from services.portal.access import Menu
from services.portal.call import Call, Route, menus
from services.portal.callers import cookie, is_secret
from services.portal.directory import Who
from services.portal.sessions import LIFE_S, Session, key_of
from services.portal.throttle import login_keys

_WRONG = "user or password is wrong"


class Login(msgspec.Struct, kw_only=True):
    user: str
    password: str
    nonce: str = ""
    """Documented, and of no use."""


class SessionResult(msgspec.Struct, omit_defaults=True):
    session: str
    group: str
    timeout: int
    menu: list[str] | None
    """Null when the roles have none, as documented."""
    address: str = ""


class Mine(msgspec.Struct):
    """Who the caller is."""

    user: str
    group: str
    menu: list[str]
    address: str
    timeout: int
    operator: bool
    """Sees and may act on what belongs to others."""


async def log_in(call: Call[Login]) -> Answer:
    """One text for an unknown user and a wrong password, and as long a wait for either."""
    portal, body = call.portal, call.body
    keys = login_keys(body.user, call.address)
    portal.throttle.attempt(keys, call.now_s)
    user = portal.directory.users.get(body.user)
    secret = user.secret if user is not None else None
    fits = await portal.passwords.fits(body.password, secret)
    user = portal.directory.users.get(body.user)  # a password that was changed meanwhile opens nothing
    if not fits or user is None or user.secret != secret:
        await portal.log.write(f"{body.user[:64]!r}({call.address}) : failed to log in")
        raise Untrusted(_WRONG, field="password")
    portal.throttle.succeeded(keys)
    who = portal.directory.who(body.user)
    if who is None:
        raise Forbidden(f"user {body.user} is in no group yet: ask whoever manages users", field="user")
    session_id, _ = portal.sessions.open(body.user, call.address, call.now_s)
    await portal.session_file.write()
    await portal.log.write(f"{who.group}.{who.user}({call.address}) : logged in")
    return envelope.success(
        SessionResult(session_id, who.group, int(LIFE_S), _menu(who) or None, call.address),
        headers=_cookie(call, session_id),
    )


async def mine(call: Call[None]) -> Answer:
    who = call.who
    return envelope.success(
        Mine(who.user, who.group, _menu(who), call.by.session.address, int(LIFE_S), who.is_operator)
    )


async def keep(call: Call[None]) -> Answer:
    """The only call that extends a session."""
    call.portal.sessions.extend(_own(call), call.now_s)
    await call.portal.session_file.write()
    return envelope.success()


async def log_out(call: Call[None]) -> Answer:
    session = _own(call)
    call.portal.sessions.close(session.key)
    await call.portal.session_file.write()
    await call.portal.log.write(f"{call.by.named} : logged out")
    return envelope.success(headers=_cookie(call, ""))


async def query(call: Call[None]) -> Answer:
    """Labels, not ids: whoever has an id is that user."""
    return envelope.success([session.label for session in call.portal.sessions.everybody(call.now_s)])


def _own(call: Call[None]) -> Session:
    """The caller's session; where the path names one it must be that one."""
    named = call.params.get("session", "")
    session = call.by.session
    if named and key_of(named) != session.key:
        raise NotFound(
            "the session in the path is not the one that was shown", field="session", subject=named[:36]
        )
    return session


def _cookie(call: Call[Any], session_id: str) -> dict[str, str]:
    over_tls = is_secret(call.request, call.portal.config.trusted_proxies)
    return {"Set-Cookie": cookie(session_id, is_secret=over_tls)}


def _menu(who: Who) -> list[str]:
    return [menu for menu in Menu if menu in who.menu]


ROUTES = (
    Route("POST", "/sessions/", log_in, "Log in", body=Login, is_open=True),
    Route("GET", "/sessions/", query, "List who is logged in", menus(Menu.USER)),
    Route("PUT", "/sessions/{session}", keep, "Keep a session alive"),
    Route("DELETE", "/sessions/{session}", log_out, "Log out"),
    Route("GET", "/session/", mine, "Read who I am"),
    Route("PUT", "/session/", keep, "Keep my session alive"),
    Route("DELETE", "/session/", log_out, "Log out"),
)
