"""The story that a user sees, told by the real processes."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nano.cli import settings
from nano.cli.client import Client
from nano.fleet.bridge import bridge_is_there
from nano.fleet.host import wait_until
from nano.fleet.libvirtd import running_guests
from nano.fleet.processes import processes_mentioning, processes_of
from tests.support.fleets import fleet, guest_image_at_hand, rest_of, told, up_until_told
from tests.support.netns import fresh_network

__all__ = ["fresh_network"]

pytestmark = [
    pytest.mark.hypervisor,
    pytest.mark.skipif(os.geteuid() != 0, reason="bridges and a libvirtd of our own need root"),
]


def last_line(output: str) -> dict[str, Any]:
    return dict(json.loads(output.strip().splitlines()[-1]))


def test_the_demo_ends_well_and_says_what_it_verified() -> None:
    done = subprocess.run(fleet("demo"), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    told = last_line(done.stdout)
    assert told["address"].startswith("10.57.0.")
    assert told["simulated"] is False
    assert set(told["verified"]) >= {
        "no domain",
        "no volume",
        "no lease",
        "no bridge",
        "no process",
        "no task open",
        "no claim",
    }
    assert {"image", "services", "upload", "create", "start", "answer", "delete"} <= set(told["seconds"])


def test_the_simulated_demo_says_that_it_is_simulated() -> None:
    done = subprocess.run(fleet("demo", "--simulated"), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert last_line(done.stdout)["simulated"] is True


def test_an_interrupted_demo_leaves_nothing_and_says_so() -> None:
    with subprocess.Popen(fleet("demo"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if "creating instance" in line:
                demo.send_signal(signal.SIGINT)
        assert demo.wait() == 1
        assert demo.stderr is not None
        assert "interrupted" in demo.stderr.read()
    assert processes_mentioning(Path("/var/tmp/nano-demo-")) == {}
    assert not list(Path("/var/tmp").glob("nano-demo-*"))


@pytest.fixture(scope="module", autouse=True)
def _image() -> Iterator[None]:
    with guest_image_at_hand():
        yield


@pytest.fixture
def root(fresh_network: None, tmp_path: Path) -> Iterator[Path]:
    """A fleet's folder in a network of its own; whatever the test left is stopped."""
    yield tmp_path
    subprocess.run(fleet("--root", str(tmp_path), "down"), capture_output=True, check=False)


def test_ctrl_c_leaves_the_guest_to_the_next_up_and_down_stops_all(root: Path) -> None:
    uri = f"qemu+unix:///system?socket={root}/libvirt/run/libvirt-sock"
    with up_until_told(root) as (up, said):
        first = told(said, "instance")
        qemu = {pid for pid, command in processes_mentioning(root).items() if "qemu-system" in command}
        assert len(qemu) == 1
        second = subprocess.run(fleet("--root", str(root), "up"), capture_output=True, text=True, check=False)
        assert second.returncode == 1
        assert f"process {up.pid}" in second.stderr
        up.send_signal(signal.SIGINT)
        assert "guests go on running" in rest_of(up)
    assert processes_of(root) == {}
    assert qemu <= set(processes_mentioning(root))
    with up_until_told(root) as (up, said):
        assert told(said, "instance") == first
        assert len(running_guests(uri)) == 1
        down = subprocess.run(fleet("--root", str(root), "down"), capture_output=True, text=True, check=False)
        assert down.returncode == 0, down.stdout + down.stderr
        rest_of(up)
    assert not bridge_is_there("nano0")
    assert wait_until(lambda: not processes_mentioning(root), 5)


@pytest.mark.parametrize("service", ["gateway", "scheduler", "cell", "imagestore", "addresspool"])
def test_a_service_killed_in_the_middle_of_the_story_is_started_again_and_the_story_ends_well(
    root: Path, service: str
) -> None:
    killed: list[str] = []

    def kill(line: str) -> None:
        if "creating instance" in line and not killed:
            killed.append(line)
            os.kill(int((root / "run" / f"{service}.pid").read_text()), signal.SIGKILL)

    with up_until_told(root, "--simulated", hear=kill) as (up, said):
        assert f"{service} was killed by SIGKILL: starting it again" in said
        up.send_signal(signal.SIGINT)
        rest_of(up)


def test_the_next_up_makes_no_instance_beside_those_of_people_and_needs_none_to_stay_up(root: Path) -> None:
    with up_until_told(root, "--simulated") as (up, said):
        first = told(said, "instance").split("id ")[1].split()[0]
        with Client(settings.read(root / "nanoctl.toml")) as client:
            templates = client.call("GET", "/templates/").data
            mine = {"name": "mine", "owner": "ann", "group": "red", "pool": "default", "cores": 1}
            sizes = {"memory": 2**28, "disks": [2**30], "template": templates[0]["id"]}
            client.call("POST", "/guests/", body=mine | sizes)
            client.call("DELETE", f"/instances/{first}", body={"force": True})
            client.call("DELETE", f"/guests/{first}", body={})
        up.send_signal(signal.SIGINT)
        rest_of(up)
    with up_until_told(root, "--simulated") as (up, said):
        assert "creating instance" not in said
        assert "  instance " not in said
        with Client(settings.read(root / "nanoctl.toml")) as client:
            (cell,) = client.call("GET", "/compute_pool_cells/default").data
            (guest,) = client.call("GET", "/instance_status/default").data
            client.call("DELETE", f"/guests/{guest['id']}", body={})
            client.call("DELETE", f"/compute_pool_cells/default/{cell['name']}")
            client.call("DELETE", "/compute_pools/default")
        up.send_signal(signal.SIGINT)
        rest_of(up)
    with up_until_told(root, "--simulated") as (up, said):
        assert "the services go on" in said
        with Client(settings.read(root / "nanoctl.toml")) as client:
            assert not client.call("GET", "/compute_pools/").data
        up.send_signal(signal.SIGINT)
        rest_of(up)
