"""A bare Debian of its own with systemd as PID 1, in a container: what units are tried on for real.

Its tree is built from packages once and kept in the cache; each machine has a copy that goes with it, a
network of its own, and this checkout's code bound in, run by the tree's Python.
"""

import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from nano.fleet.tools import run_tool

ROOT = Path(__file__).parents[2]

SUITES = {(3, 11): "bookworm", (3, 13): "trixie"}
"""The Debian whose Python runs what this checkout's environment has installed."""

PACKAGES = (
    "dbus", "iproute2", "libvirt-clients", "libvirt-daemon-driver-qemu", "libvirt-daemon-system", "python3",
    "qemu-system-x86", "qemu-utils", "systemd", "systemd-sysv", "udev",
)  # fmt: skip

PREFIX = "/opt/nano"
"""Where the machine finds Nano: a virtual environment, as an installer would make it."""

BOOT_S = 60.0
STOP_S = 60.0

_NOT_NEEDED = (
    "apt-daily.timer", "apt-daily-upgrade.timer", "e2scrub_all.timer", "e2scrub_reap.service",
    "fstrim.timer", "logrotate.timer", "dpkg-db-backup.timer", "console-getty.service",
    "systemd-networkd-wait-online.service",
)  # fmt: skip

_POWER_OFF = signal.SIGRTMIN + 4
"""What systemd(1) as PID 1 takes for `systemctl poweroff`."""

_REBOOTS = 133
"""How systemd-nspawn ends when it shall be started again, as it leaves that to whoever keeps its unit."""

_PROPAGATE = Path("/run/systemd/nspawn/propagate")
"""systemd-nspawn removes its folder there only where /run is a tmpfs."""

_CONTROL_GROUPS = """\
[Unit]
Description=Control groups of version 1 may be written (systemd-nspawn mounts them read-only)
DefaultDependencies=no
Before=sysinit.target
ConditionPathIsDirectory=/sys/fs/cgroup/cpu

[Service]
Type=oneshot
ExecStart=sh -c 'for each in /sys/fs/cgroup/*; do mount -o remount,bind,rw "$each" || true; done'

[Install]
WantedBy=sysinit.target
"""


def tree(cache: Path) -> Path:
    """The machine's root folder as a tar file in `cache`, built now if this list of packages is not there."""
    suite = SUITES.get(sys.version_info[:2])
    assert suite, f"no Debian has Python {sys.version.split()[0]}: run this with one of {list(SUITES)}"
    digest = hashlib.sha256(" ".join((suite, *PACKAGES)).encode()).hexdigest()[:16]
    target = cache / f"machine-{digest}.tar"
    if not target.exists():
        cache.mkdir(parents=True, exist_ok=True)
        draft = target.with_suffix(".part.tar")
        run_tool("mmdebstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", suite, str(draft))
        draft.rename(target)
    return target


class Machine:
    """One machine. Its root folder can be looked into from here while it runs, and while it does not."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "root"
        self._nspawn: subprocess.Popen[bytes] | None = None
        self.name = f"nano-machine-{os.getpid()}"
        self._groups = ControlGroups(self.name)

    # Life

    def unpack(self, tar: Path) -> None:
        self.root.mkdir()
        run_tool("tar", "-C", str(self.root), "-xf", str(tar))
        self.write("etc/hostname", "machine\n")
        self.write("etc/hosts", "127.0.0.1 localhost machine\n")
        for unit in _NOT_NEEDED:
            self.link(f"etc/systemd/system/{unit}", "/dev/null")
        self.write("etc/systemd/system/control-groups.service", _CONTROL_GROUPS)
        self.link(
            "etc/systemd/system/sysinit.target.wants/control-groups.service", "../control-groups.service"
        )
        self._environment()

    def _environment(self) -> None:
        """As `python3 -m venv` makes it; the packages and the code of this checkout are bound in."""
        version = ".".join(str(each) for each in sys.version_info[:2])
        self.link(f"{PREFIX}/bin/python3", "/usr/bin/python3")
        self.write(f"{PREFIX}/pyvenv.cfg", "home = /usr/bin\ninclude-system-site-packages = false\n")
        self.write(
            f"{PREFIX}/lib/python{version}/site-packages/nano.pth", f"{PREFIX}/source\n{PREFIX}/packages\n"
        )

    def boot(self) -> None:
        """Switch it on; returns when systemd has started all that it was told to."""
        bound = {
            ROOT / "nano": f"{PREFIX}/source/nano",
            ROOT / "services": f"{PREFIX}/source/services",
            Path(sysconfig.get_path("purelib")): f"{PREFIX}/packages",
        }
        with (self.folder / "console.log").open("ab") as console:
            self._nspawn = subprocess.Popen(
                [
                    *self._groups.entered(),
                    # When the tests are killed without a word, systemd-nspawn shuts the machine down.
                    *("setpriv", "--pdeathsig", "TERM"),
                    *("systemd-nspawn", "--quiet", "--boot", "--register=no", "--keep-unit"),
                    *("--directory", str(self.root), f"--machine={self.name}", "--hostname=machine"),
                    *(
                        "--console=pipe",
                        "--private-network",
                        "--link-journal=no",
                        "--resolv-conf=off",
                        "--timezone=off",
                    ),
                    *("--capability=all", "--system-call-filter=@known", "--bind=/dev/net/tun"),
                    *(f"--bind-ro={source}:{place}" for source, place in bound.items()),
                ],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
            )
        wait_until(lambda: self.is_running, BOOT_S, "systemd to boot", self.console)

    @property
    def is_running(self) -> bool:
        assert self._nspawn is not None
        assert self._nspawn.poll() is None, self.console()
        state = self.tell("systemctl", "is-system-running", check=False).strip()
        return state in {"running", "degraded"}

    @property
    def leader(self) -> int:
        """The process that is systemd there; 0: it does not run."""
        nspawn = self._nspawn
        if nspawn is None or nspawn.poll() is not None:
            return 0
        for pid in Path(f"/proc/{nspawn.pid}/task/{nspawn.pid}/children").read_text().split():
            with contextlib.suppress(OSError):
                if Path(f"/proc/{pid}/comm").read_text() == "systemd\n":
                    return int(pid)
        return 0

    def reboot(self) -> None:
        """As an administrator does it; returns when the next life has booted."""
        assert self._nspawn is not None
        self.tell("systemctl", "reboot")
        assert self._nspawn.wait(STOP_S) == _REBOOTS
        self.boot()

    def stop(self) -> None:
        """Switch it off, by force if it does not heed; nothing of it runs afterwards."""
        nspawn, leader = self._nspawn, self.leader
        if nspawn is None:
            return
        if leader:
            os.kill(leader, _POWER_OFF)
        try:
            nspawn.wait(STOP_S)
        except subprocess.TimeoutExpired:
            if leader := self.leader:  # the whole container ends with its PID 1
                os.kill(leader, signal.SIGKILL)
            nspawn.kill()
            nspawn.wait()
        self._nspawn = None
        self._groups.remove()
        shutil.rmtree(_PROPAGATE / self.name, ignore_errors=True)

    # Talking to it

    def within(self, *command: str) -> list[str]:
        """`command` as root of the machine."""
        return ["nsenter", "-t", str(self.leader), "-m", "-u", "-i", "-n", "-p", "-C", *command]

    def in_network(self, *command: str) -> list[str]:
        """`command` of this host in the machine's network."""
        return ["nsenter", "-t", str(self.leader), "-n", *command]

    def tell(self, *command: str, check: bool = True) -> str:
        """What `command` printed there. Without `check` also when it failed, or the machine is not up."""
        if not self.leader and not check:
            return ""
        done = subprocess.run(
            self.within(*command),
            capture_output=True,
            text=True,
            check=False,
            env={"PATH": "/usr/bin:/usr/sbin"},
        )
        assert not check or done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def unit(self, name: str, *properties: str) -> dict[str, str]:
        """Properties of a unit as `systemctl show` tells them."""
        said = self.tell("systemctl", "show", name, f"--property={','.join(properties)}")
        return dict(line.split("=", 1) for line in said.splitlines())

    def journal(self, unit: str, lines: int = 30) -> str:
        return self.tell(
            "journalctl", "--no-pager", "--quiet", f"--lines={lines}", f"--unit={unit}", check=False
        )

    def console(self) -> str:
        return "\n".join((self.folder / "console.log").read_text(errors="replace").splitlines()[-30:])

    # Its files

    def write(self, name: str, text: str) -> None:
        path = self.root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def link(self, name: str, target: str) -> None:
        path = self.root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.symlink_to(target)


class ControlGroups:
    """One group of ours in each hierarchy of version 1: all groups of a machine are below, and end with it.

    Without, systemd-nspawn and the machine's libvirt make theirs at the top and leave them behind. Of version
    2 there is one hierarchy, in which systemd-nspawn cleans up by itself.
    """

    def __init__(self, name: str) -> None:
        folders = {each.resolve() for each in Path("/sys/fs/cgroup").iterdir()}
        self._groups = [each / name for each in sorted(folders) if (each / "cgroup.clone_children").exists()]

    def entered(self) -> list[str]:
        """What to put before a command to have it run in them; they are made now."""
        for group in self._groups:
            group.mkdir(exist_ok=True)
            for member in ("cpuset.cpus", "cpuset.mems"):
                if (group / member).exists():
                    (group / member).write_text((group.parent / member).read_text())
        enter = 'while [ "$1" != -- ]; do echo $$ >"$1/cgroup.procs"; shift; done; shift; exec "$@"'
        return ["sh", "-c", enter, "sh", *(str(group) for group in self._groups), "--"]

    def remove(self) -> None:
        for group in self._groups:
            for folder, _, _ in os.walk(group, topdown=False):
                Path(folder).rmdir()


@contextlib.contextmanager
def unpacked(cache: Path) -> Iterator[Machine]:
    """A machine that has not booted yet; switched off and removed behind the caller, whatever happens."""
    tar = tree(cache)
    folder = Path(tempfile.mkdtemp(prefix="nano-machine-", dir="/var/tmp"))
    machine = Machine(folder)
    try:
        machine.unpack(tar)
        yield machine
    finally:
        machine.stop()
        shutil.rmtree(folder)


def wait_until(done: Callable[[], object], limit_s: float, what: str, tell: Callable[[], str]) -> None:
    """Look until `done`; an assertion with what `tell` says when that takes longer than `limit_s`."""
    end = time.monotonic() + limit_s
    while not done():
        assert time.monotonic() < end, f"waited {limit_s:.0f} s for {what}:\n{tell()}"
        time.sleep(0.2)
