"""A second server joins with one command, by token and by discovery, and instances run on it."""

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from nano.cli import settings
from nano.cli.client import Client, Refused
from tests.support.fleets import fleet, up_until_told
from tests.support.netns import fresh_network
from tests.support.veth import OtherServer, other_server

__all__ = ["fresh_network"]

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="networks of our own need root")

IN_THE_ZONE = re.compile(r"(?P<cell>Cell_[0-9a-f]{12}) is in the zone")
CODE = re.compile(r"with the code (?P<code>[0-9A-Z]{4}-[0-9A-Z]{4})")
ADMIT = re.compile(r"nanoctl cell admit (?P<fingerprint>[0-9a-f]+)")


@dataclass
class Zone:
    """The first server."""

    root: Path
    client: Client
    other: OtherServer

    def data(self, method: str, path: str, body: object = None) -> Any:
        return self.client.call(method, path, body=body).data

    def guests(self) -> list[dict[str, Any]]:
        body = {"limit": 100, "offset": 0, "all": True}
        return list(self.data("POST", "/search/guests/", body)["result"])

    def until(self, path: str, holds: Any) -> Any:
        """Looks whenever the gateway tells of a change, until it holds."""
        for _ in self.client.events():
            if holds(found := self.data("GET", path)):
                return found
        raise AssertionError("the event stream ended")

    def runs_an_instance_on(self, cell: str) -> None:
        """One from the image of the first server, on no other cell than this."""
        self.until(
            "/compute_pool_cells/default",
            lambda cells: cell in [one["name"] for one in cells if one["confirmed"]],
        )
        for one in self.data("GET", "/compute_pool_cells/default"):
            if one["name"] != cell:
                self.data("PUT", f"/compute_pool_cells/default/{one['name']}", {"enable": False})
        (image,) = self.client.call("GET", "/disk_image_search/", query={"group": "admin"}).data
        wanted = {"name": "second", "owner": "admin", "group": "admin", "pool": "default", "cores": 1}
        sizes = {"memory": 2**28, "disks": [2**30], "from_image": image["id"], "auto_start": True}
        template = self.data("GET", "/templates/")[0]["id"]
        made = self.client.call("POST", "/guests/", body={**wanted, **sizes, "template": template})
        self.until(f"/tasks/{made.task}", lambda task: task["state"] == "done")
        guest = self.until(f"/guests/{made.data['id']}", lambda guest: guest["running"])
        assert guest["cell"] == cell


class Server:
    """The second server's `./dev join`."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.said = ""

    def says(self, what: re.Pattern[str]) -> re.Match[str]:
        """Reads on until it has said so."""
        assert self.process.stdout is not None
        while (found := what.search(self.said)) is None:
            line = self.process.stdout.readline()
            assert line, f"join ended with {self.process.wait()}: {self.said}"
            self.said += line
        return found


@contextmanager
def joining(zone: Zone, root: Path, *words: str) -> Iterator[Server]:
    command = zone.other.command(*fleet("--root", str(root), "join", "--simulated", *words))
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            yield Server(process)
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate()


@pytest.fixture
def zone(fresh_network: None, tmp_path: Path) -> Iterator[Zone]:
    root = tmp_path / "first"
    with other_server() as other, up_until_told(root, "--simulated", "--open") as (_, said):
        assert "./dev join -" in said
        assert said.index("UDP 5600") < said.index("starting scheduler")
        with Client(settings.read(root / "nanoctl.toml")) as client:
            yield Zone(root, client, other)


def test_by_token_a_second_server_joins_with_one_command(zone: Zone, tmp_path: Path) -> None:
    token = zone.data("POST", "/join_tokens/", {"role": "cell"})["token"]
    with joining(zone, tmp_path / "second", token) as server:
        cell = server.says(IN_THE_ZONE)["cell"]
        zone.runs_an_instance_on(cell)  # it is in the first pool by itself
        (member,) = [one for one in zone.data("GET", "/members/")["members"] if one["id"] == cell]
        assert member["how"] == "token"
    with joining(zone, tmp_path / "third", token) as server:
        assert "was used by another server" in server.says(re.compile(r"cell ended with status 1.*"))[0]


def test_what_was_forgotten_is_switched_off_when_its_server_is_back_after_all(
    zone: Zone, tmp_path: Path
) -> None:
    def token() -> str:
        return str(zone.data("POST", "/join_tokens/", {"role": "cell"})["token"])

    root = tmp_path / "second"
    with joining(zone, root, token()) as server:
        cell = server.says(IN_THE_ZONE)["cell"]
        zone.runs_an_instance_on(cell)
        (guest,) = [one for one in zone.guests() if one["cell"] == cell]
        zone.data("DELETE", f"/members/cell/{cell}")
        zone.until(f"/guests/{guest['id']}", lambda one: one.get("lost"))
        with pytest.raises(Refused, match=f"nanoctl instance forget {guest['id']}"):
            zone.data("DELETE", f"/instances/{guest['id']}", {})
        assert zone.data("DELETE", f"/guests/{guest['id']}", {"forget": True}) == ""
        assert cell not in [one["name"] for one in zone.data("GET", "/compute_pool_cells/default")]
    (root / "data" / "cell" / "identity").rename(tmp_path / "identity.old")
    with joining(zone, root, token()) as server:  # as if it had only been away
        assert server.says(IN_THE_ZONE)["cell"] == cell
        page = zone.until("/tasks/", lambda page: page["tasks"][0]["kind"] == "switch_off_forgotten")
        off = page["tasks"][0]
        assert zone.until(f"/tasks/{off['id']}", lambda task: task["state"] != "running")["state"] == "done"
        assert off["name"] == "admin.second"


def test_by_discovery_a_second_server_waits_until_it_is_admitted(zone: Zone, tmp_path: Path) -> None:
    with joining(zone, tmp_path / "second") as server:
        code, fingerprint = server.says(CODE)["code"], server.says(ADMIT)["fingerprint"]
        (waits,) = zone.data("GET", "/applicants/")["applicants"]
        assert (waits["code"], waits["fingerprint"][:16], waits["present"]) == (code, fingerprint, True)
        with pytest.raises(Refused, match=f"nanoctl cell admit {fingerprint}"):
            zone.data("POST", f"/compute_pool_cells/default/{waits['id']}")
        zone.data("POST", f"/applicants/{fingerprint}", {"code": code})
        cell = server.says(IN_THE_ZONE)["cell"]
        assert cell == waits["id"]
        zone.until(
            "/compute_pool_cells/", lambda cells: [one["name"] for one in cells if one["alive"]] == [cell]
        )
        zone.data("POST", f"/compute_pool_cells/default/{cell}")
        zone.runs_an_instance_on(cell)
    with joining(zone, tmp_path / "second") as server:  # it is let in once
        assert server.says(IN_THE_ZONE)["cell"] == cell
        assert "waits to be admitted" not in server.said


def test_a_server_that_is_shut_out_is_shut_out_while_it_runs(zone: Zone, tmp_path: Path) -> None:
    token = zone.data("POST", "/join_tokens/", {"role": "cell"})["token"]
    with joining(zone, tmp_path / "second", token) as server:
        cell = server.says(IN_THE_ZONE)["cell"]
        zone.until(
            "/compute_pool_cells/default",
            lambda cells: cell in [one["name"] for one in cells if one["confirmed"]],
        )
        zone.data("DELETE", f"/members/cell/{cell}")
        zone.until("/members/", lambda page: page["uninformed"] == 0)
        assert cell not in [one["name"] for one in zone.data("GET", "/compute_pool_cells/default")]
