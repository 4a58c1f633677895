"""This machine made ready for guests and cleared again: by real processes, in a network of its own."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nano.fleet.bridge import bridge_is_there
from nano.fleet.host import Place, clear, prepare, wait_until
from nano.fleet.libvirtd import accepts, daemon_environment, open_to_others, run_folder
from nano.fleet.processes import MARK, processes_mentioning, processes_of
from nano.fleet.tools import run_tool
from nano.model.errors import Conflict, Invalid
from tests.support.netns import fresh_network

__all__ = ["fresh_network"]

pytestmark = [
    pytest.mark.hypervisor,
    pytest.mark.skipif(os.geteuid() != 0, reason="bridges and a libvirtd of our own need root"),
]


@pytest.fixture
def place(fresh_network: None, tmp_path: Path) -> Place:
    cache = Path("var/cache").absolute()
    cache.mkdir(parents=True, exist_ok=True)
    return Place(tmp_path, cache, isolated=True)


def test_preparing_twice_changes_nothing_and_clearing_removes_it(place: Place) -> None:
    host = prepare(place, print)
    assert prepare(place, print) == host
    assert str(host.bridge.gateway) in run_tool("ip", "address", "show", "nano0")
    clear(place, print)
    assert not bridge_is_there("nano0")
    assert processes_mentioning(place.root) == {}
    clear(place, print)


def test_the_subnet_stays_as_chosen_when_the_bridge_is_made_again(place: Place) -> None:
    run_tool("ip", "address", "add", "10.57.0.9/24", "dev", "lo")
    chosen = prepare(place, print).bridge
    assert str(chosen.subnet) == "10.57.1.0/24"
    clear(place, print)
    run_tool("ip", "address", "delete", "10.57.0.9/24", "dev", "lo")
    assert prepare(place, print).bridge == chosen


def test_a_private_libvirtd_is_root_to_our_folders_alone(place: Place) -> None:
    daemon = prepare(place, print).libvirtd
    assert daemon is not None
    with subprocess.Popen(daemon.command, env=daemon_environment(), start_new_session=True) as running:
        assert wait_until(lambda: accepts(daemon.socket), 30)
        assert run_tool("virsh", "-q", "-c", daemon.uri, "list", "--all").strip() == ""
        run_tool("virsh", "-q", "-c", daemon.uri, "capabilities")
        running.terminate()
    assert (place.root / "libvirt" / "log" / "libvirtd.log").exists()


def test_what_a_killed_fleet_left_is_ended_before_the_next(place: Place) -> None:
    waits = "import signal; print('up', flush=True); signal.pause()"
    said: list[str] = []
    with subprocess.Popen(
        [sys.executable, "-c", waits], env={**os.environ, MARK: str(place.root)}, stdout=subprocess.PIPE
    ) as left:
        assert left.stdout is not None
        left.stdout.readline()
        prepare(place, said.append)
        assert left.wait() == -signal.SIGTERM
    assert str(left.pid) in said[0]
    assert processes_of(place.root) == {}


def test_a_fleet_does_not_change_between_real_and_simulated(place: Place) -> None:
    prepare(place, print)
    with pytest.raises(Conflict, match="without --simulated"):
        prepare(Place(place.root, place.cache, simulated=True, isolated=True), print)


def test_a_broken_fleet_file_is_named(place: Place) -> None:
    (place.root / "config").mkdir()
    (place.root / "config" / "fleet.toml").write_text('bridge = "nano0"\n')
    with pytest.raises(Invalid, match="subnet"):
        prepare(place, print)


def test_sockets_move_to_run_when_the_folder_is_deep(tmp_path: Path) -> None:
    assert run_folder(tmp_path) == tmp_path / "run"
    deep = tmp_path / ("x" * 100)
    assert len(bytes(run_folder(deep) / "libvirt-sock")) < 60
    assert run_folder(deep) != run_folder(tmp_path / ("y" * 100))


def test_a_closed_folder_is_not_open_to_others(tmp_path: Path) -> None:
    for folder in (tmp_path, *tmp_path.parents):
        if not folder.stat().st_mode & 0o001:
            assert not open_to_others(tmp_path)
            return
    assert open_to_others(tmp_path)
    tmp_path.chmod(0o700)
    assert not open_to_others(tmp_path)
