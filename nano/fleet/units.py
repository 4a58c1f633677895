"""What systemd needs on an installed host, made from `deploy/systemd`: units, users, folders, settings.

    python -m nano.fleet.units --root / --bridge br0 [--prefix /opt/nano] [--services cell,responder]

Units are written anew each time; configuration files only where there are none, since people edit them.
"""

import argparse
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from nano.fleet.configuration import Settings, toml
from nano.fleet.tools import run_tool
from nano.model.errors import Invalid, NanoError

TEMPLATES = Path(__file__).parents[2] / "deploy" / "systemd"

UNITS = {
    "scheduler": "nano-scheduler",
    "imagestore": "nano-imagestore",
    "addresspool": "nano-addresspool",
    "gateway": "nano-gateway",
    "portal": "nano-portal",
    "responder": "nano-dhcp",
    "cell": "nano-cell",
}
"""The unit of each process, which is also the name of its user."""

GROUPING = ("nano.target", "nano.slice")

_ENROLLED = ("imagestore", "addresspool", "gateway", "cell")
_ENROLMENT = "/run/nano/scheduler/enrolment.sock"
_RESPONDER = "/run/nano/dhcp/dhcp.sock"
_STEPPED_RESTARTS = 254
"""The systemd that first knows RestartSteps=; an older one waits equally long before each start."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where Nano is on a host, and the names that its distribution gives to what it stands on."""

    prefix: str = "/opt/nano"
    """A virtual environment: `bin/python3` with Nano installed."""
    config: str = "/etc/nano"
    libvirt_group: str = "libvirt"
    """Who is in it may ask libvirt for everything."""
    qemu_user: str = "libvirt-qemu"
    """Whom libvirt runs QEMU as; `qemu` on Red Hat's and its kin."""
    systemd: int = 252


_HIDDEN = ("/home/", "/root/", "/run/user/", "/tmp/", "/var/")  # noqa: S108 - named, not used
"""What ProtectHome=, PrivateTmp= and NoExecPaths= keep from a unit."""


def check(layout: Layout) -> None:
    """`Invalid` names the folder that no unit could use, and why."""
    for field in ("prefix", "config"):
        folder = str(getattr(layout, field))
        if not re.fullmatch(r"(/[A-Za-z0-9._+-]+)+", folder):
            raise Invalid(
                field, f"{field} is {folder!r}: give an absolute path of letters, digits and . _ + -"
            )
        if f"{folder}/".startswith(_HIDDEN):
            raise Invalid(
                field, f"{field} is {folder}, which the units cannot see: give one such as /opt/nano"
            )


def rendered(layout: Layout, services: Iterable[str] = tuple(UNITS)) -> dict[str, str]:
    """Text by path below the host's root, for these processes (names of `UNITS`) and what groups them.

    `Invalid` names a process that has no unit, or a folder that no unit could name.
    """
    check(layout)
    services = tuple(services)
    if unknown := set(services) - set(UNITS):
        raise Invalid("services", f"no unit for {', '.join(sorted(unknown))}: there are {', '.join(UNITS)}")
    places = {
        **{f"{UNITS[name]}.service": "etc/systemd/system" for name in services},
        **dict.fromkeys(GROUPING, "etc/systemd/system"),
    }
    made = {f"{folder}/{name}": _filled(name, layout) for name, folder in places.items()}
    made["etc/sysusers.d/nano.conf"] = _filled("nano.sysusers", layout)
    if "cell" in services:
        made["etc/sysusers.d/nano-cell.conf"] = _filled("nano-cell.sysusers", layout)
    made["etc/tmpfiles.d/nano.conf"] = _filled("nano.tmpfiles", layout)
    made["etc/sysctl.d/60-nano.conf"] = _filled("nano.sysctl", layout)
    return made


def settings(bridge: str, services: Iterable[str] = tuple(UNITS)) -> dict[str, Settings]:
    """What each process is told so that they find and believe each other under users of their own."""
    enrols = {"fabric": {"enrolment": _ENROLMENT, "enrolment_user": UNITS["scheduler"]}}
    cell = {
        "bridge": bridge,
        "responder": _RESPONDER,
        "responder_user": UNITS["responder"],
        "volumes_group": "nano-volumes",
    }
    told: dict[str, Settings] = {
        "scheduler": {
            "fabric": {"enrolment": _ENROLMENT},
            "enrolment": {"group": "nano", "users": {name: UNITS[name] for name in _ENROLLED}},
        },
        **dict.fromkeys(_ENROLLED, enrols),
        "cell": {**cell, **enrols},
        "responder": {
            "bridge": bridge,
            "socket": _RESPONDER,
            "file": "/var/lib/nano/dhcp/bindings.json",
            "cell_user": UNITS["cell"],
            "cell_group": UNITS["responder"],
        },
        "portal": {
            "gateway_credentials": "gateway-credentials",
            "gateway_certificate": "gateway-certificate",
        },
    }
    return {name: told[name] for name in services}


def install(root: Path, layout: Layout, bridge: str, services: Iterable[str] = tuple(UNITS)) -> list[Path]:
    """Write all of it below `root`; the files that were written. Starting them is left to the caller."""
    services = tuple(services)
    written = []
    for name, text in rendered(layout, services).items():
        written.append(_written(root / name, text))
    for name, told in settings(bridge, services).items():
        path = root / layout.config.lstrip("/") / f"{name}.toml"
        if not path.exists():
            written.append(_written(path, toml(told)))
    return written


def _written(path: Path, text: str) -> Path:
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o644)
    return path


def _filled(name: str, layout: Layout) -> str:
    """The template `name` with everything between two @ put in."""
    is_stepped = layout.systemd >= _STEPPED_RESTARTS
    values = {
        "PREFIX": layout.prefix,
        "CONFIG": layout.config,
        "LIBVIRT_GROUP": layout.libvirt_group,
        "QEMU_USER": layout.qemu_user,
        "BACKOFF": "RestartSteps=5\nRestartMaxDelaySec=30" if is_stepped else "",
        "SUPERVISION": _fragment("supervision.conf"),
        "HARDENING": _fragment("hardening.conf"),
    }
    text = (TEMPLATES / name).read_text()
    while found := re.search(r"@([A-Z_]+)@", text):
        value = values[found[1]]
        whole_line = f"{found[0]}\n"
        text = text.replace(whole_line, f"{value}\n" if value else "").replace(found[0], value)
    return text


def _fragment(name: str) -> str:
    return (TEMPLATES / name).read_text().rstrip("\n")


def systemd_version() -> int:
    """Of this host."""
    return int(run_tool("systemctl", "--version").split()[1])


def main() -> int:
    """Write the files and name them; the exit status is 1, with the reason, when that could not be done."""
    usual = Layout()
    parser = argparse.ArgumentParser(prog="nano.fleet.units")
    parser.add_argument("--root", type=Path, default=Path("/"), help="the host's root folder")
    parser.add_argument("--bridge", default="br0", help="the bridge of the guests' cards")
    parser.add_argument("--services", default=",".join(UNITS), help="which processes, by commas")
    parser.add_argument("--prefix", default=usual.prefix)
    parser.add_argument("--config", default=usual.config)
    parser.add_argument("--libvirt-group", default=usual.libvirt_group)
    parser.add_argument("--qemu-user", default=usual.qemu_user)
    parser.add_argument("--systemd", type=int, help="its version; default: this host's")
    given = parser.parse_args()
    try:
        layout = Layout(
            given.prefix,
            given.config,
            given.libvirt_group,
            given.qemu_user,
            given.systemd or systemd_version(),
        )
        for path in install(given.root, layout, given.bridge, given.services.split(",")):
            print(path)
    except NanoError as failure:
        print(f"{parser.prog}: {failure}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
