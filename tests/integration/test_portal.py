"""The portal at its real door, in front of a whole zone: first start, sessions, instances from the
browser."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from nano.model.ids import TaskId
from services.portal.sessions import LIFE_S
from tests.support.portal import PASSWORD, PATIENCE_S, Browser, Desk, portal
from tests.support.zone import Zone, zone


@pytest.fixture
async def cloud(tmp_path: Path) -> AsyncIterator[Zone]:
    async with zone(tmp_path) as made:
        yield made


@pytest.fixture
async def desk(tmp_path: Path, cloud: Zone) -> AsyncIterator[Desk]:
    async with portal(tmp_path, cloud) as made:
        yield made


async def creation(browser: Browser, name: str = "web", **more: object) -> dict[str, Any]:
    """What the page sends to create an instance."""
    templates = await browser.data("GET", "/templates/")
    return {
        "name": name,
        "pool": "default",
        "cores": 1,
        "memory": 256 << 20,
        "disks": [1 << 30],
        "template": templates[0]["id"],
        **more,
    }


async def created(desk: Desk, browser: Browser, name: str = "web") -> str:
    """The id of an instance that is there whole, and that the portal knows."""
    answer = await browser.ask("POST", "/guests/", await creation(browser, name))
    assert answer.status_code == 202, answer.text
    guest: str = answer.json()["data"]["id"]
    gateway, task = desk.zone.gateway, TaskId(answer.headers["nano-task"])
    assert await gateway.bell.until(lambda: gateway.view.tasks[task].state.ended, PATIENCE_S)
    await desk.until(lambda: desk.portal.owners.is_here(guest))
    return guest


# ------------------------------------------------------------------ first start


async def test_the_first_user_needs_the_code_and_gets_everything(desk: Desk) -> None:
    browser = await desk.browser()
    before = await browser.data("GET", "/system/")
    assert (before["ready"], before["code_required"], before["max_cores"]) == (False, True, 24)
    first = {"user": "ann", "password": PASSWORD, "code": "ABCD-EFGH"}
    assert (await browser.refused("POST", "/system/", first))["field"] == "code"
    weak = {"user": "ann", "password": "short1A", "code": desk.code}
    assert (await browser.refused("POST", "/system/", weak))["field"] == "password"
    code = desk.code.lower().replace("-", " ")  # as a person might type it
    await browser.data("POST", "/system/", {"user": "ann", "password": PASSWORD, "code": code})
    assert (await browser.data("GET", "/system/"))["ready"] is True
    assert not (desk.folder / "portal" / "first-start-code").exists()
    assert (await browser.refused("POST", "/system/", first))["code"] == "conflict"
    session = await browser.log_in("ann")
    assert (session["group"], session["timeout"], len(session["menu"])) == ("admin", 180, 12)
    who = await browser.data("GET", "/session/")
    assert (who["user"], who["operator"]) == ("ann", True)


async def test_guessing_the_code_is_slowed_down(desk: Desk) -> None:
    browser = await desk.browser()
    wrong = {"user": "ann", "password": PASSWORD, "code": "ABCD-EFGH"}
    for _ in range(5):
        assert (await browser.refused("POST", "/system/", wrong))["field"] == "code"
    answer = await browser.ask("POST", "/system/", wrong)
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) >= 1
    right = {"user": "ann", "password": PASSWORD, "code": desk.code}
    assert (await browser.refused("POST", "/system/", right))["status"] == 429
    desk.clock.added_s += 1000
    await browser.data("POST", "/system/", right)


# ------------------------------------------------------------------ sessions


async def test_a_session_is_a_cookie_that_scripts_cannot_read_or_the_documented_header(desk: Desk) -> None:
    await desk.first_user("ann")
    browser = await desk.browser()
    answer = await browser.ask("POST", "/sessions/", {"user": "ann", "password": PASSWORD})
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("__Host-nano-session=")
    assert {"HttpOnly", "SameSite=Strict", "Secure", "Path=/"} <= set(cookie.split("; "))
    old_client = await desk.browser(**{"nano-session": answer.json()["data"]["session"]})
    assert (await old_client.data("GET", "/session/"))["user"] == "ann"


async def test_a_session_ends_180_s_behind_its_last_keep_alive(desk: Desk) -> None:
    ann = await desk.first_user("ann")
    desk.clock.added_s += LIFE_S - 10
    await ann.data("PUT", "/session/")
    desk.clock.added_s += LIFE_S - 10
    await ann.data("GET", "/tasks/")  # does not extend it
    desk.clock.added_s += 20
    ended = await ann.refused("GET", "/tasks/")
    assert (ended["status"], ended["code"]) == (401, "untrusted")
    await ann.log_in("ann")
    await ann.data("GET", "/tasks/")


async def test_whoever_logs_out_is_out(desk: Desk) -> None:
    ann = await desk.first_user("ann")
    answer = await ann.ask("DELETE", "/session/")
    assert "Max-Age=0" in answer.headers["set-cookie"]
    assert (await ann.refused("GET", "/session/"))["status"] == 401


async def test_a_new_password_ends_the_other_sessions(desk: Desk) -> None:
    ann = await desk.first_user("ann")
    elsewhere = await desk.browser("ann")
    wrong = {"old": "Wrong1horse", "new": "Another1horse"}
    assert (await ann.refused("PUT", "/users/ann/password/", wrong))["field"] == "old"
    await ann.data("PUT", "/users/ann/password/", {"old": PASSWORD, "new": "Another1horse"})
    assert (await elsewhere.refused("GET", "/session/"))["status"] == 401
    await ann.data("GET", "/session/")
    assert (await elsewhere.refused("POST", "/sessions/", {"user": "ann", "password": PASSWORD}))[
        "status"
    ] == 401
    await elsewhere.log_in("ann", "Another1horse")


async def test_an_unknown_user_and_a_wrong_password_are_told_the_same_and_slowed_down(desk: Desk) -> None:
    await desk.first_user("ann")
    browser = await desk.browser()
    unknown = await browser.refused("POST", "/sessions/", {"user": "eve", "password": PASSWORD})
    for _ in range(5):
        wrong = await browser.refused("POST", "/sessions/", {"user": "ann", "password": "Wrong1horse"})
    assert (unknown["status"], unknown["detail"]) == (wrong["status"], wrong["detail"])
    late = await browser.refused("POST", "/sessions/", {"user": "ann", "password": PASSWORD})
    assert late["status"] == 429
    desk.clock.added_s += 1000
    await browser.log_in("ann")


async def test_a_change_of_rights_counts_for_sessions_that_are_open(desk: Desk) -> None:
    ann = await desk.first_user("ann")
    bob = await desk.user(ann, "bob", "red", "instance", "dashboard")
    await bob.data("GET", "/compute_zone_status/")
    await ann.data("PUT", "/roles/of-red", {"menu": ["instance"]})
    assert (await bob.refused("GET", "/compute_zone_status/"))["status"] == 403
    await ann.data("DELETE", "/user_groups/red/members/bob")
    assert (await bob.refused("GET", "/templates/"))["status"] == 401


# ------------------------------------------------------------------ instances


async def test_an_instance_from_the_browser(desk: Desk) -> None:
    ann = await desk.first_user("ann")
    guest = await created(desk, ann)
    shown = await ann.data("GET", f"/guests/{guest}")
    assert (shown["name"], shown["owner"], shown["group"]) == ("admin.web", "ann", "admin")
    found = await ann.data("POST", "/search/guests/", {"limit": 20})
    assert [each["id"] for each in found["result"]] == [guest]
    (task,) = (await ann.data("GET", f"/tasks/?subject={guest}"))["tasks"]
    assert (await ann.data("GET", f"/tasks/{task['id']}"))["state"] == "done"
    await ann.data("POST", f"/instances/{guest}", {})
    assert (await ann.data("GET", f"/guests/{guest}"))["running"]
    await ann.data("DELETE", f"/instances/{guest}", {"force": True})
    await ann.data("DELETE", f"/guests/{guest}", {})
    assert (await ann.refused("GET", f"/guests/{guest}"))["status"] == 404


async def test_what_is_wrong_is_told_by_its_field(desk: Desk) -> None:
    ann = await desk.first_user("ann")
    wanted = await creation(ann)
    for change, field in (
        ({"name": "a b"}, "name"),
        ({"cores": -1}, "cores"),
        ({"pool": "nope"}, "pool"),
        ({"template": "nope"}, "template"),
        ({"from_image": "nope"}, "from_image"),
        ({"disks": "1"}, "disks"),
    ):
        problem = await ann.refused("POST", "/guests/", wanted | change)
        assert problem["field"] == field, problem


async def test_one_key_of_two_users_is_two_requests(desk: Desk) -> None:
    ann = await desk.first_user("ann")
    bob = await desk.user(ann, "bob", "red", "instance")
    key = {"idempotency-key": "the-same"}
    first = await ann.ask("POST", "/guests/", await creation(ann), key)
    again = await ann.ask("POST", "/guests/", await creation(ann), key)
    other = await bob.ask("POST", "/guests/", await creation(bob), key)
    ids = [answer.json()["data"]["id"] for answer in (first, again, other)]
    assert ids[0] == ids[1]
    assert ids[2] not in ids[:2]


async def test_an_image_passes_both_ways_piece_by_piece(desk: Desk) -> None:
    ann = await desk.first_user("ann")
    image = (await ann.data("POST", "/disk_images/", {"name": "base"}))["id"]
    content = b"\x55\xaa".rjust(512, b"\0") + bytes(3 << 20)
    sent = await ann.client.post(
        f"/api/v1/disk_images/{image}/file/", files={"image": ("i", content, "application/octet-stream")}
    )
    assert sent.json()["error_code"] == 0, sent.text
    got = await ann.client.get(f"/api/v1/disk_images/{image}/file/")
    assert got.content == content
    part = await ann.client.get(f"/api/v1/disk_images/{image}/file/", headers={"range": "bytes=510-511"})
    assert (part.status_code, part.content) == (206, b"\x55\xaa")
    (listed,) = await ann.data("GET", "/disk_image_search/")
    assert (listed["id"], listed["owner"]) == (image, "ann")


# ------------------------------------------------------------------ live


def socket(
    desk: Desk, browser: Browser, path: str, subprotocols: Sequence[Subprotocol] = (), **headers: str
) -> Any:
    """A websocket of a browser: its cookies go with it."""
    cookies = "; ".join(f"{name}={value}" for name, value in browser.client.cookies.items())
    return connect(
        desk.url.replace("https", "wss") + "/api/v1" + path,
        ssl=desk.trust,
        additional_headers={"cookie": cookies} | headers,
        subprotocols=subprotocols or None,
        proxy=None,
    )


async def until(live: ClientConnection, kind: str, **wanted: object) -> dict[str, Any]:
    """The next message of that kind with these members in its document."""
    async with asyncio.timeout(10):
        while True:
            message: dict[str, Any] = json.loads(await live.recv())
            document = message["document"] or {}
            if message["kind"] == kind and all(document.get(name) == value for name, value in wanted.items()):
                return message


async def test_a_page_hears_what_changes_and_goes_on_where_it_was(desk: Desk) -> None:
    ann = await desk.first_user("ann")
    await desk.until(lambda: desk.portal.feed.is_heard)
    async with socket(desk, ann, "/live/") as live:
        await live.send("{}")
        hello = await until(live, "hello")
        await until(live, "found")
        guest = await created(desk, ann)
        await until(live, "instance", id=guest)
        done = await until(live, "task", subject=guest, state="done")
    await ann.data("POST", f"/instances/{guest}", {})
    async with socket(desk, ann, "/live/") as live:
        await live.send(json.dumps({"since": done["cursor"]}))
        assert (await until(live, "status", power="running"))["id"] == guest
    async with socket(desk, ann, "/live/") as live:
        await live.send(json.dumps({"since": "of another life"}))
        assert (await until(live, "reread"))["cursor"] != hello["cursor"]


async def test_live_ends_with_its_session(desk: Desk) -> None:
    ann = await desk.first_user("ann")
    async with socket(desk, ann, "/live/") as live:
        await live.send("{}")
        await until(live, "hello")
        await ann.data("DELETE", "/session/")
        async with asyncio.timeout(20):
            await live.wait_closed()
        assert live.close_code == 4401


@pytest.mark.parametrize("first", ["", "[]", "{", '{"samples": 1}', json.dumps({"samples": ["x"] * 65})])
async def test_a_page_that_says_what_cannot_be_meant_is_closed(desk: Desk, first: str) -> None:
    ann = await desk.first_user("ann")
    async with socket(desk, ann, "/live/") as live:
        await live.send(first)
        with pytest.raises(ConnectionClosed):
            await live.recv()
        assert live.close_code == 1007


async def test_live_without_a_session_is_closed_and_a_page_can_read_why(desk: Desk) -> None:
    ann = await desk.first_user("ann")
    await ann.data("DELETE", "/session/")
    ended = await desk.browser(**{"nano-session": "00000000-0000-4000-8000-000000000000"})
    for browser in (await desk.browser(), ann, ended):
        async with socket(desk, browser, "/live/", (), **browser.headers) as live:
            async with asyncio.timeout(10):
                await live.wait_closed()
            assert live.close_code == 4401


async def test_live_is_for_our_own_pages(desk: Desk) -> None:
    ann = await desk.first_user("ann")
    evil = {"origin": "https://evil.example.org", "accept": "application/problem+json"}
    with pytest.raises(InvalidStatus) as refused:
        async with socket(desk, ann, "/live/", (), **evil):
            pass
    assert refused.value.response.status_code == 403


async def test_a_lost_gateway_is_said_and_found_again(desk: Desk, cloud: Zone) -> None:
    """Its streams break off; what is asked meanwhile is an error that says so."""
    ann = await desk.first_user("ann")
    await desk.until(lambda: desk.portal.feed.is_heard)
    async with socket(desk, ann, "/live/") as live:
        await live.send("{}")
        await until(live, "found")
        right, desk.portal.upstream.url = desk.portal.upstream.url, "http://127.0.0.1:9"
        desk.portal.upstream._http.base_url = "http://127.0.0.1:9"
        cloud.gateway.is_stopping = True
        cloud.gateway.bell.ring()
        await until(live, "lost")
        problem = await ann.refused("POST", "/search/guests/", {})
        assert (problem["status"], problem["code"]) == (503, "unreachable")
        cloud.gateway.is_stopping = False
        desk.portal.upstream.url = right
        desk.portal.upstream._http.base_url = right
        await until(live, "found")
    await ann.data("POST", "/search/guests/", {})
