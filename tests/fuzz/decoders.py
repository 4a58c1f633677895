"""Targets without a link: each decoder that reads what somebody else wrote."""

import base64
import contextlib
import functools
import inspect
import os
import tempfile
import zlib
from datetime import UTC, datetime
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import betterproto2
import msgspec
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from nano import signature, wire
from nano.bindings.messages import Bind, Entry, decode_answer, decode_ask, encode_ask, encode_entries
from nano.contracts.nano import v1
from nano.fabric.bulk import bodies as bulk
from nano.fabric.calls import status
from nano.fabric.calls.codec import MessageCodec
from nano.fabric.http3.framing import MESSAGE_LIMIT_BYTES, message_size
from nano.fabric.identity.authority import Authority
from nano.fabric.joining import enrolment, join_token
from nano.fabric.links.liveness import LONGEST_INTERVAL_S, Patience
from nano.fabric.packets import datagrams
from nano.fabric.peers import announcement
from nano.model.address import Binding, Provider
from nano.model.errors import BY_CODE, Corrupt, Invalid, NanoError
from nano.model.peers import Role
from nano.model.pool import Usage
from nano.web import bodies
from nano.web.query import Query
from services.addresspool import dhcp, packet
from services.gateway import cursor, ranges
from services.gateway.multipart import ImagePart
from services.gateway.routes.guests import CreateGuest
from services.scheduler.samples import Samples
from tests.fuzz.target import Target, packed, pieces
from tests.support.certificates import make_zone, signing_request
from tests.support.echo import domain_error

NOW = datetime(2026, 11, 29, tzinfo=UTC)


# Before anybody has proven anything


def _announcement(data: bytes) -> None:
    try:
        said = announcement.decode(data)
    except Corrupt:
        return
    assert announcement.decode(announcement.encode(said)) == said
    said.asks_for(said.peer)


def _announcements() -> list[bytes]:
    return [
        announcement.encode(announcement.Announcement(kind, "z", "nano", Role.CELL, "c1", 5604, wants))
        for kind in announcement.Kind
        for wants in (None, Role.SCHEDULER)
    ]


@functools.cache
def _authority() -> Authority:
    return make_zone(Path(tempfile.mkdtemp(prefix="nano-fuzz-")), now=NOW)


def _enrolment(data: bytes) -> None:
    for uid in (os.getuid(), 12345):
        zone = _authority()
        book, admission = enrolment.NoBook(zone), enrolment.Admission()
        line = enrolment.answer(zone, book, data, NOW, uid=uid, admission=admission)
        assert line.endswith(b"\n")
        msgspec.json.decode(line, type=enrolment.Grant | enrolment.Refusal)


def _enrolments() -> list[bytes]:
    csr = signing_request(ec.generate_private_key(ec.SECP256R1())).public_bytes(Encoding.PEM).decode()
    return [msgspec.json.encode(enrolment.Request(role, "c1", csr)) for role in ("cell", "gateway", "nobody")]


def _token(data: bytes) -> None:
    """A join token as text; and whatever its body says, with the sum that belongs to it."""
    body = join_token.PREFIX + _base64(data + zlib.crc32(data).to_bytes(4, "big"))
    for text in (data.decode("latin-1"), body):
        try:
            found = join_token.decode(text)
        except Invalid:
            continue
        assert join_token.decode(join_token.encode(found)) == found
        assert found.secret.hex() not in str(found)


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _tokens() -> list[bytes]:
    token = join_token.TokenText(
        1, "zone", (bytes(32),), bytes(range(16)), Role.CELL, "c1", 1_800_000_000_000, ("10.0.0.1:5600",)
    )
    text = join_token.encode(token)
    packed_text = text.removeprefix(join_token.PREFIX)
    return [text.encode(), base64.urlsafe_b64decode(packed_text + "=" * (-len(packed_text) % 4))[:-4]]


def _dhcp(data: bytes) -> None:
    """A guest's frame on the bridge, and what the responder says to it."""
    try:
        turn = dhcp.receive(_entries(), packet.decode_frame(data), _SERVER, 1_000)
    except Corrupt:
        return
    if turn.reply is not None:
        reply = packet.decode_frame(packet.encode_frame(turn.reply))
        assert packet.decode(reply.payload).op is packet.Op.REPLY


_SERVER = dhcp.Server(IPv4Address("10.0.0.1"), "02:4e:0a:00:00:01", 1500)
_GUEST = "02:00:00:00:00:07"


@functools.cache
def _entries() -> dict[str, Entry]:
    leased = Binding(
        "vm/0",
        IPv4Address("10.0.0.7"),
        IPv4Address("255.255.255.0"),
        IPv4Address("10.0.0.1"),
        (IPv4Address("10.0.0.53"),),
        Provider.DHCP,
    )
    return {_GUEST: Entry(_GUEST, leased, "vm")}


def _frames() -> list[bytes]:
    options: dict[int, bytes] = {
        packet.Option.REQUESTED_ADDRESS: IPv4Address("10.0.0.7").packed,
        packet.Option.MAX_SIZE: b"\2\x40",
    }
    return [
        packet.encode_frame(
            packet.Frame(
                _GUEST,
                packet.EVERY_MAC,
                packet.NOWHERE,
                packet.EVERYBODY,
                packet.CLIENT_PORT,
                packet.SERVER_PORT,
                packet.encode(packet.Message(packet.Op.REQUEST, kind, 7, _GUEST, options=options)),
            )
        )
        for kind in packet.Kind
    ]


def _line(data: bytes) -> None:
    """A line to the responder, and one of its answers."""
    for read in (decode_ask, decode_answer):
        try:
            read(data)
        except NanoError:
            continue


def _lines() -> list[bytes]:
    entry = _entries()[_GUEST]
    return [encode_ask(Bind(entry)), encode_entries((entry,))]


# What comes from a peer


def _message_kinds() -> list[type[betterproto2.Message]]:
    kinds = [
        kind for _, kind in inspect.getmembers(v1, inspect.isclass) if issubclass(kind, betterproto2.Message)
    ]
    return sorted(kinds, key=lambda kind: kind.__name__)


_KINDS = _message_kinds()
_NOUN_OF = {contract: noun for noun, contract in wire.NOUNS.items()}


def _protobuf(data: bytes) -> None:
    """The first byte chooses the message, the rest are its bytes: as grpclib and as a sample is read."""
    if not data:
        return
    kind, data = _KINDS[data[0] % len(_KINDS)], data[1:]
    refused = _refusal(kind, data)
    try:
        message = wire.decode(kind, data)
    except (Corrupt, Invalid):
        assert refused is not None
        return
    assert refused is None
    assert isinstance(bytes(message), bytes)
    try:
        if kind in _NOUN_OF:
            wire.outgoing(wire.incoming(message, _NOUN_OF[kind]))
        elif isinstance(message, v1.BeginRequest):
            wire.asked_action(message)
        elif isinstance(message, v1.Outcome):
            wire.outcome(message)
    except (Corrupt, Invalid):
        return


def _refusal(kind: type[betterproto2.Message], data: bytes) -> NanoError | None:
    """What the codec of calls says to it, which is to be what samples get."""
    try:
        MessageCodec().decode(data, kind)
    except (Corrupt, Invalid) as error:
        return error
    return None


def _messages() -> list[bytes]:
    """Each kind of message with something in each of its fields."""
    return [bytes([number]) + bytes(_filled(kind, 3)) for number, kind in enumerate(_KINDS)]


def _filled(kind: Any, depth: int) -> Any:
    message: Any = kind()
    chosen: set[str] = set()
    for name, meta in message._betterproto.meta_by_field_name.items():
        if meta.group is not None:
            if meta.group in chosen:
                continue
            chosen.add(meta.group)
        value = _value(message, name, meta.proto_type, depth)
        if value is not None:
            setattr(message, name, [value] if meta.repeated else value)
    return message


def _value(message: Any, name: str, proto_type: str, depth: int) -> object:
    if proto_type == betterproto2.TYPE_MESSAGE:
        inner = message._betterproto.cls_by_field[name]
        return _filled(inner, depth - 1) if depth else None
    if proto_type == betterproto2.TYPE_STRING:
        return "10.0.0.1"
    if proto_type == betterproto2.TYPE_BYTES:
        return b"bytes"
    if proto_type == betterproto2.TYPE_BOOL:
        return True
    return 1.5 if proto_type in {betterproto2.TYPE_FLOAT, betterproto2.TYPE_DOUBLE} else 7


def _sample(data: bytes) -> None:
    newest: dict[str, Usage] = {}
    try:
        found = wire.sampled(data)
    except (Corrupt, Invalid):
        return
    Samples(newest).heard(found)
    assert set(newest) == {usage.subject for usage in found}
    again = bytes(wire.usages_message(found))
    if found:
        assert wire.sampled(again) == found
    assert wire.usages(wire.decode(v1.Usages, again)) == wire.sampled(again)


def _samples() -> list[bytes]:
    usages = [Usage(subject, 7, 1.5, *range(8)) for subject in ("c1", "vm")]
    return [bytes(wire.usages_message(usages)), bytes(wire.usages_message(usages[:1])), bytes(v1.Usages())]


def _prefix(data: bytes) -> None:
    """gRPC's five bytes before a message."""
    try:
        assert 0 <= message_size(data[:5]) <= MESSAGE_LIMIT_BYTES
    except GRPCError:
        return


def _bulk(data: bytes) -> None:
    """Ranges, lengths and errors in the head of a body, of either side."""
    text = data.decode("latin-1")
    size = bulk.size_in(text)
    assert size is None or size >= 0
    with contextlib.suppress(Invalid):
        assert bulk.offset_in(text) >= 0
    found = bulk.error_in([(":status", "500"), (bulk.ERROR_HEADER, text)], text)
    assert bulk.error_header(found).isascii()


def _heads() -> list[bytes]:
    errors = [domain_error(kind) for kind in BY_CODE.values()]
    return [b"bytes=0-", b"bytes=99-", b"12345", *(bulk.error_header(error).encode() for error in errors)]


def _detail(data: bytes) -> None:
    """The trailer beside a status, from a server that may be anybody's."""
    for code in Status:
        found = status.error_of(code, data.decode("latin-1"), data)
        assert isinstance(found, NanoError)
        assert len(status.detail_of(found)) < 3 * status.MESSAGE_LIMIT * 6


def _details() -> list[bytes]:
    return [status.detail_of(domain_error(kind)) for kind in BY_CODE.values()]


def _told(data: bytes) -> None:
    """What a peer tells about itself in a datagram."""
    with contextlib.suppress(Corrupt):
        stretched = Patience().stretched(datagrams.interval_s(data))
        assert Patience().lost_s <= stretched.lost_s <= LONGEST_INTERVAL_S * Patience().lost_s


def _tellings() -> list[bytes]:
    return [datagrams.pace(1.5)]


# REST


def _rest(data: bytes) -> None:
    for kind, part in pieces(data):
        try:
            match kind % 6:
                case 0:
                    bodies.decode(part, CreateGuest)
                case 1:
                    query = Query(part)
                    query.number("a", 0)
                    query.flag("b")
                case 2:
                    signature.parse_authorization(part.decode("latin-1"))
                case 3:
                    ranges.asked(part.decode("latin-1"), 1000)
                case 4:
                    cursor.read(part.decode("latin-1"), "since")
                case 5:
                    upload = ImagePart("multipart/form-data; boundary=b")
                    for _ in upload.push(part):
                        pass
                    upload.close()
        except (NanoError, signature.Malformed):
            continue


def _rests() -> list[bytes]:
    guest = (
        b'{"name":"vm","owner":"a","group":"g","pool":"p","cores":1,"memory":1,"disks":[1],"template":"t"}'
    )
    form = b'--b\r\nContent-Disposition: form-data; name="image"\r\n\r\nbytes\r\n--b--\r\n'
    claim = b"Method-HMAC-SHA256 Credential=a/s, SignedHeaders=h, Signature=s"
    return [
        packed((0, guest)),
        packed((1, b"a=5&b=true&c=%41+x")),
        packed((2, claim)),
        packed((3, b"bytes=0-9")),
        packed((4, cursor.read.__name__.encode())),
        packed((5, form)),
    ]


TARGETS = [
    Target("announcement", _announcement, _announcements, longest_bytes=600),
    Target("enrolment", _enrolment, _enrolments, longest_bytes=2000),
    Target("join-token", _token, _tokens, longest_bytes=600),
    Target("dhcp", _dhcp, _frames, longest_bytes=1600),
    Target("responder-lines", _line, _lines, longest_bytes=1000),
    Target("protobuf", _protobuf, _messages, longest_bytes=1000),
    Target("samples", _sample, _samples, longest_bytes=1200),
    Target("told-datagrams", _told, _tellings, longest_bytes=100),
    Target("grpc-prefix", _prefix, lambda: [b"\0\0\0\0\5", b"\1\0\0\0\5"], longest_bytes=8),
    Target("bulk-heads", _bulk, _heads, longest_bytes=300),
    Target("error-trailers", _detail, _details, longest_bytes=300),
    Target("rest", _rest, _rests, longest_bytes=1000),
]
