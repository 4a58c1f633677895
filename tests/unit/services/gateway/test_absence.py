"""Work for a cell that is not there: whoever asks hears so at once, and what can be done about it."""

import asyncio
from pathlib import Path

import pytest

from nano.model.ids import TaskId
from nano.model.membership import How
from nano.model.peers import Peer, Role
from nano.model.pool import Presence
from services.gateway import writes
from tests.support.zone import CELL, PATIENCE_S, Zone, zone

PEER = Peer(Role.CELL, CELL)


async def remove(z: Zone) -> None:
    """Shut the cell out, as `nanoctl cell remove` does."""
    z.scheduler.commit(*z.scheduler.book.membership.enrolled(PEER, "a1" * 32, How.TOKEN, 1))
    await z.data("DELETE", f"/members/cell/{CELL}")


async def ended(z: Zone, task: str) -> str:
    """The state in which it ends."""
    tasks = z.gateway.view.tasks
    assert await z.gateway.bell.until(lambda: tasks[TaskId(task)].state.ended, PATIENCE_S)
    return tasks[TaskId(task)].state


@pytest.mark.parametrize("presence", [Presence.LOST, Presence.LEFT])
async def test_a_task_says_what_it_waits_for_and_goes_on_when_the_cell_is_back(
    tmp_path: Path, presence: Presence
) -> None:
    async with zone(tmp_path) as z:
        guest = await z.guest()
        await z.lose_cell(presence)
        async with asyncio.timeout(writes.TASK_S / 2):
            answer = await z.ask("POST", f"/instances/{guest}", {})
        told = answer.json()["data"]
        assert f"cell {CELL} has not been heard since 2" in told["waits_for"]
        task = await z.data("GET", f"/tasks/{told['task']}")
        assert (task["state"], task["waits_for"]) == ("running", told["waits_for"])
        assert (await z.data("GET", "/tasks/?limit=1"))["tasks"] == [task]
        await z.find_cell()
        assert await ended(z, told["task"]) == "done"
        assert (await z.data("GET", f"/tasks/{told['task']}"))["waits_for"] == ""
        assert (await z.data("GET", f"/guests/{guest}"))["running"] is True


async def test_a_task_that_waits_can_be_cancelled_and_does_nothing_when_the_cell_is_back(
    tmp_path: Path,
) -> None:
    async with zone(tmp_path) as z:
        guest = await z.guest()
        await z.lose_cell()
        task = (await z.data("POST", f"/instances/{guest}", {}))["task"]
        await z.data("DELETE", f"/tasks/{task}")
        await z.find_cell()
        assert await ended(z, task) == "cancelled"
        assert (await z.data("GET", f"/guests/{guest}"))["running"] is False


async def test_whoever_pulls_the_plug_of_an_absent_host_is_not_kept_waiting(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        guest = await z.guest()
        await z.data("POST", f"/instances/{guest}", {})
        await z.lose_cell()
        polite = await z.ask("DELETE", f"/instances/{guest}", {})
        async with asyncio.timeout(2):
            number, message = await z.error("DELETE", f"/instances/{guest}", {"force": True})
        assert (number, polite.headers["nano-task"] in message) == (409, True)


async def test_where_the_cell_was_removed_everything_is_refused_but_to_forget(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        guest, other = await z.guest("vm"), await z.guest("other")
        await z.data("POST", f"/instances/{guest}", {})
        await z.lose_cell()
        waiting = (await z.ask("DELETE", f"/instances/{guest}", {})).headers["nano-task"]
        number, message = await z.error("DELETE", f"/guests/{other}", {"forget": True})
        assert (number, f"nanoctl cell remove {CELL}" in message) == (409, True)

        await remove(z)
        assert await ended(z, waiting) == "failed"  # nobody is waited for who cannot come back
        (shown,) = await z.data("GET", "/compute_pool_cells/default")
        assert (shown["state"], shown["instances"]) == ("removed", 2)
        assert (await z.data("GET", f"/guests/{guest}"))["lost"] is True
        for method, path, body in (
            ("POST", f"/instances/{other}", {}),
            ("DELETE", f"/instances/{guest}", {}),
            ("DELETE", f"/instances/{guest}", {"reboot": True, "force": True}),
            ("DELETE", f"/guests/{other}", {}),
        ):
            number, message = await z.error(method, path, body)
            assert (number, "nanoctl instance forget" in message) == (409, True), path

        answer = await z.ask("DELETE", f"/guests/{guest}", {"forget": True})
        assert answer.json()["data"] == ""
        task = await z.data("GET", f"/tasks/{answer.headers['nano-task']}")
        assert (task["kind"], task["state"]) == ("forget_instance", "done")
        assert (await z.error("GET", f"/guests/{guest}"))[0] == 404
        assert await z.data("DELETE", f"/guests/{other}", {"forget": True}) == ""
        assert await z.data("GET", "/compute_pool_cells/default") == []


async def test_what_was_being_deleted_or_created_there_ends_with_the_removal(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        guest = await z.guest()
        await z.lose_cell()
        deletion = (await z.data("DELETE", f"/guests/{guest}", {}))["task"]
        await remove(z)
        assert await ended(z, deletion) == "done"
        assert not z.scheduler.book.instances
        assert not z.scheduler.book.cells
