"""The first instance, told over the documented REST routes; a process of its own that ends with the story.

    python -m nano.fleet.story create|remove --settings var/nanoctl.toml --result FILE …

Every step looks first whether it is done already, so that telling it twice makes nothing twice.
"""

import argparse
import json
import sys
from collections.abc import Callable
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from nano.cli import settings
from nano.cli.client import Client, Refused
from nano.fleet.stages import Stages
from nano.model.errors import NanoError, NotFound
from nano.model.task import TaskState

POOL = "default"
ADDRESS_POOL = "local"
OWNER = "admin"
GROUP = "admin"
INSTANCE = "first"
TEMPLATE = "Linux (virtio)"
MEMORY_BYTES = 128 * 1024 * 1024
DISK_BYTES = 1024 * 1024 * 1024

_ENDED = {str(state) for state in TaskState if state.ended}

Guest = dict[str, Any]


class Story:
    """One gateway, and what is done there."""

    def __init__(self, client: Client, stages: Stages, *, auto_start: bool = False) -> None:
        """`auto_start`: the instance made here starts by itself, now and with each start of its host."""
        self.client = client
        self.stages = stages
        self.auto_start = auto_start

    def create(self, image: Path, subnet: IPv4Network) -> dict[str, Any]:
        """From an empty zone to an instance that runs, has its address and answers; what was made.

        Nothing when the zone has instances, but not this one.
        """
        with self.stages.stage("cell", "waiting for a cell to join the pool"):
            self._until({"cell", "pool"}, self._cell_is_there)
        with self.stages.stage("addresses", f"address pool {ADDRESS_POOL} on {subnet}"):
            self._address_pool(subnet)
        with self.stages.stage("upload", f"disk image {image.stem}"):
            image_id = self._image(image)
        if self._has_others():
            return {}  # people have made their own: another `first` would only take their room
        with self.stages.stage("create", f"creating instance {INSTANCE}, unless it is there"):
            instance = self._instance(image_id)
        with self.stages.stage("start", f"starting instance {INSTANCE}, unless it runs"):
            self._running(instance)
        with self.stages.stage("answer", "waiting for its address by DHCP and its agent"):
            guest = self._until({"instance", "status"}, lambda: self._answers(instance))
        return describe(instance, guest, image.stem)

    def remove(self) -> dict[str, Any]:
        """Stop and delete the instance; says what the API shows afterwards."""
        found = self._existing()
        if found is None:
            raise NotFound(f"there is no instance {INSTANCE}")
        instance = found["id"]
        with self.stages.stage("stop", f"stopping instance {INSTANCE}"):
            self._do("DELETE", f"/instances/{instance}", {"reboot": False, "force": False})
        with self.stages.stage("delete", f"deleting instance {INSTANCE}"):
            self._do("DELETE", f"/guests/{instance}", {})
        pool = self.client.call("GET", f"/address_pools/{ADDRESS_POOL}").data
        tasks = self.client.call("GET", "/tasks/", query={"limit": 1000}).data["tasks"]
        return {
            "instances": [each["name"] for each in self._search()],
            "leases": pool.get("allocated") or [],
            "open_tasks": [each["id"] for each in tasks if each["state"] not in _ENDED],
        }

    # What is asked for, each looked up first.

    def _address_pool(self, subnet: IPv4Network) -> None:
        call = self.client.call
        gateway, first, last = (str(subnet[offset]) for offset in (1, 10, -6))
        if ADDRESS_POOL not in {each["name"] for each in call("GET", "/address_pools/").data or []}:
            call("POST", f"/address_pools/{ADDRESS_POOL}", body={"gateway": gateway, "provider": "dhcp"})
        if not call("GET", f"/address_pools/{ADDRESS_POOL}/internal/ranges/").data:
            body = {"end": last, "netmask": str(subnet.netmask)}
            call("POST", f"/address_pools/{ADDRESS_POOL}/internal/ranges/{first}", body=body)
        pool = call("GET", f"/compute_pools/{POOL}").data
        if pool.get("network") != ADDRESS_POOL:
            body = {
                "network": ADDRESS_POOL,
                "storage": pool.get("storage", ""),
                "failover": pool.get("failover", False),
            }
            call("PUT", f"/compute_pools/{POOL}", body=body)

    def _image(self, image: Path) -> str:
        """The id of the image of that name, uploaded now if it is not there whole."""
        known = self.client.call("GET", "/disk_image_search/", query={"group": GROUP}).data or []
        found = next((each["id"] for each in known if each["name"] == image.stem), None)
        if found is None:
            body = {"name": image.stem, "owner": OWNER, "group": GROUP, "description": "", "tags": ["linux"]}
            found = self.client.call("POST", "/disk_images/", body=body).data["id"]
        if not self.client.call("GET", f"/disk_images/{found}").data["created"]:
            self.stages.say(f"uploading {image.stat().st_size / 2**20:.0f} MiB")
            self.client.upload(f"/disk_images/{found}/file/", image, lambda _moved, _all: None)
        return str(found)

    def _existing(self) -> Guest | None:
        return next((each for each in self._search() if each["name"] == f"{GROUP}.{INSTANCE}"), None)

    def _has_others(self) -> bool:
        found = self.client.call("POST", "/search/guests/", body={"all": True, "limit": 1}).data
        return bool(found["total"]) and self._existing() is None

    def _search(self) -> list[Guest]:
        body = {"limit": 100, "offset": 0, "owner": OWNER, "group": GROUP, "pool": POOL}
        return list(self.client.call("POST", "/search/guests/", body=body).data["result"] or [])

    def _instance(self, image: str) -> str:
        """The id of the instance of that name, created now if there is none; whole when this returns."""
        found = self._existing()
        instance = str(found["id"]) if found else self._created(image)
        self._until({"instance", "task"}, lambda: self._is_whole(instance))
        return instance

    def _is_whole(self, instance: str) -> Guest | None:
        guest: Guest = self.client.call("GET", f"/guests/{instance}").data
        return guest if guest["created"] else None

    def _created(self, image: str) -> str:
        templates = self.client.call("GET", "/templates/").data
        template = next((each["id"] for each in templates if each["name"] == TEMPLATE), None)
        if template is None:
            raise NotFound(f"this zone has no template {TEMPLATE!r}")
        body = {
            "name": INSTANCE,
            "owner": OWNER,
            "group": GROUP,
            "pool": POOL,
            "cores": 1,
            "memory": MEMORY_BYTES,
            "disks": [DISK_BYTES],
            "template": template,
            "from_image": image,
            "modules": ["qemu"],
            "auto_start": self.auto_start,
        }
        answer = self.client.call("POST", "/guests/", body=body)
        self._finished(answer.task)
        return str(answer.data["id"])

    def _running(self, instance: str) -> None:
        guest = self.client.call("GET", f"/guests/{instance}").data
        if not guest.get("running") and not guest["auto_start"]:
            self._do("POST", f"/instances/{instance}", {})

    def _do(self, method: str, path: str, body: dict[str, Any]) -> None:
        self._finished(self.client.call(method, path, body=body).task)

    # What is waited for: events say when to look again, nothing is polled.

    def _finished(self, task: str) -> None:
        def ended() -> Guest | None:
            known: Guest = self.client.call("GET", f"/tasks/{task}").data
            return known if known["state"] in _ENDED else None

        known = self._until({"task"}, ended)
        if known["state"] != TaskState.DONE:
            reason = (known.get("error") or {}).get("message", "no reason was given")
            raise Refused(f"{known['kind']} ended {known['state']}: {reason}", 500)

    def _cell_is_there(self) -> Guest | None:
        cells = self.client.call("GET", f"/compute_pool_cells/{POOL}").data or []
        return next((each for each in cells if each.get("alive") and each.get("enabled")), None)

    def _answers(self, instance: str) -> Guest | None:
        guest: Guest = self.client.call("GET", f"/guests/{instance}").data
        allocated = guest["internal"].get("allocated_address", "").partition("/")[0]
        answers = guest["running"] and guest["agent"] and allocated in guest["addresses"]
        return guest if answers else None

    def _until(self, kinds: set[str], look: Callable[[], Guest | None]) -> Guest:
        """What `look` finds, tried when the event stream opens and again at each event of these kinds."""
        for event in self.client.events():
            if event.kind in {"hello", "reread", *kinds}:
                found = look()
                if found is not None:
                    return found
        raise NotFound("the event stream ended before the story did")


def describe(instance: str, guest: Guest, image: str) -> dict[str, Any]:
    """What is told of the instance at the end."""
    return {
        "id": instance,
        "name": guest["name"],
        "cell": guest.get("cell", ""),
        "address": guest["internal"]["allocated_address"].partition("/")[0],
        "image": image,
        "simulated": bool(guest.get("simulated")),
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="nano.fleet.story")
    parser.add_argument("verb", choices=("create", "remove"))
    parser.add_argument("--settings", type=Path, required=True)
    parser.add_argument("--result", type=Path, required=True)
    parser.add_argument("--began", type=float, required=True)
    parser.add_argument("--image", type=Path)
    parser.add_argument("--auto-start", action="store_true")
    parser.add_argument("--subnet", type=IPv4Network)
    arguments = parser.parse_args()
    stages = Stages(arguments.began)
    try:
        with Client(settings.read(arguments.settings)) as client:
            story = Story(client, stages, auto_start=arguments.auto_start)
            told = (
                story.remove()
                if arguments.verb == "remove"
                else story.create(arguments.image, arguments.subnet)
            )
    except NanoError as failure:
        stages.say(f"failed: {failure}")
        return 1
    arguments.result.write_text(json.dumps({"seconds": stages.seconds, "told": told}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
