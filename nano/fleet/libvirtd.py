"""Which libvirtd the cell talks to: the system's where it can serve us, else one of our own.

A private one has its folders under the fleet's, in a mount namespace of its own, and runs QEMU as root.
Debian's defaults cost 80 s for each start on machines where /dev/kvm is closed to QEMU's user (libvirt
then probes QEMU again each time), and volumes below a folder with mode 0700 could not be opened.
"""

import hashlib
import os
import shutil
import socket
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from nano.fleet.tools import Progress, run_tool, tool_succeeds
from nano.model.errors import Conflict

_SYSTEM_SOCKET = Path("/run/libvirt/libvirt-sock")
_SCRIPT = Path(__file__).with_name("private-libvirtd.sh")
_LONGEST_SOCKET_PATH = 107
"""What fits `sun_path` of unix(7) with its closing zero."""
_QEMU_CONF = """\
user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
stdio_handler = "file"
namespaces = []
"""


@dataclass(frozen=True, slots=True)
class Libvirtd:
    """A libvirtd to use; `command` starts it where it is ours, and is empty where the system keeps it."""

    uri: str
    socket: Path
    command: tuple[str, ...] = ()


def choose_libvirtd(root: Path, cache: Path, *, isolated: bool) -> Libvirtd:
    """The libvirtd for the fleet in `root`.

    `isolated` says that we are in a network namespace: the system's libvirtd lives outside and could not see
    our bridge. `cache` is shared by all fleets of a checkout: what libvirt found out about QEMU takes it 4 s.
    """
    if not isolated and _system_serves(root):
        return Libvirtd("qemu:///system", _SYSTEM_SOCKET)
    return _private(root / "libvirt", cache)


def _system_serves(root: Path) -> bool:
    return Path("/run/systemd/system").is_dir() and accepts(_SYSTEM_SOCKET) and open_to_others(root)


def open_to_others(folder: Path) -> bool:
    """Whether QEMU under its own user could reach files below `folder`: each folder lets others pass."""
    return all(each.stat().st_mode & stat.S_IXOTH for each in (folder, *folder.parents) if each.exists())


def accepts(path: Path) -> bool:
    """Whether somebody answers on the UNIX socket `path`."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(2.0)
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True


def _private(folder: Path, cache: Path) -> Libvirtd:
    run = run_folder(folder)
    for name in ("etc", "lib", "log/qemu"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    shared_cache = cache / "libvirt"
    shared_cache.mkdir(parents=True, exist_ok=True)
    if not (folder / "cache").is_symlink():
        (folder / "cache").symlink_to(shared_cache)
    _forget_last_boot(run)
    (folder / "etc/qemu.conf").write_text(_QEMU_CONF)
    settings = folder / "etc/libvirtd.conf"
    if not settings.exists():
        settings.write_text(_libvirtd_conf(str(uuid4())))
    path = run / "libvirt-sock"
    command = ("unshare", "--mount", "--propagation", "private", str(_SCRIPT), str(folder), str(run))
    return Libvirtd(f"qemu+unix:///system?socket={path}", path, command)


def run_folder(folder: Path) -> Path:
    """Where the sockets are: beside the rest, or, where that path is too long for a socket, in /run."""
    beside = folder / "run"
    if len(bytes(beside / "libvirt-sock")) <= _LONGEST_SOCKET_PATH:
        return beside
    return Path("/run") / f"nano-{hashlib.sha256(bytes(folder)).hexdigest()[:12]}"


def _forget_last_boot(run: Path) -> None:
    """libvirt takes what is in its run folder for guests of this boot; after a reboot of the host none is."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text()
    marker = run / "boot-id"
    if not marker.exists() or marker.read_text() != boot:
        shutil.rmtree(run, ignore_errors=True)
        run.mkdir(parents=True, mode=0o700)
        marker.write_text(boot)


def _libvirtd_conf(host_uuid: str) -> str:
    """The UUID is made once: two hosts with one and the same would refuse to move guests to each other."""
    return (
        f'host_uuid = "{host_uuid}"\n'
        'unix_sock_rw_perms = "0700"\n'
        'auth_unix_ro = "none"\n'
        'auth_unix_rw = "none"\n'
        'log_outputs = "2:file:/var/log/libvirt/libvirtd.log"\n'
    )


def stop_guests(uri: str, names: list[str], say: Progress, *, patience_s: float = 20.0) -> None:
    """Press the power button of each guest; who still runs after `patience_s` loses its power."""
    for name in names:
        # Refused to one that stops by itself meanwhile, which is as good: who still runs is looked at below.
        tool_succeeds("virsh", "-q", "-c", uri, "shutdown", name)
    if names:
        say(f"waiting for {len(names)} guest(s) to shut down")
    end = time.monotonic() + patience_s
    while set(names) & set(running_guests(uri)) and time.monotonic() < end:
        time.sleep(0.25)
    for name in set(names) & set(running_guests(uri)):
        say(f"{name} did not heed its power button: switching it off")
        tool_succeeds("virsh", "-q", "-c", uri, "destroy", name)
    if still := set(names) & set(running_guests(uri)):
        raise Conflict(f"libvirt could not switch off {', '.join(sorted(still))}; see its log", subject=uri)


def running_guests(uri: str, root: Path | None = None) -> list[str]:
    """The names of the domains that run; with `root` only of those with a disk below it.

    The system's libvirtd runs the guests of others too, which are none of our business.
    """
    names = run_tool("virsh", "-q", "-c", uri, "list", "--name").split()
    if root is None:
        return names
    return [name for name in names if f"{root}/" in run_tool("virsh", "-q", "-c", uri, "domblklist", name)]


def defined_guests(uri: str) -> list[str]:
    """The names of all domains, running or not."""
    return run_tool("virsh", "-q", "-c", uri, "list", "--all", "--name").split()


def daemon_environment() -> dict[str, str]:
    """What a libvirtd of ours may inherit: nothing that points it at a user's session."""
    kept = ("PATH", "HOME", "LANG", "NOTIFY_SOCKET")
    return {name: value for name, value in os.environ.items() if name in kept}
