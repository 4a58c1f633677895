"""This machine made ready for guests, and cleared of them again: bridge, libvirtd, leftover processes."""

import contextlib
import os
import signal
import stat
import subprocess
import time
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv4Network
from pathlib import Path

from nano.files import replace_file
from nano.fleet.bridge import (
    Bridge,
    ensure_bridge,
    free_subnet,
    host_networks,
    random_mac,
    remove_bridge,
)
from nano.fleet.configuration import toml
from nano.fleet.libvirtd import Libvirtd, accepts, choose_libvirtd, running_guests, stop_guests
from nano.fleet.processes import MARK, PATIENCE_S, processes_of
from nano.fleet.tools import Progress
from nano.model.errors import Conflict, Invalid, TimedOut


@dataclass(frozen=True, slots=True)
class Place:
    """Where a fleet lives, and on what."""

    root: Path
    """Its folder: config/, data/, log/, run/, libvirt/."""
    cache: Path
    """What may be shared by fleets and lost at any time."""
    simulated: bool = False
    """No bridge and no QEMU: the cell pretends."""
    isolated: bool = False
    """In a network namespace of its own."""
    open: bool | None = None
    """Whether servers elsewhere may join: its fabric is on every interface then, else on loopback only. None:
    as it was, and closed at the first start."""
    joined: bool = False
    """Only a cell, of a zone whose scheduler is elsewhere."""


@dataclass(frozen=True, slots=True)
class Settled:
    """What was decided at a fleet's first start and stays: `config/fleet.toml`."""

    bridge: Bridge
    simulated: bool
    open: bool = False
    joined: bool = False


@dataclass(frozen=True, slots=True)
class Host:
    """What the guests of one fleet stand on; `libvirtd` is none where they are simulated."""

    bridge: Bridge
    libvirtd: Libvirtd | None
    open: bool = False
    """Its fabric is on every interface."""


def prepare(place: Place, say: Progress) -> Host:
    """Bridge and libvirtd as this fleet wants them; doing it again changes nothing."""
    stop_leftovers(place.root, say)
    settled = _settled(place)
    if place.simulated:
        return Host(settled.bridge, None, settled.open)
    ensure_bridge(settled.bridge, str(place.root))
    libvirtd = choose_libvirtd(place.root, place.cache, isolated=place.isolated)
    return Host(settled.bridge, libvirtd, settled.open)


def _settled(place: Place) -> Settled:
    """As `config/fleet.toml` says, which is written at the first start: what guests stand on must stay."""
    path = place.root / "config" / "fleet.toml"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        subnet = free_subnet([] if place.simulated else host_networks())
        settings = {"bridge": "nano0", "subnet": str(subnet), "simulated": place.simulated}
        if place.joined:
            settings |= {"joined": True, "mac": random_mac()}
        elif place.open:
            settings |= {"open": True}
        path.write_text(toml(settings))
    settled = read_fleet(path)
    anew = "or run ./dev down and remove that folder to begin anew"
    if settled.joined != place.joined:
        kind, how = ("joined a zone elsewhere", "join") if settled.joined else ("is a whole zone", "up")
        raise Conflict(
            f"the fleet in {place.root} {kind}: start it with ./dev {how}, {anew}", subject=str(place.root)
        )
    if settled.simulated != place.simulated:
        kind, how = ("simulated", "with") if settled.simulated else ("real", "without")
        raise Conflict(
            f"the fleet in {place.root} is {kind}: start it {how} --simulated, {anew}",
            subject=str(place.root),
        )
    return settled if place.open is None else replace(settled, open=place.open)


def settle_open(root: Path, *, is_open: bool) -> None:
    """Keep in `config/fleet.toml` whether servers elsewhere may join."""
    path = root / "config" / "fleet.toml"
    found = tomllib.loads(path.read_text())
    if bool(found.get("open", False)) != is_open:
        mode = stat.S_IMODE(path.stat().st_mode)
        replace_file(path, toml(found | {"open": is_open}).encode(), mode=mode)


def read_fleet(path: Path) -> Settled:
    """What is settled; `Invalid` names what is wrong with the file."""
    try:
        found = tomllib.loads(path.read_text())
        return Settled(
            Bridge(str(found["bridge"]), IPv4Network(found["subnet"]), str(found.get("mac", ""))),
            bool(found["simulated"]),
            open=bool(found.get("open", False)),
            joined=bool(found.get("joined", False)),
        )
    except (tomllib.TOMLDecodeError, KeyError, ValueError) as error:
        raise Invalid(
            "fleet.toml",
            f"{path}: {error!r}; it needs `bridge`, `subnet` and `simulated`; correct or remove it",
        ) from error


def clear(place: Place, say: Progress) -> None:
    """Stop this fleet's guests and processes and remove its bridge; whatever is not there is passed over."""
    stop_leftovers(place.root, say)
    path = place.root / "config" / "fleet.toml"
    if not path.exists():
        return
    settled = read_fleet(path)
    if settled.simulated:
        return
    libvirtd = choose_libvirtd(place.root, place.cache, isolated=place.isolated)
    with _reachable(libvirtd, place):
        stop_guests(libvirtd.uri, running_guests(libvirtd.uri, place.root), say)
    if remove_bridge(settled.bridge.name, str(place.root)):
        say(f"removed the bridge {settled.bridge.name}")


@contextlib.contextmanager
def _reachable(libvirtd: Libvirtd, place: Place) -> Iterator[None]:
    """A private libvirtd is started for the while: guests outlive it, and only it can switch them off."""
    if not libvirtd.command:
        yield
        return
    environment = {**os.environ, MARK: str(place.root)}
    with subprocess.Popen(libvirtd.command, env=environment, start_new_session=True) as daemon:
        try:
            if not wait_until(lambda: accepts(libvirtd.socket), 30.0):
                raise TimedOut(f"libvirtd does not answer; see {place.root}/libvirt/log/libvirtd.log")
            yield
        finally:
            daemon.terminate()


def stop_leftovers(root: Path, say: Progress) -> None:
    """End what an earlier fleet of this folder left running when it was killed. Guests are not touched."""
    for pid, command in processes_of(root).items():
        say(f"stopping process {pid}, left by an earlier run: {command[:80]}")
        _signal(pid, signal.SIGTERM)
    if not wait_until(lambda: not processes_of(root), PATIENCE_S):
        for pid in processes_of(root):
            _signal(pid, signal.SIGKILL)


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):  # it ended by itself meanwhile
        os.kill(pid, number)


def wait_until(done: Callable[[], bool], limit_s: float) -> bool:
    """Look until `done` or the limit; whether it was done."""
    end = time.monotonic() + limit_s
    while not done():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True
