"""Consoles through the portal: what opens one, what refuses it, and what ends it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from services.portal.channels import LIFE_S
from tests.integration.test_portal import created, socket
from tests.support.consoles import PROTOCOLS, rfb
from tests.support.portal import PASSWORD, Browser, Desk, portal
from tests.support.zone import zone


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with zone(tmp_path) as cloud, portal(tmp_path, cloud) as made:
        yield made


async def running(desk: Desk, browser: Browser) -> str:
    guest = await created(desk, browser)
    await browser.data("POST", f"/instances/{guest}", {})
    return guest


async def channel(browser: Browser, guest: str) -> str:
    token: dict[str, Any] = await browser.data("POST", "/monitor_channels/", {"guest": guest})
    assert (token["protocol"], token["username"], token["password"]) == ("vnc", "", "")
    return str(token["id"])


def console(desk: Desk, browser: Browser, key: str, **headers: str) -> Any:
    path = f"/monitor_channels/{key}"
    return socket(desk, browser, path, subprotocols=PROTOCOLS, accept="application/problem+json", **headers)


async def refused(desk: Desk, browser: Browser, key: str, **headers: str) -> int:
    with pytest.raises(InvalidStatus) as refusal:
        async with console(desk, browser, key, **headers):
            pass
    return int(refusal.value.response.status_code)


async def test_a_browser_sees_the_screen_and_types(desk: Desk) -> None:
    ann = await desk.first_user("ann")
    guest = await running(desk, ann)
    async with console(desk, ann, await channel(ann, guest)) as opened:
        assert opened.subprotocol == "binary"
        client = rfb(opened)
        await client.shake_hands()
        assert client.name == "web (simulated)"
        await client.ask()
        (before,) = await client.update()
        await client.ask(incremental=True)
        await client.press("hello")
        (after,) = await client.update()
        assert after.y > before.y


async def test_a_channel_is_good_once_and_for_15_seconds(desk: Desk) -> None:
    ann = await desk.first_user("ann")
    guest = await running(desk, ann)
    key, late = await channel(ann, guest), await channel(ann, guest)
    async with console(desk, ann, key):
        assert await refused(desk, ann, key) == 404
    desk.clock.added_s += LIFE_S
    assert await refused(desk, ann, late) == 404
    assert await refused(desk, ann, "00000000-0000-4000-8000-000000000000") == 404


async def test_a_channel_is_good_for_the_session_that_asked(desk: Desk) -> None:
    ann = await desk.first_user("ann")
    bob = await desk.user(ann, "bob", "red", "instance", "compute_pool")
    guest = await running(desk, ann)
    assert await refused(desk, bob, await channel(ann, guest)) == 403
    assert await refused(desk, await desk.browser(), await channel(ann, guest)) == 403
    ended = await channel(ann, guest)
    await ann.data("DELETE", "/session/")
    assert await refused(desk, ann, ended) in {401, 403}


async def test_a_page_of_another_site_opens_none(desk: Desk) -> None:
    ann = await desk.first_user("ann")
    guest = await running(desk, ann)
    assert await refused(desk, ann, await channel(ann, guest), origin="https://evil.example.org") == 403


async def test_an_old_client_opens_one_with_the_channel_alone(desk: Desk) -> None:
    """Browsers cannot send the documented header with a websocket, so old pages have nothing but the id."""
    ann = await desk.first_user("ann")
    guest = await running(desk, ann)
    stranger = await desk.browser()
    session = (await stranger.data("POST", "/sessions/", {"user": "ann", "password": PASSWORD}))["session"]
    stranger.client.cookies.clear()
    old = await desk.browser(**{"nano-session": session})
    async with console(desk, stranger, await channel(old, guest)) as opened:
        await rfb(opened).shake_hands()


async def test_nobody_looks_at_what_they_do_not_see_or_what_is_off(desk: Desk) -> None:
    ann = await desk.first_user("ann")
    cid = await desk.user(ann, "cid", "blue", "instance")
    guest = await running(desk, ann)
    assert (await cid.refused("POST", "/monitor_channels/", {"guest": guest}))["status"] == 404
    none = await desk.user(ann, "none", "grey", "dashboard")
    assert (await none.refused("POST", "/monitor_channels/", {"guest": guest}))["status"] == 403
    await ann.data("DELETE", f"/instances/{guest}", {"force": True})
    off = await ann.refused("POST", "/monitor_channels/", {"guest": guest})
    assert (off["status"], off["field"]) == (409, "guest")


async def test_the_screen_of_a_guest_that_goes_off_ends_well(desk: Desk) -> None:
    ann = await desk.first_user("ann")
    guest = await running(desk, ann)
    async with console(desk, ann, await channel(ann, guest)) as opened:
        await rfb(opened).shake_hands()
        await ann.data("DELETE", f"/instances/{guest}", {"force": True})
        async with asyncio.timeout(10):
            await opened.wait_closed()
        assert (opened.close_code, opened.close_reason) == (1000, "the guest's screen has ended")


async def test_a_console_ends_with_its_session(desk: Desk) -> None:
    ann = await desk.first_user("ann")
    guest = await running(desk, ann)
    async with console(desk, ann, await channel(ann, guest)) as opened:
        await rfb(opened).shake_hands()
        await ann.data("DELETE", "/session/")
        async with asyncio.timeout(20):
            await opened.wait_closed()
        assert opened.close_code == 4401


async def test_whoever_closes_the_browser_closes_the_display(desk: Desk) -> None:
    """The documented server leaves it open until the guest draws something (reference-observed, M18)."""
    ann = await desk.first_user("ann")
    guest = await running(desk, ann)
    async with console(desk, ann, await channel(ann, guest)) as opened:
        await rfb(opened).shake_hands()
    (display,) = desk.zone.displays.opened
    async with asyncio.timeout(10):
        await display.closed.wait()


async def test_no_channel_and_no_ticket_is_in_a_log(
    desk: Desk, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    ann = await desk.first_user("ann")
    guest = await running(desk, ann)
    key = await channel(ann, guest)
    async with console(desk, ann, key) as opened:
        await rfb(opened).shake_hands()
    assert await refused(desk, ann, key) == 404
    kept = "".join(path.read_text() for path in (tmp_path / "portal" / "log").rglob("*.log"))
    assert "open the console of instance admin.web" in kept
    written = "".join(capfd.readouterr()) + caplog.text + kept
    assert key not in written
    assert "/consoles/" not in written
