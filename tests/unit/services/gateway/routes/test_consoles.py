"""A console: what opens it, what refuses it, and that both of its sides end together."""

import asyncio
import logging
from pathlib import Path

import msgspec
import pytest
import structlog
from websockets.asyncio.client import ClientConnection

from nano.model.ids import InstanceId, TemplateId
from nano.model.pool import Presence
from nano.model.template import Devices, RemoteControl, Template
from services.gateway.routes import consoles
from services.gateway.tickets import LIFE_S
from services.scheduler.inventory import TemplatePut
from tests.support.consoles import CONSOLES, closed, console, refusal, refused_with, rfb, running, ticket
from tests.support.zone import CELL, Zone, zone

NOT_GOOD = "this console ticket is not good"


async def _shows(socket: ClientConnection) -> None:
    """A screen is there, and shows what is typed."""
    client = rfb(socket)
    await client.shake_hands()
    assert client.name == "vm (simulated)"
    await client.ask()
    (before,) = await client.update()
    await client.ask(incremental=True)
    await client.press("hello")
    (after,) = await client.update()
    assert after.y > before.y
    assert 0 < after.height < before.height


async def _closed_at_the_cell(z: Zone) -> None:
    async with asyncio.timeout(10):
        for display in z.displays.opened:
            await display.closed.wait()
    assert all(display.inner.socket.fileno() == -1 for display in z.displays.opened)  # type: ignore[attr-defined]


async def test_a_browser_sees_the_screen_and_types(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        guest = await running(z)
        async with console(z, CONSOLES + await ticket(z, guest)) as socket:
            assert socket.subprotocol == "binary"
            await _shows(socket)
        await _closed_at_the_cell(z)
        assert z.gateway.consoles == 0


async def test_the_subprotocol_is_chosen_only_when_it_is_offered(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        guest = await running(z)
        async with console(z, CONSOLES + await ticket(z, guest), protocols=None) as socket:
            assert socket.subprotocol is None
            await _shows(socket)


async def test_texts_mean_nothing(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        guest = await running(z)
        async with console(z, CONSOLES + await ticket(z, guest)) as socket:
            await socket.send("RFB 003.003\n")
            await socket.send(b"")
            await _shows(socket)


async def test_a_machine_that_goes_off_closes_the_console(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        guest = await running(z)
        async with console(z, CONSOLES + await ticket(z, guest)) as socket:
            await rfb(socket).shake_hands()
            await z.data("DELETE", f"/instances/{guest}", {"force": True})
            assert await closed(socket) == (1000, "the guest's screen has ended")
        await _closed_at_the_cell(z)


async def test_a_lost_cell_closes_the_console_and_says_so(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        guest = await running(z)
        async with console(z, CONSOLES + await ticket(z, guest)) as socket:
            await rfb(socket).shake_hands()
            z.displays.break_off()
            assert await closed(socket) == (1011, "the link to the cell was lost")
        await _closed_at_the_cell(z)


async def test_a_browser_that_vanishes_closes_the_display(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        guest = await running(z)
        async with console(z, CONSOLES + await ticket(z, guest)) as socket:
            await rfb(socket).shake_hands()
            socket.transport.abort()
            await _closed_at_the_cell(z)


async def test_a_gateway_that_stops_closes_its_consoles(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        guest = await running(z)
        async with console(z, CONSOLES + await ticket(z, guest)) as socket, asyncio.TaskGroup() as jobs:
            await rfb(socket).shake_hands()
            ending = jobs.create_task(closed(socket))
            z.stop()
            assert (await ending)[0] == 1012
            await _closed_at_the_cell(z)


# ------------------------------------------------------------------ refusals


async def test_a_ticket_is_good_once(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        path = CONSOLES + await ticket(z, await running(z))
        async with console(z, path):
            number, text = await refused_with(z, path)
            assert (number, NOT_GOOD in text) == (404, True)
        number, text = await refused_with(z, path)
        assert (number, NOT_GOOD in text) == (404, True)


async def test_a_ticket_is_good_for_fifteen_seconds(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        guest = await running(z)
        now_s = 1000.0
        z.gateway.monotonic_s = lambda: now_s
        late, soon = await ticket(z, guest), await ticket(z, guest)
        now_s += LIFE_S - 0.001
        async with console(z, CONSOLES + soon):
            pass
        now_s += 0.001
        assert (await refused_with(z, CONSOLES + late))[0] == 404


async def test_a_ticket_is_good_for_whoever_asked_and_another_try_spends_it(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        guest = await running(z)
        strangers = (
            {"credential": z.other},
            {"session": "somebody else's"},
            {"credential": z.other, "session": "mine"},
        )
        for stranger in strangers:
            path = CONSOLES + await ticket(z, guest, session="mine")
            how = {"session": "mine", **stranger}
            number, text = await refused_with(z, path, **how)
            assert (number, NOT_GOOD in text) == (404, True), stranger
            assert (await refused_with(z, path, session="mine"))[0] == 404
        async with console(z, CONSOLES + await ticket(z, guest, session="mine"), session="mine"):
            pass


async def test_who_does_not_sign_is_refused_and_spends_nothing(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        path = CONSOLES + await ticket(z, await running(z))
        assert await refused_with(z, path, is_signed=False) == (401, "authorization required")
        assert z.displays.opened == []
        async with console(z, path):
            pass


async def test_garbage_is_refused_as_any_ticket_is(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        for garbage in ("x", "A" * 43, "%2e%2e", "%C3%A4", "-" * 4000):
            number, text = await refused_with(z, CONSOLES + garbage)
            assert (number, NOT_GOOD in text) == (404, True), garbage


async def test_a_refusal_has_its_real_status_for_who_understands_that(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        answer = await refusal(z, CONSOLES + "x", headers={"accept": "application/problem+json"})
        assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")
        problem = msgspec.json.decode(answer.body or b"")
        assert (problem["code"], problem["field"]) == ("not_found", "ticket")


async def test_only_a_guest_that_shows_something_gets_a_ticket(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        assert (await z.error("POST", "/console_tickets/", {"guest": "none"}))[0] == 404
        assert (await z.error("POST", "/console_tickets/", {}))[0] == 404
        guest = await z.guest()
        number, text = await z.error("POST", "/console_tickets/", {"guest": guest})
        assert (number, "start it" in text) == (409, True)
        assert len(z.gateway.tickets) == 0


async def test_a_guest_whose_cell_is_lost_gets_none(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        guest = await running(z)
        path = CONSOLES + await ticket(z, guest)
        z.scheduler.commit(*z.scheduler.book.cell_silent(CELL, Presence.LOST, 9))
        await z.gateway.bell.until(lambda: _is_lost(z), 10)
        number, text = await z.error("POST", "/console_tickets/", {"guest": guest})
        assert (number, "is not reached" in text) == (503, True)
        assert (await refused_with(z, path))[0] == 503


def _is_lost(z: Zone) -> bool:
    return z.gateway.view.cells[CELL].presence is Presence.LOST


async def test_a_display_of_another_kind_is_named(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        devices = Devices(control=RemoteControl.SPICE)
        template = Template(TemplateId("spice"), "spice", "root", devices, 1, 1)
        z.scheduler.commit(TemplatePut(template))
        await z.gateway.bell.until(lambda: template.id in z.gateway.view.templates, 10)
        guest = await z.guest(template=template.id)
        await z.data("POST", f"/instances/{guest}", {})
        number, text = await z.error("POST", "/console_tickets/", {"guest": guest})
        assert (number, "spice" in text) == (501, True)


async def test_a_guest_that_went_off_since_is_refused_with_the_words_of_its_cell(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        guest = await running(z)
        path = CONSOLES + await ticket(z, guest)
        z.cell.sim.crash(InstanceId(guest))
        number, text = await refused_with(z, path)
        assert (number, text) == (409, f"instance {guest} is off and shows nothing: start it")


async def test_a_cell_that_is_not_found_is_an_ordinary_refusal(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        path = CONSOLES + await ticket(z, await running(z))
        z.displays.break_off()
        assert (await refused_with(z, path))[0] == 503


async def test_consoles_are_not_without_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with zone(tmp_path) as z:
        monkeypatch.setattr(consoles, "CONSOLES", 1)
        guest = await running(z)
        async with console(z, CONSOLES + await ticket(z, guest)):
            assert (await refused_with(z, CONSOLES + await ticket(z, guest)))[0] == 429


# ------------------------------------------------------------------ what is no websocket, what is not told


async def test_a_console_without_a_websocket_and_a_websocket_elsewhere_are_refused(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        path = CONSOLES + await ticket(z, await running(z))
        number, text = await z.error("GET", path.removeprefix("/api/v1"))
        assert (number, "Upgrade: websocket" in text) == (400, True)
        async with console(z, path):  # it was not spent
            pass
        for other in ("/api/v1/compute_pools/", "/api/v1/events/"):
            number, text = await refused_with(z, other)
            assert (number, "is no websocket" in text) == (400, True)
        answer = await refusal(z, "/api/v1/nothing")
        assert (answer.status_code, answer.body) == (404, b"404 page not found\n")


async def test_nothing_secret_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with structlog.testing.capture_logs() as lines:
        async with zone(tmp_path) as z:
            guest = await running(z)
            tickets = [await ticket(z, guest, session="a-session-label") for _ in range(4)]
            async with console(z, CONSOLES + tickets[0], session="a-session-label") as socket:
                await _shows(socket)
            await refused_with(z, CONSOLES + tickets[0], session="a-session-label")
            await refused_with(z, CONSOLES + tickets[1], is_signed=False)
            z.displays.break_off(RuntimeError("a defect"))
            number, _ = await refused_with(z, CONSOLES + tickets[2], session="a-session-label")
            assert number == 500
            secrets = [*tickets, "a-session-label", z.credential.key]
    ours = [record for record in caplog.records if not record.name.startswith(("websockets.client", "httpx"))]
    told = [record.getMessage() for record in ours] + list(map(repr, lines))
    assert any("request.crashed" in line for line in told)
    assert any("console.opened" in line for line in told)
    assert [record for record in ours if record.levelno >= logging.WARNING] == []
    assert [line for line in told if any(secret in line for secret in secrets)] == []


async def test_a_defect_behind_the_opening_is_a_close(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        guest = await running(z)
        async with console(z, CONSOLES + await ticket(z, guest)) as socket:
            await rfb(socket).shake_hands()
            z.displays.break_off(RuntimeError("a defect"))
            code, reason = await closed(socket)
            assert (code, "defect of ours" in (reason or "")) == (1011, True)
        assert z.gateway.consoles == 0
