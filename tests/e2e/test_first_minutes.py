"""From `./dev up` to a guest's screen in the browser: the real services, a real guest, a real browser."""

import base64
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from nano.fleet.network_namespace import own_network
from tests.support.browser import Person, chromium, person
from tests.support.fleets import fleet, guest_image_at_hand, rest_of, told, up_until_told

pytestmark = [
    pytest.mark.hypervisor,
    pytest.mark.skipif(os.geteuid() != 0, reason="bridges and a libvirtd of our own need root"),
]


@dataclass
class Cloud:
    root: Path
    code: str

    def screen(self, instance: str) -> str:
        """The text on the guest's own screen, as its kernel has it; empty until its agent answers."""
        capture = {"path": "cat", "arg": ["/dev/vcs1"], "capture-output": True}
        started = self._agent(instance, "guest-exec", capture)
        while started is not None:
            found = self._agent(instance, "guest-exec-status", started)
            if found is not None and found["exited"]:
                return base64.b64decode(str(found.get("out-data", ""))).decode(errors="replace")
        return ""

    def _agent(self, instance: str, execute: str, arguments: dict[str, Any]) -> dict[str, Any] | None:
        command = json.dumps({"execute": execute, "arguments": arguments})
        uri = f"qemu+unix:///system?socket={self.root}/libvirt/run/libvirt-sock"
        done = subprocess.run(
            ["virsh", "--connect", uri, "qemu-agent-command", instance, command],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            assert "agent" in done.stderr, done.stderr
            return None
        answer: dict[str, Any] = json.loads(done.stdout)["return"]
        return answer


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    root = tmp_path_factory.mktemp("fleet")
    with guest_image_at_hand(), own_network():
        try:
            with up_until_told(root) as (up, said):
                yield Cloud(root, told(said, "first").split()[2])
                up.send_signal(signal.SIGINT)
                rest_of(up)
        finally:
            subprocess.run(fleet("--root", str(root), "down"), capture_output=True, check=False)


@pytest.fixture(scope="module")
def admin(cloud: Cloud) -> Iterator[Person]:
    with chromium() as browser, person(browser) as somebody:
        yield somebody


def until_screen_shows(cloud: Cloud, instance: str, text: str, limit_s: float = 60.0) -> str:
    """The guest's screen once that text is on it; asked again and again, since a guest tells nobody."""
    end = time.monotonic() + limit_s
    while text not in (shown := cloud.screen(instance)):
        assert time.monotonic() < end, f"{text!r} is not on the screen: {shown!r}"
    return shown


def test_from_the_first_start_to_a_guest_that_one_types_into_and_back(cloud: Cloud, admin: Person) -> None:
    page = admin.page
    admin.first_start(cloud.code)
    admin.picture("overview")

    # create
    page.get_by_role("button", name="Create instance").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name").fill("web")
    admin.picture("create")
    dialog.get_by_role("button", name="Create", exact=True).click()

    # watch it run
    page.get_by_role("link", name="Instances").first.click()
    line = page.get_by_role("row").filter(has=page.get_by_role("link", name="web", exact=True))
    expect(line).to_contain_text("Running")
    expect(line).to_contain_text("10.57.0.")
    admin.picture("instances")

    # the console
    line.get_by_role("button", name="Console of web").click()
    expect(page.get_by_text("Connected", exact=True)).to_be_visible()
    instance = page.url.split("/instances/")[1].split("/")[0]
    until_screen_shows(cloud, instance, "login:")
    canvas = page.locator("canvas").first
    before = canvas.screenshot()
    canvas.click()
    page.keyboard.type("root")
    until_screen_shows(cloud, instance, "login: root")
    assert canvas.screenshot() != before
    page.keyboard.press("Enter")
    until_screen_shows(cloud, instance, "# ")
    page.keyboard.type("wc -c /etc/hostname")
    page.keyboard.press("Enter")
    until_screen_shows(cloud, instance, "11 /etc/hostname")
    admin.picture("console")

    # stop and delete
    page.get_by_role("button", name="Stop", exact=True).click()
    page.get_by_role("alertdialog").get_by_role("button", name="Shut down").click()
    expect(page.get_by_text("Stopped", exact=True).first).to_be_visible()
    page.get_by_role("button", name="More for web").click()
    page.get_by_role("menuitem", name="Delete").click()
    page.get_by_role("alertdialog").get_by_role("textbox").fill("web")
    page.get_by_role("alertdialog").get_by_role("button", name="Delete", exact=True).click()
    page.get_by_role("link", name="Instances").first.click()
    expect(page.get_by_role("link", name="first", exact=True)).to_be_visible()
    expect(page.get_by_role("link", name="web", exact=True)).to_be_hidden()
    assert admin.complaints == []
