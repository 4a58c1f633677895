"""The words between a cell and its responder: one JSON object a line, over a UNIX socket for root alone.

    the cell asks                                  the responder answers
    {"ask": "bind", "entry": {...}}                {"entries": []}, once the entry is durable
    {"ask": "unbind", "mac": "00:16:3e:..."}       {"entries": []}, once it is durably gone
    {"ask": "replace", "entries": [{...}, ...]}    {"entries": []}, once these and no others are durable
    {"ask": "list"}                                {"entries": [{...}, ...]}
    {"ask": "watch"}                               the same, then such a line for each lease that changes

    what went wrong                                {"fault": {"code", "message", "field", "subject"}}

Standard library only: the responder runs on every host, and its memory counts.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any, TypeVar

from nano.model.address import Binding, Provider
from nano.model.errors import Invalid, NanoError, from_code

T = TypeVar("T")

DEFAULT_LEASE_S = 43_200
"""Twelve hours, as `Binding` has it."""

_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_HOSTNAME = re.compile(r"([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)?")


@dataclass(frozen=True, slots=True)
class Entry:
    """One interface that the responder serves, and what became of it."""

    mac: str
    """Six lower-case hex octets with colons."""
    binding: Binding
    hostname: str = ""
    """What the guest is told that it is called; empty: nothing."""
    granted_ms: int = 0
    """When the guest last took or renewed its lease; 0: not yet, or it has given it back."""
    declined_ms: int = 0
    """When the guest last said that somebody else uses the address; 0: it did not since it last took it."""


@dataclass(frozen=True, slots=True)
class Bind:
    """Serve this interface from now on; an entry of the same MAC is replaced."""

    entry: Entry


@dataclass(frozen=True, slots=True)
class Unbind:
    """Serve this interface no more; one that is not served is success."""

    mac: str


@dataclass(frozen=True, slots=True)
class Replace:
    """Serve these interfaces and no others."""

    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class List:
    """Say what is served."""


@dataclass(frozen=True, slots=True)
class Watch:
    """Say what is served, then each change as it happens."""


Ask = Bind | Unbind | Replace | List | Watch


def encode_ask(ask: Ask) -> bytes:
    match ask:
        case Bind(entry):
            return _line({"ask": "bind", "entry": entry_json(entry)})
        case Unbind(mac):
            return _line({"ask": "unbind", "mac": mac})
        case Replace(entries):
            return _line({"ask": "replace", "entries": [entry_json(entry) for entry in entries]})
        case List():
            return _line({"ask": "list"})
        case Watch():
            return _line({"ask": "watch"})


def decode_ask(line: bytes) -> Ask:
    """Read what a cell asks; `Invalid` names the member that is wrong."""
    asked = _object(line)
    match asked.get("ask"):
        case "bind":
            return Bind(entry_from(_member(asked, "entry")))
        case "unbind":
            return Unbind(_mac(asked))
        case "replace":
            return Replace(_entries(asked))
        case "list":
            return List()
        case "watch":
            return Watch()
        case unknown:
            raise Invalid("ask", f"{unknown!r} is nothing that a responder can be asked")


def encode_entries(entries: tuple[Entry, ...]) -> bytes:
    return _line({"entries": [entry_json(entry) for entry in entries]})


def encode_fault(error: NanoError) -> bytes:
    fault = {"code": error.code, "message": error.message, "field": error.field, "subject": error.subject}
    return _line({"fault": fault})


def decode_answer(line: bytes) -> tuple[Entry, ...]:
    """Read what the responder says; raises the error that it reports."""
    answer = _object(line)
    if "fault" in answer:
        fault = {key: str(value) for key, value in _member(answer, "fault").items()}
        raise from_code(
            fault.get("code", ""),
            fault.get("message", ""),
            field=fault.get("field", ""),
            subject=fault.get("subject", ""),
        )
    return _entries(answer)


def entry_json(entry: Entry) -> dict[str, Any]:
    """An entry as it stands on a line and in the responder's file."""
    binding = entry.binding
    return {
        "mac": entry.mac,
        "owner": binding.owner,
        "address": str(binding.address),
        "netmask": str(binding.netmask),
        "gateway": str(binding.gateway),
        "dns": [str(server) for server in binding.dns],
        "provider": str(binding.provider),
        "lease_s": binding.lease_s,
        "hostname": entry.hostname,
        "granted_ms": entry.granted_ms,
        "declined_ms": entry.declined_ms,
    }


def entry_from(source: Mapping[str, Any]) -> Entry:
    """The entry that `entry_json` wrote; `Invalid` names the member that is wrong."""
    hostname = _read(source, "hostname", str, "")
    if _HOSTNAME.fullmatch(hostname) is None:
        raise Invalid(
            "hostname", f"hostname {hostname!r} is not allowed: give 1 to 63 letters, digits and dashes"
        )
    dns = source.get("dns", [])
    if not isinstance(dns, list):
        raise Invalid("dns", f"dns must be a list of addresses, not {dns!r}")
    return Entry(
        mac=_mac(source),
        binding=Binding(
            owner=_read(source, "owner", str),
            address=_read(source, "address", IPv4Address),
            netmask=_read(source, "netmask", IPv4Address),
            gateway=_read(source, "gateway", IPv4Address),
            dns=tuple(_read({"dns": server}, "dns", IPv4Address) for server in dns),
            provider=_read(source, "provider", Provider),
            lease_s=_read(source, "lease_s", _seconds, DEFAULT_LEASE_S),
        ),
        hostname=hostname,
        granted_ms=_read(source, "granted_ms", int, 0),
        declined_ms=_read(source, "declined_ms", int, 0),
    )


def _line(answer: dict[str, Any]) -> bytes:
    return json.dumps(answer, separators=(",", ":")).encode() + b"\n"


def _object(line: bytes) -> dict[str, Any]:
    try:
        read = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise Invalid("", f"this line is no JSON: {error}") from None
    if not isinstance(read, dict):
        raise Invalid("", f"this line must be a JSON object, not {type(read).__name__}")
    return read


def _entries(source: Mapping[str, Any]) -> tuple[Entry, ...]:
    listed = source.get("entries")
    if not isinstance(listed, list) or not all(isinstance(entry, dict) for entry in listed):
        raise Invalid("entries", "entries must be a list of objects")
    return tuple(entry_from(entry) for entry in listed)


def _member(source: Mapping[str, Any], name: str) -> dict[str, Any]:
    member = source.get(name)
    if not isinstance(member, dict):
        raise Invalid(name, f"{name} must be an object, not {member!r}")
    return member


def _mac(source: Mapping[str, Any]) -> str:
    mac = _read(source, "mac", str)
    if _MAC.fullmatch(mac) is None:
        raise Invalid("mac", f"mac {mac!r} is not six lower-case hex octets with colons", subject=mac)
    return mac


def _seconds(value: Any) -> int:
    seconds = int(value)
    if not 0 < seconds < 2**32:
        raise ValueError
    return seconds


def _read(source: Mapping[str, Any], name: str, kind: Callable[[Any], T], default: T | None = None) -> T:
    """The member `name` as `kind` reads it; text and numbers are never taken for one another."""
    value = source.get(name, default)
    wanted = int if kind in {int, _seconds} else str
    if not isinstance(value, wanted) or isinstance(value, bool):
        raise Invalid(name, f"{name} must be {wanted.__name__}, not {value!r}")
    try:
        return kind(value)
    except ValueError:
        raise Invalid(name, f"{name} {value!r} is not a {kind.__name__.strip('_')}") from None
