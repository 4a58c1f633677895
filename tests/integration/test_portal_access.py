"""Who may and who sees, at the portal's real door: each route, each way around."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from services.gateway.app import ROUTES as GATEWAY_ROUTES
from services.portal.app import ROUTES
from services.portal.call import Route
from services.portal.routes.forwarded import NOT_FORWARDED
from tests.integration.test_portal import created, creation, socket, until
from tests.support.portal import PASSWORD, Browser, Desk, portal
from tests.support.zone import Zone, zone

NOBODYS = "00000000-0000-4000-8000-000000000000"


@dataclass
class Town:
    """Ann runs the zone. Bob and Ben are of red, which shares nothing; Cid is of blue. None has no menu."""

    desk: Desk
    cloud: Zone
    ann: Browser
    bob: Browser
    ben: Browser
    cid: Browser
    none: Browser
    guest: str
    """Bob's."""


@pytest.fixture
async def town(tmp_path: Path) -> AsyncIterator[Town]:
    async with zone(tmp_path) as cloud, portal(tmp_path, cloud) as desk:
        ann = await desk.first_user("ann")
        people = ("instance", "image", "media", "visibility")
        bob, ben = [await desk.user(ann, name, "red", *people) for name in ("bob", "ben")]
        cid = await desk.user(ann, "cid", "blue", *people)
        none = await desk.user(ann, "none", "grey")
        await desk.until(lambda: desk.portal.feed.is_heard)
        yield Town(desk, cloud, ann, bob, ben, cid, none, await created(desk, bob))


def path_of(route: Route, guest: str = NOBODYS) -> str:
    path = route.path.replace("*", "")
    for name in ("pool", "cell", "type", "start", "user", "group", "role", "session"):
        path = path.replace("{" + name + "}", "default")
    return path.replace("{id}", guest)


# ------------------------------------------------------------------ every route


async def test_no_route_answers_without_a_session_but_those_that_say_so(town: Town) -> None:
    stranger = await town.desk.browser()
    is_open = set()
    for route in ROUTES:
        answer = await stranger.ask(route.method, path_of(route), {})
        if answer.status_code != 401:
            is_open.add((route.method, route.path))
    documented = {
        ("GET", "/system/"),
        ("POST", "/system/"),
        ("POST", "/sessions/"),
        ("GET", "/monitor_channels/{id}"),  # by a channel: test_portal_console.py
        ("GET", "/live/"),  # closed with 4401: test_portal.py
    }
    assert is_open == documented == {(route.method, route.path) for route in ROUTES if route.is_open}


async def test_no_route_that_needs_a_menu_answers_without_it(town: Town) -> None:
    for route in ROUTES:
        if route.menus:
            problem = await town.none.refused(route.method, path_of(route), {})
            assert problem["status"] == 403, (route, problem)


async def test_every_route_of_the_gateway_has_a_row_or_a_reason() -> None:
    rows = {(route.method, route.path) for route in ROUTES}
    missing = {
        (route.method, route.path)
        for route in GATEWAY_ROUTES
        if (route.method, route.path) not in rows | NOT_FORWARDED.keys()
    }
    assert missing == set()


async def test_no_route_about_an_instance_answers_those_who_do_not_see_it(town: Town) -> None:
    """As if there were none: neither its name nor that it exists is told."""
    for route in ROUTES:
        if not route.path.startswith(("/guests/{id}", "/instances/{id}")):
            continue
        hidden = await town.cid.refused(route.method, path_of(route, town.guest), {})
        unknown = await town.cid.refused(route.method, path_of(route), {})
        assert hidden["status"] == unknown["status"] == 404, route
        assert hidden["detail"].replace(town.guest, NOBODYS) == unknown["detail"]
    assert (await town.bob.data("GET", f"/guests/{town.guest}"))["created"]


# ------------------------------------------------------------------ ways around


async def test_a_search_finds_ones_own_whatever_it_asks_for(town: Town) -> None:
    for body in (
        {},
        {"owner": "bob"},
        {"Owner": "bob", "OWNER": "bob"},
        {"group": "red"},
        {"all": False, "ALL": True},
        {"AlL": False, "keyword": ""},
    ):
        found = await town.cid.data("POST", "/search/guests/", body)
        assert found["result"] == [], body
    assert (await town.cid.refused("POST", "/search/guests/", {"all": True}))["status"] == 403
    assert (await town.cid.refused("POST", "/search/guests/", {"ALL": True}))["status"] == 403
    assert (await town.ann.data("POST", "/search/guests/", {"all": True}))["total"] == 1
    assert (await town.ann.data("POST", "/search/guests/", {}))["total"] == 0


async def test_a_query_finds_ones_own_whatever_it_asks_for(town: Town) -> None:
    for query in ("owner=bob", "group=red", "owner=bob&owner=cid", "Owner=bob&GROUP=red", "%6fwner=bob"):
        assert await town.cid.data("GET", f"/guest_search/?pool=default&{query}") == [], query
    assert len(await town.bob.data("GET", "/guest_search/?pool=default")) == 1
    assert (await town.cid.refused("GET", "/disk_image_search/?all=true"))["status"] == 403


async def test_what_a_group_shares_its_members_see_and_others_do_not(town: Town) -> None:
    assert (await town.ben.data("POST", "/search/guests/", {}))["total"] == 0
    assert (await town.ben.refused("GET", f"/guests/{town.guest}"))["status"] == 404
    await town.bob.data("PUT", "/resource_visibilities/", {"instance_visible": True})
    assert (await town.ben.data("POST", "/search/guests/", {}))["total"] == 1
    assert (await town.ben.data("GET", f"/guests/{town.guest}"))["owner"] == "bob"
    assert len(await town.ben.data("GET", "/instance_status/default")) == 1
    assert await town.cid.data("GET", "/instance_status/default") == []
    assert (await town.cid.refused("GET", f"/guests/{town.guest}"))["status"] == 404


async def test_only_an_operator_has_an_instance_forgotten(town: Town) -> None:
    """The zone itself would refuse it here, since the cell is there: 409 says that it was asked."""
    await town.bob.data("PUT", "/resource_visibilities/", {"instance_visible": True})
    for browser in (town.bob, town.ben):
        for body in ({"forget": True}, {"FORGET": True}, {"forget": None, "Forget": True}, {"forget": 1}):
            problem = await browser.refused("DELETE", f"/guests/{town.guest}", body)
            assert (problem["status"], problem["field"]) == (403, "forget"), body
    ann = town.ann
    assert (await ann.refused("DELETE", f"/guests/{town.guest}", {"Forget": True}))["status"] == 409
    told = await lines(town)
    assert {line.split(" : ")[1] for line in told if "forget instance" in line} == {"forget instance red.web"}
    assert sum(" : failed: " in line and "forget instance" in line for line in told) == 9
    assert not any("delete instance" in line for line in told)
    await town.bob.data("DELETE", f"/guests/{town.guest}", {"forget": False})
    assert (await lines(town))[0].endswith("delete instance red.web")


async def test_nobody_creates_in_anothers_name(town: Town) -> None:
    wanted = await creation(town.cid)
    for change, field in (({"owner": "bob"}, "owner"), ({"GROUP": "red"}, "group")):
        problem = await town.cid.refused("POST", "/guests/", wanted | change)
        assert (problem["status"], problem["field"]) == (403, field)
    given = await town.ann.ask("POST", "/guests/", wanted | {"owner": "bob", "group": "red", "name": "given"})
    shown = await town.bob.data("GET", f"/guests/{given.json()['data']['id']}")
    assert (shown["name"], shown["owner"]) == ("red.given", "bob")


async def test_an_image_of_another_is_not_cloned_not_read_and_not_changed(town: Town) -> None:
    image = (await town.bob.data("POST", "/disk_images/", {"name": "secret"}))["id"]
    wanted = await creation(town.cid, from_image=image)
    assert (await town.cid.refused("POST", "/guests/", wanted))["field"] == "from_image"
    for method, path, body in (
        ("GET", f"/disk_images/{image}", None),
        ("PUT", f"/disk_images/{image}", {"name": "mine"}),
        ("DELETE", f"/disk_images/{image}", None),
        ("GET", f"/disk_images/{image}/file/", None),
        ("POST", f"/disk_images/{image}/file/", {}),
    ):
        assert (await town.cid.refused(method, path, body))["status"] == 404, (method, path)
    assert (await town.bob.refused("PUT", f"/disk_images/{image}", {"owner": "cid"}))["field"] == "owner"
    assert await town.cid.data("GET", "/disk_image_search/") == []
    assert (await town.bob.data("GET", f"/disk_images/{image}"))["name"] == "secret"


async def test_tasks_are_shown_to_those_they_concern(town: Town) -> None:
    (task,) = (await town.bob.data("GET", "/tasks/"))["tasks"]
    assert (await town.cid.data("GET", "/tasks/")) == {"tasks": [], "total": 0}
    for method in ("GET", "DELETE"):
        assert (await town.cid.refused(method, f"/tasks/{task['id']}"))["status"] == 404
    assert (await town.ann.data("GET", "/tasks/"))["total"] == 1


async def test_tasks_are_paged_behind_what_is_seen(town: Town) -> None:
    for name in ("a", "b", "c"):
        await created(town.desk, town.cid, name)
        await created(town.desk, town.bob, name)
    page = await town.cid.data("GET", "/tasks/?offset=1&limit=1")
    assert (page["total"], len(page["tasks"])) == (3, 1)


async def test_live_tells_each_their_own(town: Town) -> None:
    async with socket(town.desk, town.cid, "/live/") as live:
        await live.send(json.dumps({"samples": ["zone", town.guest]}))
        await until(live, "hello")
        hidden = await created(town.desk, town.bob, "hidden")
        shown = await created(town.desk, town.cid, "shown")
        seen: list[dict[str, Any]] = []
        while not any(each["id"] == shown and each["kind"] == "instance" for each in seen):
            seen.append(json.loads(await live.recv()))
        assert hidden not in json.dumps(seen)
        assert not any(each["kind"] == "sample" for each in seen)


async def test_a_part_of_a_path_stays_one(town: Town) -> None:
    for path in (
        f"/guests/..%2F..%2Ftasks%2F{NOBODYS}",
        "/compute_pools/%2e%2e",
        "/tasks/..%2Fevents%2F",
        "/templates/%2e",
    ):
        answer = await town.bob.ask("GET", path)
        assert answer.status_code in {301, 400, 403, 404}, (path, answer.text)


# ------------------------------------------------------------------ users


async def test_users_are_managed_by_those_with_the_menu_only(town: Town) -> None:
    await town.ann.data("POST", "/users/dan", {"password": PASSWORD, "nick": "Dan"})
    assert (await town.bob.refused("PUT", "/users/dan/password/", {"new": "Another1horse"}))["status"] == 403
    await town.ann.data("PUT", "/users/dan/password/", {"new": "Another1horse"})
    dan = await town.desk.browser()
    no_group = await dan.refused("POST", "/sessions/", {"user": "dan", "password": "Another1horse"})
    assert no_group["status"] == 403
    assert (await town.ann.data("GET", "/users/dan"))["nick"] == "Dan"
    assert await town.ann.data("GET", "/user_search/?group=red") == ["ben", "bob"]
    assert await town.ann.data("GET", "/user_search/") == ["dan"]
    assert (await town.ann.refused("DELETE", "/users/ann"))["status"] == 403
    await town.ann.data("DELETE", "/users/bob")
    assert (await town.bob.refused("GET", "/session/"))["status"] == 401


async def test_sessions_are_listed_without_what_would_open_them(town: Town) -> None:
    labels = await town.ann.data("GET", "/sessions/")
    assert len(labels) == 5
    cookies = {value for browser in (town.ann, town.bob) for value in browser.client.cookies.values()}
    assert not cookies & set(labels)
    for label in labels:
        stranger = await town.desk.browser(**{"nano-session": label})
        assert (await stranger.refused("GET", "/session/"))["status"] == 401
    assert (await town.bob.refused("GET", "/sessions/"))["status"] == 403


async def test_a_page_of_another_site_changes_nothing(town: Town) -> None:
    for headers in ({"sec-fetch-site": "cross-site"}, {"origin": "https://evil.example.org"}):
        answer = await town.bob.ask("DELETE", f"/guests/{town.guest}", {}, headers)
        assert answer.status_code == 403
        login = {"user": "bob", "password": PASSWORD}
        assert (await town.bob.ask("POST", "/sessions/", login, headers)).status_code == 403
    assert (await town.bob.data("GET", f"/guests/{town.guest}"))["created"]


# ------------------------------------------------------------------ the operation log


async def lines(town: Town) -> list[str]:
    page = await town.ann.data("GET", "/logs/?limit=100")
    return [line["content"] for line in page["logs"]]


async def test_the_server_writes_who_did_what_to_whom(town: Town) -> None:
    await town.bob.data("POST", f"/instances/{town.guest}", {})
    await town.bob.data("DELETE", f"/instances/{town.guest}", {"force": True})
    assert (await town.bob.refused("POST", "/guests/", await creation(town.bob) | {"pool": "x"}))["status"]
    assert (await town.cid.refused("DELETE", f"/guests/{town.guest}", {}))["status"] == 404
    told = await lines(town)
    where = "(127.0.0.1) : "
    assert f"red.bob{where}start instance red.web" in told
    assert f"red.bob{where}switch off instance red.web" in told
    assert any(line.startswith(f"red.bob{where}create instance web : failed: ") for line in told)
    assert f"blue.cid{where}delete instance {town.guest}" in told  # they were not told its name
    assert any(
        line.startswith(f"blue.cid{where}delete instance {town.guest} : failed: there is no guest")
        for line in told
    )


async def test_whom_an_operator_lets_in_is_told_and_not_by_which_secret(town: Town) -> None:
    made = await town.ann.data("POST", "/join_tokens/", {"Role": "gateway", "id": "g2"})
    await town.ann.data("POST", "/join_tokens/", {})
    await town.ann.refused("POST", "/authority/", {"leave_behind": True})
    told = "\n".join(await lines(town))
    assert "make a join token for gateway/g2" in told
    assert "make a join token for cell/*" in told
    assert "rotate the authority of the zone, leaving behind who is away" in told
    assert made["token"] not in told


async def test_logins_and_failed_logins_are_told(town: Town) -> None:
    stranger = await town.desk.browser()
    await stranger.refused("POST", "/sessions/", {"user": "bob\nforged", "password": "x"})
    told = await lines(town)
    assert any(line.startswith("'bob\\nforged'(127.0.0.1) : failed to log in") for line in told)
    assert "red.bob(127.0.0.1) : logged in" in told


async def test_what_a_client_notes_cannot_be_taken_for_ours(town: Town) -> None:
    await town.bob.data("POST", "/logs/", {"content": "admin.ann(10.0.0.1) : delete everything"})
    assert (await lines(town))[0] == "red.bob(127.0.0.1) : noted: admin.ann(10.0.0.1) : delete everything"
    assert (await town.bob.refused("GET", "/logs/"))["status"] == 403


async def test_a_removal_of_lines_is_a_line(town: Town) -> None:
    page = await town.ann.data("GET", "/logs/?limit=1")
    entry = page["logs"][0]["id"]
    assert (await town.bob.refused("DELETE", "/logs/", {"entries": [entry]}))["status"] == 403
    await town.ann.data("DELETE", "/logs/", {"entries": [entry]})
    assert (await lines(town))[0].endswith(f"remove 1 lines of the operation log: {entry}")


async def test_no_secret_is_in_any_log_or_file(
    town: Town, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    secrets = {PASSWORD, town.cloud.credential.key}
    for browser in (town.ann, town.bob, town.ben, town.cid):
        secrets |= set(browser.client.cookies.values())
    printed = "".join(capfd.readouterr())
    kept = "".join(path.read_text() for path in (tmp_path / "portal" / "log").rglob("*.log"))
    book = "".join(path.read_text() for path in (tmp_path / "portal" / "shelf").rglob("*.json*"))
    for secret in secrets:
        assert secret not in printed + kept + book
