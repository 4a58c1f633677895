"""DHCP messages, and the frames that carry them, as values. Knows no socket and no policy.

Layout from RFC 2131 section 2, options from RFC 2132, options too long for one length byte from RFC 3396,
Ethernet, IPv4 and UDP from RFC 894, 791 and 768. Whatever cannot be read is `Corrupt`, never another error.
"""

import struct
from dataclasses import dataclass, field
from enum import IntEnum
from ipaddress import IPv4Address

from nano.model.errors import Corrupt

NOWHERE = IPv4Address(0)
EVERYBODY = IPv4Address("255.255.255.255")
EVERY_MAC = "ff:ff:ff:ff:ff:ff"
SERVER_PORT = 67
CLIENT_PORT = 68
SMALLEST_LIMIT_BYTES = 576
"""Every host accepts an IP datagram of this size (RFC 2131, section 2), so a reply may always have it."""


class Op(IntEnum):
    """Who speaks."""

    REQUEST = 1
    REPLY = 2


class Kind(IntEnum):
    """What is said: option 53."""

    DISCOVER = 1
    OFFER = 2
    REQUEST = 3
    DECLINE = 4
    ACK = 5
    NAK = 6
    RELEASE = 7
    INFORM = 8


class Option(IntEnum):
    """The options that we read or write; others pass through unread."""

    PAD = 0
    SUBNET_MASK = 1
    ROUTER = 3
    DNS = 6
    HOSTNAME = 12
    INTERFACE_MTU = 26
    REQUESTED_ADDRESS = 50
    LEASE_S = 51
    OVERLOAD = 52
    KIND = 53
    SERVER_ID = 54
    MESSAGE = 56
    MAX_SIZE = 57
    RENEW_S = 58
    REBIND_S = 59
    CLIENT_ID = 61
    RELAY_AGENT = 82
    END = 255


@dataclass(frozen=True, slots=True)
class Message:
    """One DHCP message; addresses that are not set are 0.0.0.0, as on the wire."""

    op: Op
    kind: Kind
    xid: int
    mac: str
    """The client's hardware address (`chaddr`), lower case with colons."""
    broadcast: bool = False
    """The client cannot receive unicast before it has an address."""
    ciaddr: IPv4Address = NOWHERE
    """What the client has, and answers for."""
    yiaddr: IPv4Address = NOWHERE
    """What the client gets."""
    giaddr: IPv4Address = NOWHERE
    """The relay that passed it on."""
    options: dict[int, bytes] = field(default_factory=dict)
    """By number, without option 53, in the order in which they are written."""

    @property
    def requested(self) -> IPv4Address:
        return self._address(Option.REQUESTED_ADDRESS)

    @property
    def server(self) -> IPv4Address:
        """The server that the client has chosen, or that speaks."""
        return self._address(Option.SERVER_ID)

    @property
    def limit_bytes(self) -> int:
        """The longest IP datagram that the client takes."""
        asked = int.from_bytes(self.options.get(Option.MAX_SIZE, b""), "big")
        return max(asked, SMALLEST_LIMIT_BYTES)

    def _address(self, option: Option) -> IPv4Address:
        return IPv4Address(self.options.get(option, bytes(4)))


@dataclass(frozen=True, slots=True)
class Frame:
    """A UDP datagram with all that is around it on an Ethernet."""

    source_mac: str
    target_mac: str
    source: IPv4Address
    target: IPv4Address
    source_port: int
    target_port: int
    payload: bytes


# -- messages --------------------------------------------------------------------------------------

_HEADER = struct.Struct(">BBBB I HH 4s4s4s4s 16s 64s 128s 4s")
_COOKIE = b"\x63\x82\x53\x63"
_ETHERNET = (1, 6)
_BROADCAST_FLAG = 0x8000
_SMALLEST_BYTES = 300
"""A BOOTP relay may drop what is shorter (RFC 1542, section 2.1)."""
_LENGTHS = {
    Option.REQUESTED_ADDRESS: 4,
    Option.KIND: 1,
    Option.SERVER_ID: 4,
    Option.MAX_SIZE: 2,
}
"""Options that are read as numbers or addresses; any other length than this is refused."""
_IN_FILE, _IN_NAME = 1, 2
"""The bits of option 52: which of the two header fields carries options too."""


def decode(data: bytes) -> Message:
    """Read one message. A missing end mark and unknown options pass; what would need a guess does not."""
    if len(data) < _HEADER.size:
        raise Corrupt(f"a DHCP message has at least {_HEADER.size} bytes, this has {len(data)}")
    (
        op,
        htype,
        hlen,
        _hops,
        xid,
        _secs,
        flags,
        ciaddr,
        yiaddr,
        _siaddr,
        giaddr,
        chaddr,
        name,
        file,
        cookie,
    ) = _HEADER.unpack_from(data)
    if cookie != _COOKIE:
        raise Corrupt("this is BOOTP, or not even that: the DHCP cookie is missing")
    if (htype, hlen) != _ETHERNET or op not in tuple(Op):
        raise Corrupt(f"op {op}, hardware type {htype} of {hlen} bytes is no DHCP on Ethernet")
    options = _read_options(data[_HEADER.size :], file, name)
    return Message(
        op=Op(op),
        kind=_kind(options),
        xid=xid,
        mac=mac_text(chaddr[:6]),
        broadcast=bool(flags & _BROADCAST_FLAG),
        ciaddr=IPv4Address(ciaddr),
        yiaddr=IPv4Address(yiaddr),
        giaddr=IPv4Address(giaddr),
        options=options,
    )


def encode(message: Message, limit_bytes: int = 1500) -> bytes:
    """Write one message so that its IP datagram has at most `limit_bytes`.

    Options that do not fit any more are left out, so the order of `message.options` is their rank.
    """
    header = _HEADER.pack(
        message.op,
        *_ETHERNET,
        0,
        message.xid,
        0,
        _BROADCAST_FLAG if message.broadcast else 0,
        message.ciaddr.packed,
        message.yiaddr.packed,
        bytes(4),
        message.giaddr.packed,
        mac_bytes(message.mac),
        b"",
        b"",
        _COOKIE,
    )
    room = limit_bytes - _IPV4.size - _UDP.size - len(header) - 1
    body = bytearray(_write_option(Option.KIND, bytes([message.kind])))
    for number, value in message.options.items():
        written = _write_option(number, value)
        if len(body) + len(written) <= room:
            body += written
    body.append(Option.END)
    return (header + body).ljust(_SMALLEST_BYTES, b"\0")


def _kind(options: dict[int, bytes]) -> Kind:
    said = options.pop(Option.KIND, b"\0")[0]
    try:
        return Kind(said)
    except ValueError:
        raise Corrupt(f"{said} is no kind of DHCP message") from None


def _read_options(area: bytes, file: bytes, name: bytes) -> dict[int, bytes]:
    options: dict[int, bytes] = {}
    _read_area(area, options)
    overloaded = int.from_bytes(options.pop(Option.OVERLOAD, b""), "big")
    if overloaded & _IN_FILE:
        _read_area(file, options)
    if overloaded & _IN_NAME:
        _read_area(name, options)
    for option, length in _LENGTHS.items():
        if len(options.get(option, bytes(length))) != length:
            raise Corrupt(f"option {option} has {len(options[option])} bytes instead of {length}")
    return options


def _read_area(area: bytes, options: dict[int, bytes]) -> None:
    """Add the options of one area; one that comes in pieces is joined (RFC 3396, section 7)."""
    at = 0
    while at < len(area) and area[at] != Option.END:
        if area[at] == Option.PAD:
            at += 1
            continue
        if at + 2 > len(area) or at + 2 + area[at + 1] > len(area):
            raise Corrupt(f"option {area[at]} is cut off")
        number, end = area[at], at + 2 + area[at + 1]
        options[number] = options.get(number, b"") + area[at + 2 : end]
        at = end


def _write_option(number: int, value: bytes) -> bytes:
    pieces = [value[at : at + 255] for at in range(0, len(value), 255)] or [b""]
    return b"".join(bytes([number, len(piece)]) + piece for piece in pieces)


# -- frames ----------------------------------------------------------------------------------------

_LINK = struct.Struct(">6s6sH")
_IPV4 = struct.Struct(">BBHHHBBH4s4s")
_UDP = struct.Struct(">HHHH")
_ETHERTYPE_IPV4 = 0x0800
_PROTOCOL_UDP = 17
_VERSION_4 = 4
_DONT_FRAGMENT = 0x4000
_FRAGMENT_BITS = 0x3FFF
"""More-fragments and the offset: a datagram that is whole has none of them set."""
_HOPS = 64


def decode_frame(data: bytes) -> Frame:
    """Read an Ethernet frame that carries a whole UDP datagram.

    Checksums are not looked at: a guest with offload leaves them to hardware that a bridge does not have.
    """
    if len(data) < _LINK.size + _IPV4.size:
        raise Corrupt(f"a frame of {len(data)} bytes holds no IPv4 header")
    target_mac, source_mac, ethertype = _LINK.unpack_from(data)
    first, _tos, total, _id, fragment, _ttl, protocol, _sum, source, target = _IPV4.unpack_from(
        data, _LINK.size
    )
    length = (first & 0x0F) * 4
    if ethertype != _ETHERTYPE_IPV4 or first >> 4 != _VERSION_4 or protocol != _PROTOCOL_UDP:
        raise Corrupt("the frame carries no UDP over IPv4")
    if length < _IPV4.size or total < length + _UDP.size or len(data) < _LINK.size + total:
        raise Corrupt("the lengths in the IPv4 header contradict the frame")
    if fragment & _FRAGMENT_BITS:
        raise Corrupt("the datagram is a fragment")
    at = _LINK.size + length
    source_port, target_port, size, _sum = _UDP.unpack_from(data, at)
    if not _UDP.size <= size <= total - length:
        raise Corrupt("the length in the UDP header contradicts the datagram")
    return Frame(
        source_mac=mac_text(source_mac),
        target_mac=mac_text(target_mac),
        source=IPv4Address(source),
        target=IPv4Address(target),
        source_port=source_port,
        target_port=target_port,
        payload=data[at + _UDP.size : at + size],
    )


def encode_frame(frame: Frame) -> bytes:
    """Write a frame. Its UDP checksum is 0, "not computed" (RFC 768); the IPv4 header has its own."""
    udp = _UDP.pack(frame.source_port, frame.target_port, _UDP.size + len(frame.payload), 0)
    total = _IPV4.size + len(udp) + len(frame.payload)
    addresses = (frame.source.packed, frame.target.packed)
    start = (0x45, 0, total, 0, _DONT_FRAGMENT, _HOPS, _PROTOCOL_UDP)
    header = _IPV4.pack(*start, _checksum(_IPV4.pack(*start, 0, *addresses)), *addresses)
    link = _LINK.pack(mac_bytes(frame.target_mac), mac_bytes(frame.source_mac), _ETHERTYPE_IPV4)
    return link + header + udp + frame.payload


def _checksum(header: bytes) -> int:
    """The ones' complement of the ones' complement sum of all 16-bit words (RFC 791, section 3.1)."""
    total: int = sum(struct.unpack(f">{len(header) // 2}H", header))
    while total > 0xFFFF:  # noqa: PLR2004 - sixteen bits, and what was carried out of them
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def mac_text(mac: bytes) -> str:
    return mac.hex(":")


def mac_bytes(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))
