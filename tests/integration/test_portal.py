"""The portal at its real door, in front of a whole zone: first start, sessions, what each user may and
sees."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.portal import PASSWORD, Browser, Desk, portal
from tests.support.zone import Zone, zone


@pytest.fixture
async def cloud(tmp_path: Path) -> AsyncIterator[Zone]:
    async with zone(tmp_path) as made:
        yield made


@pytest.fixture
async def desk(tmp_path: Path, cloud: Zone) -> AsyncIterator[Desk]:
    async with portal(tmp_path, cloud) as made:
        yield made


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


async def test_an_instance_from_the_browser(desk: Desk, cloud: Zone) -> None:
    ann = await desk.first_user("ann")
    templates = await ann.data("GET", "/templates/")
    wanted = {
        "name": "web",
        "pool": "default",
        "cores": 1,
        "memory": 256 << 20,
        "disks": [1 << 30],
        "template": templates[0]["id"],
    }
    created = await ann.ask("POST", "/guests/", wanted)
    assert created.status_code == 202, created.text
    assert created.headers["nano-task"]
    guest = created.json()["data"]["id"]
    shown = await ann.data("GET", f"/guests/{guest}")
    assert (shown["name"], shown["owner"], shown["group"]) == ("admin.web", "ann", "admin")
    await desk.until(lambda: desk.portal.owners.is_here(guest))
    found = await ann.data("POST", "/search/guests/", {"limit": 20})
    assert [each["id"] for each in found["result"]] == [guest]
    tasks = await ann.data("GET", f"/tasks/?subject={guest}")
    assert tasks["total"] == 1
    assert isinstance(ann, Browser)
