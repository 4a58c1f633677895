"""What one host's guests are told: the server's side of RFC 2131, for addresses that are known beforehand.

No socket, no clock, no state: what is served, a frame and the time come in; a reply and what it means for the
lease come out. A stranger gets neither an answer nor a refusal, since another server may well be his.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Address

from nano.bindings.messages import Entry
from services.addresspool.packet import (
    CLIENT_PORT,
    EVERY_MAC,
    EVERYBODY,
    NOWHERE,
    SERVER_PORT,
    SMALLEST_LIMIT_BYTES,
    Frame,
    Kind,
    Message,
    Op,
    Option,
    decode,
    encode,
)

DECLINE_HOLD_MS = 60_000
"""How long a declined address is not given again: time to find who uses it, and to recover by itself."""


@dataclass(frozen=True, slots=True)
class Server:
    """What the server says of itself: it is the bridge."""

    address: IPv4Address
    mac: str
    mtu_bytes: int


@dataclass(frozen=True, slots=True)
class Turn:
    """What one frame leads to."""

    reply: Frame | None = None
    entry: Entry | None = None
    """The entry as it is from now on, where the frame changed it."""


SILENCE = Turn()


def receive(entries: Mapping[str, Entry], frame: Frame, server: Server, now_ms: int) -> Turn:
    """Answer one frame; `Corrupt` when it carries no DHCP message."""
    message = decode(frame.payload)
    entry = entries.get(message.mac)
    if entry is None or message.op is not Op.REQUEST or not _is_from_client(frame, message):
        return SILENCE
    said = _RULES.get(message.kind, _nothing)(entry, message, server, now_ms)
    reply = None if said.reply is None else _address(said.reply, message, frame, server)
    return Turn(reply, said.entry)


# -- what is said to whom (RFC 2131, section 4.3) --------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Said:
    """A turn whose reply has not been addressed yet."""

    reply: Message | None = None
    entry: Entry | None = None


def _nothing(_entry: Entry, _message: Message, _server: Server, _now_ms: int) -> _Said:
    return _Said()


def _discover(entry: Entry, message: Message, server: Server, now_ms: int) -> _Said:
    if _is_held_back(entry, now_ms):
        return _Said()
    return _Said(_granting(Kind.OFFER, entry, message, server))


def _request(entry: Entry, message: Message, server: Server, now_ms: int) -> _Said:
    """All four states of a client in one rule, since the address is the same in each (table 4).

    Selecting names a server and an address, init-reboot an address only; renewing and rebinding have
    theirs in `ciaddr`. An address that is not its own is refused: for a client of ours we are the authority.
    """
    if message.server not in {NOWHERE, server.address}:
        return _Said()  # it has taken another server's offer
    wished = message.requested if message.ciaddr == NOWHERE else message.ciaddr
    if wished == NOWHERE:
        return _Said()
    if wished != entry.binding.address:
        return _Said(_refusing(message, server, f"this interface has {entry.binding.address}, not {wished}"))
    if message.ciaddr == NOWHERE and _is_held_back(entry, now_ms):
        return _Said()
    taken = replace(entry, granted_ms=now_ms, declined_ms=0)
    return _Said(_granting(Kind.ACK, entry, message, server), taken)


def _decline(entry: Entry, message: Message, server: Server, now_ms: int) -> _Said:
    if (message.server, message.requested) != (server.address, entry.binding.address):
        return _Said()
    return _Said(entry=replace(entry, granted_ms=0, declined_ms=now_ms))


def _release(entry: Entry, message: Message, server: Server, _now_ms: int) -> _Said:
    """The guest has done with it for now; it stays the instance's address all the same."""
    if (message.server, message.ciaddr) != (server.address, entry.binding.address):
        return _Said()
    return _Said(entry=replace(entry, granted_ms=0))


def _inform(entry: Entry, message: Message, server: Server, _now_ms: int) -> _Said:
    """The client has an address from elsewhere and wants the rest: no lease, no times (section 4.3.5)."""
    if message.ciaddr == NOWHERE:
        return _Said()
    reply = _reply(Kind.ACK, message, server, _settings(entry, server))
    return _Said(replace(reply, ciaddr=message.ciaddr))


_RULES: dict[Kind, Callable[[Entry, Message, Server, int], _Said]] = {
    Kind.DISCOVER: _discover,
    Kind.REQUEST: _request,
    Kind.DECLINE: _decline,
    Kind.RELEASE: _release,
    Kind.INFORM: _inform,
}


def _is_from_client(frame: Frame, message: Message) -> bool:
    """A guest may speak for itself only; a relay speaks for others."""
    return message.giaddr != NOWHERE or frame.source_mac == message.mac


def _is_held_back(entry: Entry, now_ms: int) -> bool:
    return entry.declined_ms > 0 and 0 <= now_ms - entry.declined_ms < DECLINE_HOLD_MS


# -- replies (RFC 2131, section 4.3.1, table 3) ----------------------------------------------------


def _granting(kind: Kind, entry: Entry, message: Message, server: Server) -> Message:
    lease_s = entry.binding.lease_s
    times = {
        Option.LEASE_S: lease_s.to_bytes(4, "big"),
        Option.RENEW_S: (lease_s // 2).to_bytes(4, "big"),
        Option.REBIND_S: (lease_s * 7 // 8).to_bytes(4, "big"),
    }
    reply = _reply(kind, message, server, times | _settings(entry, server))
    kept = message.ciaddr if kind is Kind.ACK else NOWHERE
    return replace(reply, yiaddr=entry.binding.address, ciaddr=kept)


def _refusing(message: Message, server: Server, reason: str) -> Message:
    reply = _reply(Kind.NAK, message, server, {Option.MESSAGE: reason.encode()})
    relayed = (
        message.giaddr != NOWHERE
    )  # the relay must broadcast it: the client's address is not good any more
    return replace(reply, broadcast=message.broadcast or relayed)


def _reply(kind: Kind, message: Message, server: Server, options: dict[int, bytes]) -> Message:
    """The frame of every reply. Client id and relay information go back as they came (RFC 6842, RFC 3046)."""
    written: dict[int, bytes] = {Option.SERVER_ID: server.address.packed}
    written.update(options)
    for echoed in (Option.CLIENT_ID, Option.RELAY_AGENT):
        if echoed in message.options:
            written[echoed] = message.options[echoed]
    return Message(
        op=Op.REPLY,
        kind=kind,
        xid=message.xid,
        mac=message.mac,
        broadcast=message.broadcast,
        giaddr=message.giaddr,
        options=written,
    )


def _settings(entry: Entry, server: Server) -> dict[int, bytes]:
    """What the interface is set up with, by rank: see `encode` for why the order counts."""
    binding = entry.binding
    settings = {
        Option.SUBNET_MASK: binding.netmask.packed,
        Option.ROUTER: binding.gateway.packed if binding.gateway != NOWHERE else b"",
        Option.DNS: b"".join(server.packed for server in binding.dns),
        Option.INTERFACE_MTU: min(server.mtu_bytes, 0xFFFF).to_bytes(2, "big"),
        Option.HOSTNAME: entry.hostname.encode(),
    }
    return {option: value for option, value in settings.items() if value}


def _address(reply: Message, message: Message, frame: Frame, server: Server) -> Frame:
    """Send it where the client can hear it (RFC 2131, section 4.1)."""
    if message.giaddr != NOWHERE:
        target, target_mac, port = message.giaddr, frame.source_mac, SERVER_PORT
    elif reply.kind is Kind.NAK or (message.ciaddr == NOWHERE and message.broadcast):
        target, target_mac, port = EVERYBODY, EVERY_MAC, CLIENT_PORT
    else:
        known = message.ciaddr if message.ciaddr != NOWHERE else reply.yiaddr
        target, target_mac, port = known, message.mac, CLIENT_PORT
    payload = encode(reply, limit_bytes=min(message.limit_bytes, max(server.mtu_bytes, SMALLEST_LIMIT_BYTES)))
    return Frame(server.mac, target_mac, server.address, target, SERVER_PORT, port, payload)
