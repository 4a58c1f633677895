"""The units on a machine with systemd: they start, a guest runs, what is killed or hangs comes back."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from nano.fleet import units
from nano.fleet.configuration import toml
from nano.fleet.guest_image import built_image, cache_folder
from tests.support.machine import PREFIX, ROOT, Machine, unpacked, wait_until

pytestmark = [
    pytest.mark.hypervisor,
    pytest.mark.timeout(600),  # the first one waits for the machine's tree and the guest's disk to be built
    pytest.mark.skipif(os.geteuid() != 0, reason="a container with systemd needs root"),
]

UNITS = tuple(f"{name}.service" for name in units.UNITS.values())

HEALED_S = 90.0
"""A bound, never a wait: the watchdog's half minute, one second until the start, the start."""

BRIDGE = """\
[NetDev]
Name=br0
Kind=bridge
MACAddress=02:4e:0a:39:00:00
"""
NETWORK = """\
[Match]
Name=br0

[Network]
Address=10.57.0.1/24
ConfigureWithoutCarrier=yes
IPv6AcceptRA=no
"""
LIFE_OF_ITS_OWN = """\
# A container has its host's kernel, and a boot id of its own by a mount in /proc. A unit with a /proc of its
# own, as each of these three gives it, sees the host's, which no reboot of the container changes.
[Service]
ProtectProc=default
ProtectControlGroups=no
ProtectKernelTunables=no
"""


@pytest.fixture(scope="module")
def image() -> Path:
    cache = cache_folder(Path("var"))
    cache.mkdir(parents=True, exist_ok=True)
    return built_image(cache, print)


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    """Booted with everything installed as an installer would, and nothing of Nano started."""
    with unpacked(cache_folder(Path("var"))) as made:
        units.install(made.root, units.Layout(PREFIX), "br0")
        made.write("etc/systemd/network/br0.netdev", BRIDGE)
        made.write("etc/systemd/network/br0.network", NETWORK)
        made.boot()
        made.tell("systemctl", "enable", "--now", "systemd-networkd.service")
        made.tell("systemctl", "enable", "nano.target", *UNITS)
        yield made


@pytest.fixture(scope="module")
def running(machine: Machine) -> Machine:
    """Started the wrong way round: first who needs something of another, last the scheduler."""
    machine.tell("systemctl", "start", "--no-block", *(unit for unit in UNITS if "scheduler" not in unit))
    for name in ("imagestore", "addresspool", "gateway", "cell"):
        wait_until(
            partial(says, machine, f"nano-{name}.service", "waiting for the scheduler's enrolment socket"),
            HEALED_S,
            f"{name} to wait",
            partial(machine.journal, f"nano-{name}.service"),
        )
    machine.tell("systemctl", "start", "nano.target")
    wait_active(machine)
    return machine


def says(machine: Machine, unit: str, words: str) -> bool:
    return words in machine.unit(unit, "StatusText")["StatusText"]


@pytest.fixture(scope="module")
def story(running: Machine, image: Path, tmp_path_factory: pytest.TempPathFactory) -> "Teller":
    """The first instance runs, has its address and answers."""
    teller = Teller(running, image, tmp_path_factory.mktemp("story"))
    teller.first = teller.tell()
    return teller


class Teller:
    """Tells the story of the first instance; told again, it makes nothing again and tells the same."""

    def __init__(self, machine: Machine, image: Path, folder: Path) -> None:
        self.first: dict[str, Any] = {}
        self._machine = machine
        self._folder = folder
        data = machine.root / "var/lib/nano/gateway"
        credential = json.loads((data / "credentials.json").read_text())["credentials"][0]
        settings = {
            "url": "https://127.0.0.1:5850",
            "id": credential["id"],
            "key": credential["key"],
            "certificate": data / "tls/certificate.pem",
        }
        (folder / "nanoctl.toml").write_text(toml(settings))
        self._command = (
            *(sys.executable, "-m", "nano.fleet.story", "create", "--auto-start"),
            *("--settings", str(folder / "nanoctl.toml"), "--result", str(folder / "result.json")),
            *("--image", str(image), "--subnet", "10.57.0.0/24"),
        )

    def tell(self) -> dict[str, Any]:
        command = (*self._command, "--began", str(time.monotonic()))
        done = subprocess.run(
            self._machine.in_network(*command), capture_output=True, text=True, check=False, timeout=200
        )
        assert done.returncode == 0, f"{done.stdout}{done.stderr}{self._machine.journal('nano-*', 60)}"
        return dict(json.loads((self._folder / "result.json").read_text())["told"])


def wait_active(machine: Machine) -> None:
    wait_healed(machine, dict.fromkeys(UNITS, "0"))


def lives(machine: Machine) -> dict[str, str]:
    """The main process of each unit."""
    return {unit: machine.unit(unit, "MainPID")["MainPID"] for unit in UNITS}


def wait_healed(machine: Machine, before: dict[str, str]) -> None:
    """Returns when each of these units is active with another main process than the one named here."""
    for unit, pid in before.items():

        def is_healed(unit: str = unit, pid: str = pid) -> bool:
            now = machine.unit(unit, "ActiveState", "MainPID")
            return now["ActiveState"] == "active" and now["MainPID"] not in {"0", pid}

        wait_until(is_healed, HEALED_S, f"{unit} to be active", partial(machine.journal, unit))


def qemu(machine: Machine) -> str:
    """libvirt's number of the machine that runs: another one after each start."""
    return machine.tell("virsh", "-q", "-c", "qemu:///system", "list", "--id").strip()


def test_each_unit_starts_in_any_order_and_says_what_it_does(running: Machine) -> None:
    for name, unit in units.UNITS.items():
        shown = running.unit(f"{unit}.service", "User", "StatusText", "NRestarts", "Slice", "WatchdogUSec")
        assert shown["User"] == unit
        assert shown["StatusText"], name
        assert shown["Slice"] == "nano.slice"
        assert shown["WatchdogUSec"] == "30s"


def test_a_guest_is_made_and_answers(story: Teller, running: Machine) -> None:
    assert story.first["simulated"] is False
    assert story.first["address"].startswith("10.57.0.")
    assert qemu(running)


def test_volumes_belong_to_the_cell_while_qemu_runs_on_them(story: Teller, running: Machine) -> None:
    storage = "/var/lib/nano/cell/storage"
    shown = running.tell("find", storage, "-type", "f", "-printf", "%M %u %g\n").splitlines()
    assert sorted(shown) == ["-rw-r----- nano-cell nano-volumes", "-rw-rw---- nano-cell nano-volumes"]


def test_the_portal_lets_the_first_user_in_and_shows_the_zone(story: Teller, running: Machine) -> None:
    data = running.root / "var/lib/nano/portal"
    visit = (sys.executable, "-m", "tests.support.portal_visit", str(data / "tls/certificate.pem"))
    code = (data / "first-start-code").read_text().strip()
    done = subprocess.run(
        running.in_network(*visit, code), cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr + running.journal("nano-portal.service")
    assert json.loads(done.stdout)["instances"][1] == 1  # that runs


@pytest.mark.parametrize(
    ("user", "role", "says"),
    [
        ("nano-gateway", "gateway", "granted"),
        ("nano-gateway", "scheduler", "user nano-gateway"),
        ("nano-gateway", "cell", "it is for nano-cell"),
        ("nano-dhcp", "gateway", "Permission denied"),
        ("nano-portal", "gateway", "Permission denied"),
    ],
)
def test_a_service_gets_no_certificate_but_its_own(running: Machine, user: str, role: str, says: str) -> None:
    ask = (
        "import asyncio, pathlib, sys, tempfile\n"
        "from nano.fabric.joining.enrolment import enrol\n"
        "from nano.model.peers import Role\n"
        "with tempfile.TemporaryDirectory() as folder:\n"
        "    asyncio.run(enrol(pathlib.Path('/run/nano/scheduler/enrolment.sock'), Role(sys.argv[1]), 'x',\n"
        "        pathlib.Path(folder), scheduler_user='nano-scheduler'))\n"
        "print('granted')\n"
    )
    become = ("setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups")
    done = subprocess.run(
        running.within(*become, f"{PREFIX}/bin/python3", "-I", "-c", ask, role),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode == 0) == (says == "granted"), done.stderr
    assert says in done.stdout + done.stderr


@pytest.mark.parametrize("unit", UNITS)
def test_a_service_killed_is_started_again_and_the_guest_runs_on(
    story: Teller, running: Machine, unit: str
) -> None:
    before, guest = lives(running)[unit], qemu(running)
    running.tell("systemctl", "kill", "--signal=KILL", "--kill-whom=main", unit)
    wait_healed(running, {unit: before})
    assert story.tell() == story.first
    assert qemu(running) == guest


def test_services_that_hang_are_shot_by_the_watchdog_and_started_again(
    story: Teller, running: Machine
) -> None:
    before, guest = lives(running), qemu(running)
    running.tell("systemctl", "kill", "--signal=STOP", "--kill-whom=main", *UNITS)
    wait_healed(running, before)
    for unit in UNITS:
        assert "Watchdog timeout" in running.journal(unit, 300), unit
    assert "asyncio" in running.journal("nano-scheduler.service", 300)  # where it hung
    assert story.tell() == story.first
    assert qemu(running) == guest


def test_a_reboot_brings_all_back(story: Teller, running: Machine) -> None:
    running.write("etc/systemd/system/nano-cell.service.d/container.conf", LIFE_OF_ITS_OWN)
    running.reboot()
    wait_active(running)
    assert story.tell() == story.first
    assert qemu(running)
