"""A guest from its creation to its end, by the documented routes."""

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from nano.model.ids import ImageId, InstanceId, TaskId
from nano.model.task import TaskState
from services.gateway.cursor import Book
from services.gateway.routes.guests import creation_of
from tests.support.zone import CELL, GIB, Zone, zone

QCOW2 = b"QFI\xfb" + (3).to_bytes(4, "big") + bytes(16) + (2 * GIB).to_bytes(8, "big") + bytes(480)
"""The head of a disk of 2 GiB (QCOW2 specification: version at 4, size at 24)."""

PROBLEMS = {"accept": "application/problem+json"}


async def wanted(z: Zone) -> dict[str, object]:
    """A good request."""
    templates = await z.data("GET", "/templates/")
    return {
        "name": "vm",
        "owner": "admin",
        "group": "admin",
        "pool": "default",
        "cores": 1,
        "memory": 256 << 20,
        "disks": [GIB],
        "template": templates[0]["id"],
    }


async def test_a_guest_is_created_and_read_as_documented(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        guest = await z.guest("vm", disks=[GIB, 2 * GIB], qos={"cpu_priority": "low", "read_speed": 5})
        answer = await z.ask("GET", f"/guests/{guest}")
        assert answer.status_code == 200
        found = answer.json()["data"]
        assert found.pop("create_time")
        assert found.pop("ethernet_address").startswith("00:16:3e:")
        assert found == {
            "name": "admin.vm",
            "id": guest,
            "created": True,
            "progress": 0,
            "running": False,
            "owner": "admin",
            "group": "admin",
            "pool": "default",
            "cell": CELL,
            "cores": 1,
            "memory": 256 << 20,
            "total_disk": 3 * GIB,
            "disks": [GIB, 2 * GIB],
            "auto_start": False,
            "system": "linux",
            "internal": {},
            "external": {"display_address": ":0"},
            "qos": {"cpu_priority": "low", "read_speed": 5},
            "status": "stopped",
            "agent": False,
            "addresses": [],
            "simulated": True,
        }


async def test_an_accepted_guest_can_be_read_at_once(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        answer = await z.ask("POST", "/guests/", await wanted(z))
        assert answer.status_code == 202
        assert "nano-replica" not in answer.headers
        found = await z.ask("GET", f"/guests/{answer.json()['data']['id']}")
        assert found.status_code in {200, 201}
        assert found.json()["data"]["created"] is (found.status_code == 200)


async def test_a_guest_whose_creation_has_failed_is_answered_with_its_error(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        image = await z.disk_image(QCOW2)
        z.imagestore.book.images.pop(ImageId(image))  # gone behind the gateway's back
        guest = await z.guest("vm", from_image=image, disks=[2 * GIB])
        number, text = await z.error("GET", f"/guests/{guest}")
        assert number == 404
        assert image in text
        assert InstanceId(guest) not in z.scheduler.book.instances


async def test_a_guest_whose_creation_was_cancelled_is_not_waited_for(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        guest = await z.guest("vm")
        made = creation_of(InstanceId(guest), z.gateway.view)
        assert made is not None
        view = cast("Any", z.gateway.view)
        view.tasks[made.id] = replace(made, state=TaskState.CANCELLED)
        del view.instances[InstanceId(guest)]
        answer = await z.ask("GET", f"/guests/{guest}")
        assert "retry-after" not in answer.headers
        assert (answer.json()["error_code"], "was cancelled" in answer.json()["message"]) == (409, True)


REFUSED: list[tuple[dict[str, object], int, str]] = [
    ({"template": "none"}, 404, "template"),
    ({"cores": 3}, 400, "cores"),
    ({"cores": -1}, 400, "cores"),
    ({"memory": "much"}, 400, "memory"),
    ({"disks": []}, 400, "disks"),
    ({"disks": [1]}, 400, "disks[0]"),
    ({"pool": "none"}, 404, "pool"),
    ({"pool": ""}, 400, "pool"),
    ({"name": "a b"}, 400, "name"),
    ({"modules": ["qemu", "vnc"]}, 400, "modules[1]"),
    ({"qos": {"cpu_priority": "urgent"}}, 400, "qos.cpu_priority"),
    ({"from_image": "none"}, 404, "from_image"),
    ({"memory": 64 * GIB}, 409, "pool"),
]
"""What is changed in a good request; the number and the member of the refusal."""


async def test_a_guest_that_cannot_be_is_refused_by_its_member(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        good = await wanted(z)
        for change, number, member in REFUSED:
            answer = await z.ask("POST", "/guests/", good | change, PROBLEMS)
            problem = answer.json()
            assert (answer.status_code, problem.get("field")) == (number, member), problem
        assert z.scheduler.book.instances == {}


async def test_a_guest_smaller_than_its_image_or_of_an_empty_image_is_refused(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        image = await z.disk_image(QCOW2)
        record = {"name": "empty", "owner": "admin", "group": "admin"}
        empty = (await z.data("POST", "/disk_images/", record))["id"]
        good = await wanted(z)
        for source, number, member in ((image, 400, "disks[0]"), (empty, 409, "from_image")):
            answer = await z.ask("POST", "/guests/", good | {"from_image": source}, PROBLEMS)
            assert (answer.status_code, answer.json()["field"]) == (number, member)


async def test_the_same_idempotency_key_names_the_same_guest(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        good = await wanted(z)
        key = {"idempotency-key": "once"}
        first, again = [await z.ask("POST", "/guests/", good, key) for _ in range(2)]
        assert first.json() == again.json()
        assert first.headers["nano-task"] == again.headers["nano-task"]
        other = await z.ask("POST", "/guests/", good | {"name": "other"}, key)
        assert other.json()["error_code"] == 422
        task = first.headers["nano-task"]
        assert await z.gateway.bell.until(lambda: z.gateway.view.tasks[TaskId(task)].state.ended, 10)
        started = await z.ask("POST", f"/instances/{first.json()['data']['id']}", {}, key)
        assert started.json()["error_code"] == 422  # the body is not all that a request is
        too_long = await z.ask("POST", "/guests/", good, {"idempotency-key": "k" * 300})
        assert "Idempotency-Key" in too_long.json()["message"]


async def test_a_stopped_guest_is_deleted_and_leaves_nothing(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        guest = await z.guest()
        assert await z.data("DELETE", f"/guests/{guest}", {}) == ""
        assert (await z.error("GET", f"/guests/{guest}"))[0] == 404
        assert await z.cell.traces() == {}


async def test_a_deletion_needs_a_body_and_a_stopped_guest(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        guest = await z.guest()
        assert (await z.error("DELETE", f"/guests/{guest}"))[1].startswith("body is empty")
        await z.data("POST", f"/instances/{guest}", {})
        assert (await z.error("DELETE", f"/guests/{guest}", {"force": True}))[0] == 409
        assert (await z.error("DELETE", "/guests/none", {}))[0] == 404


async def test_a_guest_of_a_silent_cell_is_shown_as_lost(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        guest = await z.guest()
        cell = z.scheduler.book.cells[CELL]
        z.scheduler.commit(*z.scheduler.book.cell_silent(CELL, type(cell.presence).LOST, 9))
        revision = z.scheduler.revision
        assert await z.gateway.bell.until(lambda: z.gateway.view.shows(Book.SCHEDULER, revision), 5)
        assert (await z.data("GET", f"/guests/{guest}"))["lost"] is True
