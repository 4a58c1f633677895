"""Which addresses and ports of this host a fleet opens, and to whom: what `./dev up --open` says first."""

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from nano.fleet.configuration import FABRIC_PORTS, PORTAL_PORT, REST_PORT
from nano.model.errors import Invalid

_MEMBERS = "members of the zone, each as far as its role goes"
_FABRIC = {
    "scheduler": f"scheduler: {_MEMBERS}; servers that join, by a token or to wait until they are admitted",
    "imagestore": f"imagestore: {_MEMBERS}",
    "addresspool": f"addresspool: {_MEMBERS}",
    "gateway": f"gateway: {_MEMBERS}",
    "cell": "cell: the zone's scheduler and gateways",
}
"""Both ends prove by certificate who they are."""
_HTTP = {
    "gateway": (REST_PORT, "REST API: whoever has one of its credentials"),
    "portal": (PORTAL_PORT, "portal: whoever logs in"),
}
_DISCOVERY = "discovery: hints from anybody; nobody is trusted for what is said there"
_EVERYWHERE = "0.0.0.0"  # noqa: S104 - compared with, not listened on
_GROUP = ("224.0.0.226", 5599)


class Opening(NamedTuple):
    place: str
    kind: str
    port: int
    whom: str


def openings(settings: Mapping[str, Mapping[str, Any]], addresses: Sequence[str]) -> list[str]:
    """Lines for people, by place; `settings` as the services read them, `addresses` those of this host."""
    found = [each for name, of in settings.items() for each in _openings_of(name, of, addresses)]
    lines = []
    for place in dict.fromkeys(each.place for each in found):
        lines.append(f"open on {place}:")
        here = sorted({each for each in found if each.place == place})
        lines += [f"  {each.kind} {each.port}  {each.whom}" for each in here]
    return lines


def configured(root: Path, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """What the files say, which people may have edited; Invalid names one that is no TOML."""
    found = {}
    for name in names:
        path = root / "config" / f"{name}.toml"
        try:
            found[name] = tomllib.loads(path.read_text())
        except tomllib.TOMLDecodeError as error:
            raise Invalid(path.name, f"{path}: {error}; correct it") from error
    return found


def _openings_of(name: str, settings: Mapping[str, Any], addresses: Sequence[str]) -> list[Opening]:
    found = []
    if name in _FABRIC:
        fabric = settings.get("fabric", {})
        port = fabric.get("port") or FABRIC_PORTS[name]
        found.append(Opening(_place(fabric, addresses), "UDP", port, _FABRIC[name]))
        hears = fabric.get("discovery", {})
        group = hears.get("group", _GROUP[0])
        found.append(Opening(f"the multicast group {group}", "UDP", hears.get("port", _GROUP[1]), _DISCOVERY))
    if name in _HTTP:
        documented, whom = _HTTP[name]
        found.append(Opening(_place(settings, addresses), "TCP", settings.get("port", documented), whom))
    return found


def _place(settings: Mapping[str, Any], addresses: Sequence[str]) -> str:
    listen = str(settings.get("listen", _EVERYWHERE))
    if listen == _EVERYWHERE:
        return f"every address of this host ({', '.join(addresses)})"
    return f"{listen}, to this host alone" if listen.startswith("127.") else listen
