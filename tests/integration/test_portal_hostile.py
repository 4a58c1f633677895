"""Hostile and unlucky requests at the portal's real door."""

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import AsyncIterator, Coroutine, Mapping
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from services.portal.app import STRANGERS_BYTES
from services.portal.room import Room
from tests.integration.test_portal import created, socket, until
from tests.integration.test_portal_access import NOBODYS, Town, lines, town
from tests.support.portal import PASSWORD, PROBLEM, Desk, portal
from tests.support.zone import zone

__all__ = ["town"]


async def test_a_text_with_a_line_separator_does_not_end_the_feed(town: Town) -> None:
    """`str.splitlines` ends a line at U+2028 and U+0085, the stream of events does not."""
    described = {"name": "base", "description": "a\u2028\u2028b\x85id: forged\x85c"}
    image = (await town.cid.data("POST", "/disk_images/", described))["id"]
    await town.desk.until(lambda: town.desk.portal.owners.is_here(image))
    assert town.desk.portal.feed.is_heard


async def test_a_medium_of_another_is_not_booted_under_any_spelling(town: Town) -> None:
    """The gateway reads names without regard to case, and a null as if it were missing."""
    medium = (await town.bob.data("POST", "/media_images/", {"name": "secret"}))["id"]
    guest = await created(town.desk, town.cid, "mine")
    for member in (
        {"source": medium},
        {"SOURCE": medium},
        {"source": None, "Source": medium},
        {"Source": medium, "source": None},
        {"Source": "", "source": None, "SOURCE": medium},
    ):
        problem = await town.cid.refused("POST", f"/instances/{guest}", {"from_media": True, **member})
        assert (problem["status"], problem["field"]) == (404, "source"), member


@pytest.mark.parametrize("owner", [[], {}, 0, True])
async def test_an_owner_that_is_no_text_is_refused(town: Town, owner: object) -> None:
    problem = await town.cid.refused("POST", "/guests/", {"owner": owner})
    assert (problem["status"], problem["field"]) == (403, "owner")


# ------------------------------------------------------------------ what is no request that anybody means

JUNK = (
    ("GET", "/tasks/%2e%2e", b""),
    ("GET", "/tasks/%2e", b""),
    ("DELETE", "/tasks/%2e%2e", b""),
    ("GET", "/guests/%2e%2e", b""),
    ("GET", "/guests/%00", b""),
    ("GET", "/instance_status/%2e%2e", b""),
    ("GET", "/instance_status/%2e/%2e%2e", b""),
    ("GET", "/compute_pool_cells/%7Bcell%7D/x", b""),
    ("GET", "/disk_images/%2e%2e", b""),
    ("GET", "/disk_images/%2e%2e/file/", b""),
    ("POST", "/guests/", b'{"owner": [], "group": {}}'),
    ("POST", "/guests/", b'{"from_image": ["../x"]}'),
    ("POST", "/guests/", b'{"cores": 99999999999999999999999999}'),
    ("POST", "/search/guests/", b'{"limit": 1e999}'),
    ("POST", "/search/guests/", b'{"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    ("POST", "/search/guests/", b'{"x": "\\ud800"}'),
    ("POST", "/search/guests/", b'{"\xff": 1}'),
    ("POST", "/search/guests/", b"[]"),
    ("POST", "/monitor_channels/", b'{"guest": "a/"}'),
    ("POST", "/monitor_channels/", b'{"guest": ""}'),
    ("POST", "/monitor_channels/", b'{"guest": "."}'),
    ("POST", "/monitor_channels/", b'{"guest": "../tasks/"}'),
    ("POST", "/disk_images/", b'{"name": "x", "guest": "a/"}'),
    ("POST", "/disk_images/", b'{"name": "x", "guest": ["../tasks/"]}'),
    ("GET", "/logs/?before=0001-01-01+00:00:00", b""),
    ("GET", "/logs/?after=0001-01-01+00:00:00&before=0001-01-01+00:00:00", b""),
    ("DELETE", "/logs/", b'{"entries": ["' + b"\xd9\xa0" * 17 + b'"]}'),
    ("DELETE", "/logs/", b'{"entries": ["../../../../../../x"]}'),
    ("POST", "/users/a%0a", b'{"password": "Correct1horse"}'),
    ("POST", "/users/" + "a" * 300, b'{"password": "Correct1horse"}'),
    ("PUT", "/roles/super", b'{"menu": [null]}'),
)


@pytest.mark.parametrize("by", ["ann", "cid"])
async def test_junk_is_refused_and_neither_a_defect_nor_the_gateways(town: Town, by: str) -> None:
    browser = getattr(town, by)
    for method, path, body in JUNK:
        answer = await browser.client.request(method, f"/api/v1{path}", content=body, headers=PROBLEM)
        assert 400 <= answer.status_code < 500, (method, path, body[:60], answer.text)
        assert answer.status_code != 401, (method, path, answer.text)


HEADERS: tuple[Mapping[str, bytes], ...] = (
    {"user-agent": "café".encode("latin-1")},
    {"accept": b"application/problem+json, \xff"},
    {"range": b"\xff"},
    {"content-type": "é".encode()},
    {"idempotency-key": b"\xff" * 3000},
    {"x-forwarded-for": b"\xff, ["},
    {"accept-language": b"\xff"},
)


@pytest.mark.parametrize("headers", HEADERS)
async def test_headers_may_hold_any_bytes(town: Town, headers: Mapping[str, bytes]) -> None:
    problems = {name: value.encode() for name, value in PROBLEM.items()}
    given = {name.encode(): value for name, value in (problems | dict(headers)).items()}
    answer = await town.bob.client.get(f"/api/v1/guests/{town.guest}", headers=given)
    assert (answer.status_code, answer.json()["data"]["owner"]) == (200, "bob")


async def test_an_origin_that_is_no_url_is_another_site(town: Town) -> None:
    answer = await town.bob.ask("POST", "/search/guests/", {}, {"origin": "http://["})
    assert answer.status_code == 403


async def test_a_gateway_that_does_not_believe_us_is_no_end_of_a_session(town: Town) -> None:
    """A page would show the login, again and again."""
    credential = town.desk.portal.upstream._credential
    town.desk.portal.upstream._credential = type(credential)(credential.id, "another key")
    for method, path in (("GET", "/tasks/"), ("GET", "/templates/"), ("GET", f"/guests/{town.guest}")):
        problem = await town.bob.refused(method, path)
        assert (problem["status"], problem["code"]) == (503, "unreachable"), (path, problem)


# ------------------------------------------------------------------ at the same time


@contextlib.asynccontextmanager
async def held(
    desk: Desk, asking: Coroutine[None, None, httpx.Response]
) -> AsyncIterator[asyncio.Task[httpx.Response]]:
    """A request that waits for the thread that judges passwords, for as long as this is open."""
    gate, passwords = threading.Event(), desk.portal.passwords
    passwords._crew.submit(gate.wait)
    async with asyncio.TaskGroup() as jobs:
        try:
            task = jobs.create_task(asking)
            async with asyncio.timeout(10):
                while not passwords._waiting:  # noqa: ASYNC110 - a number tells nobody
                    await asyncio.sleep(0)
            yield task
        finally:
            gate.set()


async def test_a_login_with_a_password_that_is_changed_meanwhile_opens_nothing(town: Town) -> None:
    desk, stranger = town.desk, await town.desk.browser()
    secret = await desk.portal.passwords.secret("Another1horse")
    login = {"user": "bob", "password": PASSWORD}
    async with held(desk, stranger.ask("POST", "/sessions/", login)) as attempt:
        desk.portal.shelf.commit(*desk.portal.directory.change_secret("bob", secret))
        desk.portal.sessions.close_user("bob")
    assert attempt.result().status_code == 401
    assert not list(desk.portal.sessions.of_user("bob"))


async def test_a_password_that_somebody_else_changes_meanwhile_stays_theirs(town: Town) -> None:
    """Whoever has stolen a session must not win against the one who takes it away."""
    desk = town.desk
    secret = await desk.portal.passwords.secret("Another1horse")
    change = {"old": PASSWORD, "new": "Thiefs1horse"}
    async with held(desk, town.bob.ask("PUT", "/users/bob/password/", change)) as attempt:
        desk.portal.shelf.commit(*desk.portal.directory.change_secret("bob", secret))
    assert attempt.result().status_code == 409
    assert desk.portal.directory.user("bob").secret == secret


async def test_of_two_first_starts_at_once_one_is_the_first(tmp_path: Path) -> None:
    async with zone(tmp_path) as cloud, portal(tmp_path, cloud) as desk:
        browser = await desk.browser()
        wanted = [{"user": name, "password": PASSWORD, "code": desk.code} for name in ("ann", "eve")]
        answers = await asyncio.gather(*(browser.ask("POST", "/system/", each) for each in wanted))
        assert sorted(answer.status_code for answer in answers) == [200, 409]
        (first,) = desk.portal.directory.users
        await browser.log_in(first)
        page = await browser.data("GET", "/logs/")
        told = [line["content"] for line in page["logs"] if "set the portal up" in line["content"]]
        assert sum("failed" not in line and first in line for line in told) == 1
        assert all(first in line or "failed" in line for line in told[:1])


async def test_news_are_judged_by_what_is_allowed_when_they_come(town: Town) -> None:
    """And not by what was allowed when they began to be waited for."""
    desk = town.desk
    await town.bob.data("PUT", "/resource_visibilities/", {"instance_visible": True})
    async with socket(desk, town.ben, "/live/") as ben, socket(desk, town.bob, "/live/") as bob:
        for live in (ben, bob):
            await live.send("{}")
            await until(live, "found")
        await town.bob.data("POST", f"/instances/{town.guest}", {})
        for live in (ben, bob):
            await until(live, "task", subject=town.guest, state="done")
        await town.bob.data("PUT", "/resource_visibilities/", {})
        await town.bob.data("DELETE", f"/instances/{town.guest}", {"force": True})
        await until(bob, "status", power="stopped")
        own = await created(desk, town.ben, "own")
        told = await ben.recv()
        while own not in str(told):
            assert not (town.guest in str(told) and "stop" in str(told))
            told = await ben.recv()


async def test_a_session_that_has_ended_hears_nothing_more(town: Town) -> None:
    desk = town.desk
    async with socket(desk, town.bob, "/live/") as live:
        await live.send("{}")
        await until(live, "found")
        await town.bob.data("DELETE", "/session/")
        await town.ann.data("POST", f"/instances/{town.guest}", {})
        with pytest.raises(ConnectionClosed) as closed:
            await until(live, "task")
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4401


async def test_lines_are_shown_although_the_clock_was_set_back(town: Town) -> None:
    """As it is every autumn: ids go on from the last one, which lies an hour ahead."""
    town.desk.portal.log._clock_ns = lambda: time.time_ns() + 3600 * 10**9
    await town.bob.data("POST", "/logs/", {"content": "before"})
    town.desk.portal.log._clock_ns = time.time_ns
    await town.bob.data("POST", "/logs/", {"content": "behind"})
    told = await lines(town)
    assert [line.rpartition(": ")[2] for line in told[:2]] == ["behind", "before"]


# ------------------------------------------------------------------ who takes everything


async def test_a_subject_that_is_gone_does_not_silence_the_others(town: Town) -> None:
    """The gateway refuses a stream of samples when one of its subjects is not there."""
    async with socket(town.desk, town.ann, "/live/") as live:
        await live.send(json.dumps({"samples": ["zone", NOBODYS]}))
        assert (await until(live, "sample"))["id"] == "zone"


async def test_one_users_pages_leave_room_for_others(town: Town) -> None:
    town.desk.portal.lives = Room("live streams", 1000, 2)
    async with socket(town.desk, town.cid, "/live/"), socket(town.desk, town.cid, "/live/"):
        with pytest.raises(InvalidStatus) as refused:
            async with socket(town.desk, town.cid, "/live/", (), **PROBLEM):
                pass
        assert refused.value.response.status_code == 429
        async with socket(town.desk, town.bob, "/live/") as live:
            await live.send("{}")
            await until(live, "hello")


async def test_a_stranger_sends_no_long_body(town: Town) -> None:
    stranger = await town.desk.browser()
    login = {"user": "ann", "password": "x" * STRANGERS_BYTES}
    for method, path in (("POST", "/sessions/"), ("POST", "/system/")):
        problem = await stranger.refused(method, path, login)
        assert (problem["status"], problem["field"]) == (400, "body")
