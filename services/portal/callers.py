"""Whose request it is: address, session, and whether a browser was led to it by another site."""

import ipaddress
from collections.abc import Collection
from urllib.parse import urlsplit

import structlog
from starlette.requests import HTTPConnection

from nano.model.errors import Forbidden, Untrusted
from services.portal.call import Caller, Portal
from services.portal.sessions import Session

HEADER = "nano-session"
_COOKIE = "nano-session"
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


_log = structlog.get_logger("nano.portal")


def is_secret(connection: HTTPConnection, proxies: Collection[str]) -> bool:
    """Whether the browser's end of it speaks TLS: with us, or with a proxy that we trust and that says so."""
    peer = _plain(connection.client.host) if connection.client is not None else ""
    is_outside = peer in proxies and connection.headers.get("x-forwarded-proto", "") == "https"
    return is_outside or connection.scope["scheme"] in {"https", "wss"}


def cookie_name(*, is_secret: bool) -> str:
    """With the prefix `__Host-` a browser takes it over TLS only, and gives it to this host only (RFC
    6265bis): no other site of the domain can put a session of its own in its place."""
    return f"__Host-{_COOKIE}" if is_secret else _COOKIE


def cookie(session_id: str, *, is_secret: bool) -> str:
    """The value of `Set-Cookie`; an empty session takes the cookie away. Scripts never see it."""
    secure = "; Secure" if is_secret else ""
    age = "" if session_id else "; Max-Age=0"
    name = cookie_name(is_secret=is_secret)
    return f"{name}={session_id}; Path=/; HttpOnly; SameSite=Strict{secure}{age}"


def address_of(connection: HTTPConnection, proxies: Collection[str]) -> str:
    """The peer's address; of a proxy that we trust, the right-most one that it names and that is none
    itself. Some proxies add a line of their own behind those of the client: all lines are one list."""
    peer = _plain(connection.client.host) if connection.client is not None else ""
    if peer not in proxies:
        return peer
    for named in reversed(",".join(connection.headers.getlist("x-forwarded-for")).split(",")):
        address = _plain(named.strip())
        if not address:
            break
        if address not in proxies:
            return address
    return peer


def _plain(text: str) -> str:
    """An address in its usual spelling: without a zone, and an IPv4 one where a socket of both kinds maps it;
    empty when it is none."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return ""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def shown_session(portal: Portal, connection: HTTPConnection) -> tuple[Session, bool] | None:
    """The session that a request shows, and whether by a cookie; None when it shows none.

    `Untrusted` when what it shows has ended. The header of the document wins over the cookie.
    """
    by_header = connection.headers.get(HEADER, "")
    name = cookie_name(is_secret=is_secret(connection, portal.config.trusted_proxies))
    shown = by_header or connection.cookies.get(name, "")
    if not shown:
        return None
    return portal.sessions.find(shown, portal.monotonic_s()), not by_header


def caller_of(portal: Portal, connection: HTTPConnection) -> Caller:
    """Who calls, as the directory has them now; `Untrusted` when nobody does."""
    shown = shown_session(portal, connection)
    if shown is None:
        raise Untrusted("log in first", field="Nano-Session")
    session, by_cookie = shown
    who = portal.directory.who(session.user)
    if who is None:
        portal.sessions.close(session.key)
        raise Untrusted(f"user {session.user} is in no group any more: ask whoever manages users")
    return Caller(session, who, address_of(connection, portal.config.trusted_proxies), by_cookie)


def check_site(connection: HTTPConnection, method: str, origins: Collection[str]) -> None:
    """Forbidden when a page of another site made a browser send this.

    Browsers say so themselves (Fetch Metadata, `Sec-Fetch-Site`); those that do not, and websockets, name the
    page's origin. Programs say neither and are not led anywhere.
    """
    if method in _SAFE_METHODS:
        return
    origin = connection.headers.get("origin", "")
    if origin in origins:
        return
    site = connection.headers.get("sec-fetch-site", "")
    if site:
        is_ours = site in {"same-origin", "none"}
    else:
        is_ours = not origin or _host_of(origin) == connection.headers.get("host", "")
    if not is_ours:
        host = connection.headers.get("host", "")
        _log.warning("request.other_site", origin=origin, host=host, site=site)
        raise Forbidden(
            f"this was sent by a page of another site ({origin or site}): use the portal's own pages, "
            "or name their address in `origins` of the portal's configuration",
            field="Origin",
        )


def _host_of(origin: str) -> str | None:
    """Host and port of an origin; None when it has none, as `null` has not."""
    try:
        return urlsplit(origin).netloc or None
    except ValueError:
        return None
