"""How long a new machine takes: `POST /guests/` to running, beside libvirt alone with the same domain.

    ./dev up                                   # in another terminal, wait for the first instance
    ./dev bench create [--rounds 5]

Both in turn in one run. Ours: create from an image with auto start, until the event stream says that
it runs. libvirt: an overlay on the same base by qemu-img, `virsh define` and `start` of the same XML with
another name. The difference is what Nano adds: journals, leases, placement, reports.
"""

import argparse
import re
import statistics
import subprocess
import time
import tomllib
import uuid
from pathlib import Path
from typing import Any

from nano.cli import settings
from nano.cli.client import Client
from nano.cli.commands import image_record, search, template_id, wait_for_task

MEMORY_BYTES = 128 << 20
DISK_BYTES = 1 << 30


def create_and_run(client: Client, image: str, name: str) -> tuple[float, str]:
    """Seconds from the request until the instance is reported running, and its id."""
    body = {
        "name": name,
        "owner": "admin",
        "group": "admin",
        "pool": "default",
        "cores": 1,
        "memory": MEMORY_BYTES,
        "disks": [DISK_BYTES],
        "template": template_id(client, "Linux (virtio)"),
        "from_image": image,
        "modules": ["qemu"],
        "auto_start": True,
    }
    events = client.events()
    next(events)  # the stream is open before the clock starts
    began = time.perf_counter()
    instance = client.call("POST", "/guests/", body=body).data["id"]
    for event in events:
        if event.kind == "status" and event.id == instance and event.document.get("power") == "running":
            return time.perf_counter() - began, instance
    raise SystemExit("the event stream ended before the instance ran")


def remove(client: Client, instance: str) -> None:
    for method, path, body in (
        ("DELETE", f"/instances/{instance}", {"reboot": False, "force": True}),
        ("DELETE", f"/guests/{instance}", {}),
    ):
        answer = client.call(method, path, body=body)
        if answer.task:
            wait_for_task(client, answer.task, lambda _task: None)


class Virsh:
    """libvirt by its own tool, on the connection of this fleet's cell."""

    def __init__(self, uri: str) -> None:
        self._uri = uri

    def __call__(self, *arguments: str) -> str:
        return subprocess.run(
            ["virsh", "--quiet", "--connect", self._uri, *arguments],
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    def define_and_start(self, xml: str, source: str, base: str, folder: Path) -> float:
        """Seconds for an overlay of the same base, define and start of such a domain."""
        name, disk = f"bench-{uuid.uuid4().hex[:8]}", folder / f"bench-{uuid.uuid4().hex[:8]}.qcow2"
        twin = re.sub(r"<name>[^<]+</name>", f"<name>{name}</name>", xml)
        twin = re.sub(r"<uuid>[^<]+</uuid>", f"<uuid>{uuid.uuid4()}</uuid>", twin)
        twin = re.sub(r"<mac address='[^']+'/>", "<mac address='52:54:00:be:0c:01'/>", twin)
        twin = re.sub(r"<metadata>.*?</metadata>", "", twin, flags=re.DOTALL)
        twin = re.sub(r"<log file='[^']+'[^>]*/>", "", twin).replace(source, str(disk))
        file = folder / f"{name}.xml"
        began = time.perf_counter()
        overlay = [
            "qemu-img",
            "create",
            "-q",
            "-f",
            "qcow2",
            "-b",
            base,
            "-F",
            "qcow2",
            str(disk),
            str(DISK_BYTES),
        ]
        subprocess.run(overlay, check=True)
        file.write_text(twin)
        try:
            self("define", str(file))
            self("start", name)
            return time.perf_counter() - began
        finally:
            subprocess.run(
                ["virsh", "--connect", self._uri, "destroy", name], check=False, capture_output=True
            )
            subprocess.run(
                ["virsh", "--connect", self._uri, "undefine", name], check=False, capture_output=True
            )
            file.unlink()
            disk.unlink()


def _found(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    if found is None:
        raise SystemExit(f"the domain's XML has no {pattern}")
    return found[1]


def _backing(disk: str) -> str:
    info = subprocess.run(
        ["qemu-img", "info", "-U", "--output=json", disk], check=True, capture_output=True, text=True
    ).stdout
    return _found(r'"full-backing-filename": "([^"]+)"', info)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, default=Path("var"))
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    cell = tomllib.loads((arguments.root / "config" / "cell.toml").read_text())
    virsh = Virsh(cell["libvirt_uri"])
    folder = Path(cell["paths"]["data"])
    ours: list[float] = []
    theirs: list[float] = []
    with Client(settings.read(arguments.root / "nanoctl.toml")) as client:
        image = _first_image(client)
        for index in range(arguments.rounds):
            seconds, instance = create_and_run(client, image, f"bench-{index}")
            ours.append(seconds)
            domain = _found(rf"({instance}|\S*bench-{index})", virsh("list", "--name"))
            xml = virsh("dumpxml", "--inactive", domain)
            disk = _found(r"<source file='([^']+)'", xml)
            base = _backing(disk)
            remove(client, instance)
            theirs.append(virsh.define_and_start(xml, disk, base, folder))
            print(f"round {index + 1}: Nano {ours[-1]:.3f} s, libvirt alone {theirs[-1]:.3f} s")
    ratio = statistics.median(ours) / statistics.median(theirs)
    print(
        f"medians: Nano {statistics.median(ours):.3f} s, libvirt alone {statistics.median(theirs):.3f} s, "
        f"ratio {ratio:.2f}"
    )


def _first_image(client: Client) -> str:
    """The image that the fleet's first instance was cloned from."""
    if not search(client):
        raise SystemExit("there is no instance yet: wait until ./dev up has made the first one")
    records: list[dict[str, Any]] = client.call("GET", "/disk_image_search/", query={"group": "admin"}).data
    return str(image_record(client, "disk", records[0]["name"])["id"])


if __name__ == "__main__":
    main()
