"""Power by the documented routes, and what a running guest uses."""

from pathlib import Path

import pytest

from nano.model.pool import Usage
from tests.support.zone import zone


async def test_a_guest_starts_and_stops_by_force(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        guest = await z.guest()
        assert await z.data("POST", f"/instances/{guest}", {}) == ""
        assert (await z.data("GET", f"/guests/{guest}"))["running"] is True
        assert (await z.error("POST", f"/instances/{guest}", {}))[0] == 409
        assert await z.data("DELETE", f"/instances/{guest}", {"reboot": True, "force": True}) == ""
        assert await z.data("DELETE", f"/instances/{guest}", {"force": True}) == ""
        assert (await z.data("GET", f"/guests/{guest}"))["status"] == "stopped"
        assert (await z.error("DELETE", f"/instances/{guest}", {"force": True}))[0] == 409
        assert await z.data("DELETE", f"/guests/{guest}", {}) == ""  # at once, and it is believed stopped


async def test_a_soft_shutdown_is_answered_once_it_is_durable(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        guest = await z.guest()
        await z.data("POST", f"/instances/{guest}", {})
        answer = await z.ask("DELETE", f"/instances/{guest}", {})
        assert answer.json() == {"error_code": 0, "message": "", "data": ""}
        task = await z.data("GET", f"/tasks/{answer.headers['nano-task']}")
        assert (task["kind"], task["subject"]) == ("stop_instance", guest)


async def test_a_start_that_cannot_be_is_refused(tmp_path: Path) -> None:
    expected: list[tuple[object, int]] = [
        ({"from_media": True, "source": "x"}, 501),
        ({"from_network": True}, 501),
        (None, 400),
    ]
    async with zone(tmp_path) as z:
        guest = await z.guest()
        for body, number in expected:
            assert (await z.error("POST", f"/instances/{guest}", body))[0] == number, body
        assert (await z.error("POST", "/instances/none", {}))[0] == 404


async def test_what_a_guest_uses_is_shown_while_it_runs(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        guest = await z.guest()
        z.gateway.view.sample([Usage(guest, 1, 12.345, 100, 300, 0, 0, 1, 2, 3, 4)])
        stopped = await z.data("GET", f"/instances/{guest}")
        assert (stopped["cpu_usage"], stopped["memory_available"], stopped["bytes_sent"]) == (0, 0, 0)
        await z.data("POST", f"/instances/{guest}", {})
        running = await z.data("GET", f"/instances/{guest}")
        assert running["cpu_usage"] == pytest.approx(12.345, abs=0.006)
        assert running["memory_available"] == 200
        assert [
            running[name] for name in ("bytes_read", "bytes_written", "bytes_received", "bytes_sent")
        ] == [
            1,
            2,
            3,
            4,
        ]
        assert running["media_attached"] is False
        assert "cell" not in running
        assert (await z.error("GET", "/instances/none"))[0] == 404
