"""Whose request it is, and whether a browser was led to it."""

import pytest
from starlette.requests import HTTPConnection

from nano.model.errors import Forbidden
from services.portal.callers import address_of, check_site, cookie, is_secret


def connection(scheme: str = "https", client: str = "10.0.0.9", **headers: str) -> HTTPConnection:
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {
        "type": "http",
        "scheme": scheme,
        "path": "/",
        "server": ("portal", 5870),
        "client": (client, 1234),
        "headers": [(b"host", b"portal:5870"), *raw],
        "query_string": b"",
    }
    return HTTPConnection(scope)


def test_a_cookie_is_for_our_host_our_pages_and_no_script() -> None:
    over_tls = "__Host-nano-session=s; Path=/; HttpOnly; SameSite=Strict; Secure"
    assert cookie("s", is_secret=True) == over_tls
    assert cookie("s", is_secret=False) == "nano-session=s; Path=/; HttpOnly; SameSite=Strict"
    assert "Max-Age=0" in cookie("", is_secret=True)


@pytest.mark.parametrize(
    ("scheme", "client", "proto", "expected"),
    [
        ("https", "10.0.0.9", "", True),
        ("wss", "10.0.0.9", "", True),
        ("http", "127.0.0.1", "", False),
        ("http", "127.0.0.1", "https", True),
        ("http", "::ffff:127.0.0.1", "https", True),
        ("http", "127.0.0.1", "http", False),
        ("http", "10.0.0.9", "https", False),  # not a proxy of ours
    ],
)
def test_tls_may_end_at_a_proxy_of_ours(scheme: str, client: str, proto: str, expected: bool) -> None:
    headers = {"x_forwarded_proto": proto} if proto else {}
    assert is_secret(connection(scheme, client, **headers), ("127.0.0.1",)) is expected


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("10.0.0.9", "1.2.3.4", "10.0.0.9"),  # not a proxy of ours: what it says counts for nothing
        ("127.0.0.1", "", "127.0.0.1"),
        ("127.0.0.1", "6.6.6.6, 1.2.3.4", "1.2.3.4"),
        ("127.0.0.1", "1.2.3.4, 10.1.1.1", "1.2.3.4"),
        ("127.0.0.1", "1.2.3.4, nonsense", "127.0.0.1"),
        ("127.0.0.1", "2001:db8::1", "2001:db8::1"),
        ("127.0.0.1", "2001:DB8:0::1%any text", "2001:db8::1"),
        ("::ffff:127.0.0.1", "1.2.3.4", "1.2.3.4"),
        ("::ffff:10.0.0.9", "1.2.3.4", "10.0.0.9"),
        ("fe80::1%eth0", "1.2.3.4", "fe80::1"),
        ("127.0.0.1", "1.2.3.4, ::ffff:10.1.1.1", "1.2.3.4"),
    ],
)
def test_an_address_is_believed_from_our_proxies_only(peer: str, forwarded: str, expected: str) -> None:
    headers = {"x_forwarded_for": forwarded} if forwarded else {}
    found = address_of(connection(client=peer, **headers), ("127.0.0.1", "10.1.1.1"))
    assert found == expected


def test_what_a_client_says_before_our_proxy_counts_for_nothing() -> None:
    """Also where the proxy adds a line of its own instead of lengthening that of the client."""
    made = connection(client="127.0.0.1")
    made.scope["headers"] += [(b"x-forwarded-for", b"6.6.6.6"), (b"x-forwarded-for", b"1.2.3.4")]
    assert address_of(made, ("127.0.0.1",)) == "1.2.3.4"


@pytest.mark.parametrize(
    "headers",
    [
        {},  # a program
        {"sec_fetch_site": "same-origin", "origin": "https://portal:5870"},
        {"sec_fetch_site": "same-origin", "origin": "https://cloud.example.org"},  # a proxy changed the host
        {"sec_fetch_site": "none"},
        {"origin": "https://portal:5870"},
        {"origin": "https://allowed.example.org", "sec_fetch_site": "cross-site"},
    ],
)
def test_our_own_pages_and_programs_may_change_things(headers: dict[str, str]) -> None:
    check_site(connection(**headers), "POST", ("https://allowed.example.org",))


@pytest.mark.parametrize(
    "headers",
    [
        {"sec_fetch_site": "cross-site", "origin": "https://evil.example.org"},
        {"sec_fetch_site": "same-site", "origin": "https://other.example.org"},
        {"origin": "https://evil.example.org"},
        {"origin": "null"},
        {"origin": "http://["},
    ],
)
def test_pages_of_others_may_not(headers: dict[str, str]) -> None:
    with pytest.raises(Forbidden):
        check_site(connection(**headers), "DELETE", ())
    check_site(connection(**headers), "GET", ())
