"""The bridge of the guests' cards: one private subnet, no uplink, this host's address on it."""

import json
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv4Network

from nano.fleet.tools import run_tool, tool_succeeds
from nano.model.errors import Conflict, NoAddress

_PREFERRED = IPv4Network("10.57.0.0/24")
_ALIAS = "nano fleet of "
"""Begins the interface's alias, which ends with the fleet's folder: we remove only what we made."""


@dataclass(frozen=True, slots=True)
class Bridge:
    name: str
    subnet: IPv4Network
    own_mac: str = ""
    """Of a server that joined a zone elsewhere: its bridge may have the subnet of another one's."""

    @property
    def gateway(self) -> IPv4Interface:
        """This host's own address: the first of the subnet."""
        return IPv4Interface((int(self.subnet.network_address) + 1, self.subnet.prefixlen))

    @property
    def mac(self) -> str:
        """Fixed, else the bridge takes that of its lowest tap, which changes with the guests.

        0x02 marks it as locally administered; the rest is the subnet, so two fleets on one wire differ.
        """
        if self.own_mac:
            return self.own_mac
        return ":".join(f"{byte:02x}" for byte in (0x02, 0x4E, *self.subnet.network_address.packed))


def random_mac() -> str:
    """One that no other bridge has, locally administered: it names the cell."""
    return "02:4e:" + ":".join(f"{byte:02x}" for byte in secrets.token_bytes(4))


def free_subnet(taken: Iterable[IPv4Network]) -> IPv4Network:
    """The preferred private /24, or the next one in 10.57.0.0/16 that overlaps nothing that is taken."""
    taken = list(taken)
    for candidate in _PREFERRED.supernet(new_prefix=16).subnets(new_prefix=24):
        if not any(candidate.overlaps(other) for other in taken):
            return candidate
    raise NoAddress("every /24 of 10.57.0.0/16 is in use on this host; set `subnet` in config/fleet.toml")


def networks_in_use(routes_json: str) -> list[IPv4Network]:
    """Where the routes of `ip -json route show table all` lead; the default route leads everywhere."""
    destinations = [route.get("dst", "default") for route in json.loads(routes_json)]
    return [IPv4Network(each, strict=False) for each in destinations if each != "default"]


def host_networks() -> list[IPv4Network]:
    """The networks that this host has or reaches by a route of its own."""
    return networks_in_use(run_tool("ip", "-4", "-json", "route", "show", "table", "all"))


def ensure_bridge(bridge: Bridge, owner: str) -> None:
    """Make the bridge, or take it over as it is when this fleet (`owner`: its folder) made it before.

    One of the same name that somebody else made is a `Conflict`: we neither change nor remove it.
    """
    made_by = _maker(bridge.name)
    if made_by not in {None, owner}:
        raise Conflict(
            f"the interface {bridge.name} belongs to {made_by or 'something else'}; "
            "stop that fleet with its `./dev down`, or set `bridge` in config/fleet.toml",
            field="bridge",
            subject=bridge.name,
        )
    if made_by is None:
        run_tool("ip", "link", "add", bridge.name, "address", bridge.mac, "type", "bridge")
        run_tool("ip", "link", "set", bridge.name, "alias", _ALIAS + owner)
    run_tool("ip", "address", "replace", str(bridge.gateway), "dev", bridge.name)
    run_tool("ip", "link", "set", bridge.name, "up")


def remove_bridge(name: str, owner: str) -> bool:
    """Remove the bridge if this fleet made it; whether it did."""
    ours = _maker(name) == owner
    if ours:
        run_tool("ip", "link", "delete", name)
    return ours


def bridge_is_there(name: str) -> bool:
    return tool_succeeds("ip", "link", "show", name)


def _maker(name: str) -> str | None:
    """The folder of the fleet that made the interface, "" when none of ours did, None when there is none."""
    if not bridge_is_there(name):
        return None
    alias = json.loads(run_tool("ip", "-json", "link", "show", name))[0].get("ifalias", "")
    return str(alias.removeprefix(_ALIAS)) if alias.startswith(_ALIAS) else ""
