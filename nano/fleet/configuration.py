"""The services' configuration files, written where absent: people may edit them, nobody overwrites them."""

import json
import stat
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nano.files import replace_file
from nano.fleet.bridge import Bridge
from nano.fleet.libvirtd import Libvirtd, run_folder
from nano.model.errors import Conflict
from nano.model.peers import PORTS

Settings = Mapping[str, Any]

SERVICES = {
    "scheduler": "services.scheduler",
    "imagestore": "services.imagestore",
    "addresspool": "services.addresspool",
    "gateway": "services.gateway",
    "responder": "services.addresspool.responder",
    "cell": "services.cell",
    "portal": "services.portal",
}
"""The module of each process, by the name of its configuration, its log and its pid file."""

JOINING = ("responder", "cell")
"""Those of a server that joins a zone elsewhere."""

FABRIC_PORTS = {str(role): port for role, port in PORTS.items()}
REST_PORT = 5850
PORTAL_PORT = 5870
_LOOPBACK = "127.0.0.1"


def service_settings(
    root: Path, bridge: Bridge, libvirtd: Libvirtd | None, *, is_open: bool = False
) -> dict[str, Settings]:
    """What each service is told: everything below `root`; without libvirtd the cell pretends.

    The fabric is on loopback, or where servers elsewhere may join on every interface; REST never is.
    """
    run = run_folder(root)
    common = {name: _common(root, run, name, port, is_open=is_open) for name, port in FABRIC_PORTS.items()}
    cell: dict[str, Any] = {"hypervisor": "simulated"}
    if libvirtd is not None:
        # Named here, because /sys shows a bridge of another network namespace to nobody.
        name = f"Cell_{bridge.mac.replace(':', '')}"
        cell = {"id": name, "hypervisor": "libvirt", "libvirt_uri": libvirtd.uri}
    return {
        **common,
        "gateway": {"listen": _LOOPBACK, "port": REST_PORT, **common["gateway"]},
        "cell": {**cell, "bridge": bridge.name, "responder": run / "dhcp.sock", **common["cell"]},
        "responder": _responder(root, bridge),
        "portal": _portal(root),
    }


def joining_settings(root: Path, bridge: Bridge, libvirtd: Libvirtd | None) -> dict[str, Settings]:
    """What the cell of a zone elsewhere is told: its name, and to be found on every interface."""
    run = run_folder(root)
    pretended = {"hypervisor": "simulated"}
    real = {} if libvirtd is None else {"hypervisor": "libvirt", "libvirt_uri": libvirtd.uri}
    cell = {
        "id": f"Cell_{bridge.mac.replace(':', '')}",
        **(real or pretended),
        "bridge": bridge.name,
        "responder": run / "dhcp.sock",
        "paths": {"data": root / "data" / "cell", "run": run},
        "fabric": {"port": FABRIC_PORTS["cell"], "enrolment": ""},
    }
    return {"responder": _responder(root, bridge), "cell": cell}


def _responder(root: Path, bridge: Bridge) -> Settings:
    return {
        "bridge": bridge.name,
        "socket": run_folder(root) / "dhcp.sock",
        "file": root / "data" / "responder" / "bindings.json",
    }


def _portal(root: Path) -> Settings:
    """A client of the gateway: it is given the gateway's key and certificate, and nothing of the fabric."""
    gateway = root / "data" / "gateway"
    return {
        "listen": _LOOPBACK,
        "port": PORTAL_PORT,
        # Nobody but this host hears it, and a browser warns of a certificate that it does not know.
        "tls": False,
        "gateway": f"https://{_LOOPBACK}:{REST_PORT}",
        "gateway_credentials": gateway / "credentials.json",
        "gateway_certificate": gateway / "tls" / "certificate.pem",
        "paths": {"data": root / "data" / "portal"},
    }


def portal_url() -> str:
    """Where the pages are."""
    return f"http://{_LOOPBACK}:{PORTAL_PORT}/"


def first_start_code(root: Path) -> str:
    """What the first user of the portal must know; empty once there is one."""
    path = root / "data" / "portal" / "first-start-code"
    return path.read_text().strip() if path.exists() else ""


def _common(root: Path, run: Path, name: str, port: int, *, is_open: bool) -> dict[str, Any]:
    fabric: dict[str, Any] = {"port": port, "enrolment": run / "enrolment.sock"}
    if is_open:  # the services of this host find each other whatever becomes of its network
        here = {role: f"{_LOOPBACK}:{at}" for role, at in FABRIC_PORTS.items() if role not in {name, "cell"}}
        fabric["discovery"] = {"peers": here}
    else:
        fabric |= {"listen": _LOOPBACK, "discovery": {"interfaces": [_LOOPBACK]}}
    return {"paths": {"data": root / "data" / name, "run": run}, "fabric": fabric}


def write_configuration(root: Path, settings: Mapping[str, Settings]) -> None:
    """Write `config/<name>.toml` for each service that has none, and make what these name."""
    folder = root / "config"
    folder.mkdir(parents=True, exist_ok=True)
    for passed in (root / "data", root / "data" / "cell"):
        passed.mkdir(exist_ok=True)
        # QEMU may run as a user of its own (the system's libvirtd does that): it must get to its volumes.
        passed.chmod(0o711)
    for name, of_service in settings.items():
        path = folder / f"{name}.toml"
        if not path.exists():
            path.write_text(toml(of_service))


def change_fabric(root: Path, before: Mapping[str, Settings], after: Mapping[str, Settings]) -> None:
    """Have the services that are on the fabric as in `before` be on it as in `after`; all, or none.

    What people wrote into other tables stays, and into this one: then `Conflict` says what to write there.
    """
    changed = {}
    for name, of_service in after.items():
        path = root / "config" / f"{name}.toml"
        if "fabric" not in of_service or not path.exists():
            continue
        found = tomllib.loads(path.read_text())
        if found.get("fabric") == _read(of_service)["fabric"]:
            continue
        if found.get("fabric") != _read(before[name])["fabric"]:
            wanted = toml({"fabric": of_service["fabric"]}).strip()
            raise Conflict(
                f"{path}: [fabric] was changed by hand; nothing was done. Write this there:\n{wanted}",
                subject=str(path),
            )
        changed[path] = found | {"fabric": of_service["fabric"]}
    for path, settings in changed.items():
        replace_file(path, toml(settings).encode(), mode=stat.S_IMODE(path.stat().st_mode))


def _read(settings: Settings) -> dict[str, Any]:
    """As it is once it was written and read again."""
    return tomllib.loads(toml(settings))


def write_client_settings(root: Path) -> dict[str, str]:
    """Write `nanoctl.toml` with the credential that the gateway made at its first start; what is in it."""
    data = root / "data" / "gateway"
    credential = json.loads((data / "credentials.json").read_text())["credentials"][0]
    found = {
        "url": f"https://{_LOOPBACK}:{REST_PORT}",
        "id": str(credential["id"]),
        "key": str(credential["key"]),
        "certificate": str(data / "tls" / "certificate.pem"),
    }
    path = root / "nanoctl.toml"
    path.touch(mode=0o600)
    path.write_text(toml(found))
    return found


def client_settings(root: Path) -> dict[str, str]:
    """What is in `nanoctl.toml`."""
    return {name: str(value) for name, value in tomllib.loads((root / "nanoctl.toml").read_text()).items()}


def toml(settings: Settings) -> str:
    """`settings` as TOML: texts, numbers, booleans, lists of them, and tables (mappings) at the end."""
    lines = [
        f"{name} = {_value(value)}" for name, value in settings.items() if not isinstance(value, Mapping)
    ]
    for name, table in settings.items():
        if isinstance(table, Mapping):
            lines += ["", f"[{name}]", *_table(name, table)]
    return "\n".join(lines) + "\n"


def _table(path: str, table: Settings) -> list[str]:
    lines = [f"{name} = {_value(value)}" for name, value in table.items() if not isinstance(value, Mapping)]
    for name, inner in table.items():
        if isinstance(inner, Mapping):
            lines += ["", f"[{path}.{name}]", *_table(f"{path}.{name}", inner)]
    return lines


def _value(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return str(value)
        case list() | tuple():
            return "[" + ", ".join(_value(item) for item in value) + "]"
        case _:
            text = str(value).replace("\\", "\\\\").replace('"', '\\"')
            return f'"{text}"'
