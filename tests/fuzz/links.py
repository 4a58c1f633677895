"""Targets with a link: whatever a peer sends, before or after it has proven who it is.

The promise: an answer, a refusal or the end of that one link, never a defect; what it may make us hold is
bounded; other links serve on.
"""

import asyncio
import contextlib
import functools
from collections.abc import Callable, Iterable
from typing import Any, cast

from aioquic import tls
from aioquic.h3.connection import FrameType, StreamType, encode_frame
from aioquic.quic.packet import QuicFrameType, encode_quic_retry, encode_quic_version_negotiation
from grpclib.const import Cardinality, Handler
from grpclib.server import Stream as Call

from nano.contracts.nano import v1
from nano.fabric.bulk.bodies import BulkBody, BulkInfo, BulkRequest
from nano.fabric.bulk.server import BulkServer
from nano.fabric.calls.codec import MessageCodec
from nano.fabric.calls.server import CallServer
from nano.fabric.http3.stream import Headers, Stream
from nano.fabric.links.ends import Handlers, Listener, Route
from nano.fabric.links.link import Link
from nano.fabric.packets.address import Address
from nano.fabric.packets.quic import Connection, Windows
from nano.fabric.packets.udp import Datagram
from nano.model.errors import Internal, Invalid
from nano.model.peers import Role
from tests.conformance.http_rows import DATA, OK, SETTINGS, TRAILERS
from tests.conformance.quic_rows import CUT, ONLY_LATER, data, frame, new_connection_id
from tests.conformance.scene import REQUEST, WINDOWS, Scene, credentials, hand_over, varint
from tests.fuzz.target import Target, packed, pieces

_MOST_PIECES = 24
"""Of one input: what a search needs, and no more time than it must."""


@functools.cache
def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()


def _in_loop(act: Callable[[bytes], None]) -> Callable[[bytes], None]:
    """Run `act` inside the one loop: links need one for their timers."""

    async def run(data: bytes) -> None:
        act(data)

    return lambda data: _loop().run_until_complete(run(data))


def _check(scene: Scene) -> None:
    """What has to hold of a link, whatever was said to it."""
    assert not isinstance(scene.link.error, Internal), "the link ended by a defect of ours"
    quic = scene.quic
    receivers = [stream.receiver for stream in dict.values(quic._streams)]
    disordered = sum(
        each.highest_offset - each.starting_offset() for each in receivers if not each.is_finished
    )
    assert quic.disordered_bytes == disordered
    assert quic.held_bytes + disordered <= WINDOWS.connection_bytes
    assert sum(len(each._buffer) for each in receivers) <= WINDOWS.connection_bytes
    assert len(quic._streams) <= WINDOWS.streams + 2 * 128 + 8
    assert len(quic._events) == 0
    scene.close()


# QUIC


@_in_loop
def _frames(data: bytes) -> None:
    """Packets with these frames, sealed as they should be."""
    scene = Scene().connected()
    for _, part in pieces(data)[:_MOST_PIECES]:
        scene.frames(part[:1200])
    scene.run()
    _check(scene)


@_in_loop
def _client_frames(data: bytes) -> None:
    """The same, from a server to whom we dialled."""
    scene = Scene(server=False).connected()
    scene.asked()
    for _, part in pieces(data)[:_MOST_PIECES]:
        scene.frames(part[:1200])
    scene.run()
    _check(scene)


def _frame_seeds() -> list[bytes]:
    many = [
        *ONLY_LATER.values(),
        *CUT.values(),
        frame(QuicFrameType.PING),
        frame(QuicFrameType.ACK, 3, 0, 0, 1),
    ]
    many += [
        data(0, 0, DATA, end=True),
        data(0, 60_000, b"late") + data(4, 60_000, b"late"),
        data(0, 9, b"gap") + frame(QuicFrameType.RESET_STREAM, 0, 0, 12) + data(0, 0, bytes(9)),
        frame(QuicFrameType.STREAM_DATA_BLOCKED, 200, 1) + data(100, 0, b"skipped"),
        new_connection_id(9, 9, b"12345678") + new_connection_id(8, 2, b"87654321"),
        frame(QuicFrameType.CRYPTO, 0, 8) + b"\x18\0\0\1\0abc",
        frame(QuicFrameType.TRANSPORT_CLOSE, 7, 0, 2) + b"no",
    ]
    return [packed((0, one)) for one in many] + [packed(*((0, one) for one in many[:20]))]


@_in_loop
def _early(data: bytes) -> None:
    """Initial and Handshake packets, from somebody who has proven nothing; the first may be the real one."""
    for first, part in pieces(data)[:_MOST_PIECES]:
        scene = Scene().begin()
        if first & 1:
            for packet, _ in scene.liar.datagrams_to_send(now=scene.now):
                scene.deliver(packet)
        if first & 2:
            back, scene.out = scene.out, []
            for packet, _ in back:
                scene.liar.take(packet, ("10.0.0.2", 2000), scene.now)
        epoch = tls.Epoch.INITIAL
        if first & 4 and scene.liar._cryptos[tls.Epoch.HANDSHAKE].send.is_valid():
            epoch = tls.Epoch.HANDSHAKE
        scene.deliver(scene.liar.seal(part[:1150].ljust(4, b"\0"), epoch).ljust(1200, b"\0"))
        assert scene.passed_out <= 3 * scene.passed_in, "amplified"
        _check(scene)


def _early_seeds() -> list[bytes]:
    return _loop().run_until_complete(_hellos())


async def _hellos() -> list[bytes]:
    """The ClientHello of a real client, whole, in two frames and bent."""
    scene = Scene().begin()
    hello = bytes(scene.liar._crypto_streams[tls.Epoch.INITIAL].sender._buffer)
    scene.close()
    whole = frame(QuicFrameType.CRYPTO, 0, len(hello)) + hello
    half = len(hello) // 2
    second = frame(QuicFrameType.CRYPTO, half, len(hello) - half) + hello[half:]
    split = second + frame(QuicFrameType.CRYPTO, 0, half) + hello[:half]
    finished = b"\x14\0\0\x20" + bytes(32)
    return [
        packed((0, whole)),
        packed((0, split)),
        packed((1, frame(QuicFrameType.PING))),
        packed((3, frame(QuicFrameType.ACK, 0, 0, 0, 0))),
        packed((7, frame(QuicFrameType.CRYPTO, 0, len(finished)) + finished)),
        packed((7, frame(QuicFrameType.CRYPTO, 0, 8) + b"\x0b\0\0\4\0\0\0\0")),
    ]


@_in_loop
def _parameters(data: bytes) -> None:
    """Transport parameters of a client and of a server: those named are put in the place of the real ones."""
    given = pieces(data)[:_MOST_PIECES]

    def edit(known: list[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
        return [*((n, v) for n, v in known if all(n != kind for kind, _ in given)), *given]

    for server in (True, False):
        _check(Scene(server=server, parameters=edit).connected())


def _parameter_seeds() -> list[bytes]:
    return [packed((number, varint(100))) for number in range(0x12)] + [
        packed((0x0D, bytes(24) + b"\x08" + bytes(24))),
        packed((0x11, b"\0\0\0\1\0\0\0\1")),
        packed((0x20, varint(0))),
        packed((0x0E, varint(2**62 - 1)), (0x01, varint(0)), (0x0B, varint(0))),
    ]


# Whole datagrams


class _Wire:
    """What a listener sends, kept in memory."""

    def __init__(self) -> None:
        self.sent: list[Datagram] = []
        self.address: Address = ("10.0.0.2", 2000)

    def send(self, datagrams: Iterable[Datagram]) -> None:
        self.sent += datagrams

    def close(self) -> None:
        """There is nothing to close."""


HONEST, STRANGER = ("10.0.0.9", 9000), ("10.6.6.6", 666)


def _listener() -> tuple[Listener, _Wire]:
    listener = Listener(
        "127.0.0.1", 0, credentials=credentials("cell"), route=Route(), handlers=Handlers(), windows=WINDOWS
    )
    listener._endpoint.close()
    wire = _Wire()
    listener._endpoint = cast("Any", wire)
    return listener, wire


def _answer(listener: Listener) -> None:
    """What the links would say at the end of this turn of the loop."""
    listener.drained()
    for link in listener.links:
        link.flush()


def _pass(listener: Listener, wire: _Wire, honest: Connection, now: float) -> None:
    """Let the honest client and the listener talk until both are silent."""
    for turn in range(20):
        now += 0.01 * turn
        flight = honest.datagrams_to_send(now=now)
        back, wire.sent = [datagram for datagram in wire.sent if datagram[1] == HONEST], []
        if not flight and not back:
            return
        for packet, _ in back:
            honest.take(packet, ("10.0.0.2", 2000), now)
        for packet, _ in flight:
            hand_over(listener, packet, HONEST)
        _answer(listener)


@_in_loop
def _datagrams(data: bytes) -> None:
    """Datagrams from a stranger to a socket that others use; one of those is served afterwards."""
    now = asyncio.get_running_loop().time()
    listener, wire = _listener()
    dials = credentials("cell").identity.dns_name
    settings = credentials("scheduler").configuration(dials=dials, datagram_bytes=1200, idle_timeout_s=60.0)
    honest = Connection(settings, Windows())
    honest.connect(("10.0.0.2", 2000), now=now)
    _pass(listener, wire, honest, now)
    received = 0
    for kind, part in pieces(data)[:_MOST_PIECES]:
        datagram = part.ljust(1200, b"\0") if kind & 1 else part
        if kind & 2:  # for the honest one's link, as whoever looks on can
            datagram = datagram[:1] + honest._peer_cid.cid + datagram[9:]
        hand_over(listener, datagram, STRANGER)
        received += len(datagram)
    _answer(listener)
    sent = sum(len(packet) for packet, address in wire.sent if address == STRANGER)
    assert sent <= 3 * received, f"amplified: {sent} bytes for {received}"
    assert len(listener.links) <= 1 + len(pieces(data))
    honest._events.clear()
    honest.send_ping(7)
    _pass(listener, wire, honest, now + 5.0)
    assert honest.ended is None
    assert not honest._ping_pending
    assert any(type(event).__name__ == "PingAcknowledged" for event in honest._events), "it is served no more"
    assert not any(isinstance(link.error, Internal) for link in listener.links)
    listener.close()


def _datagram_seeds() -> list[bytes]:
    return _loop().run_until_complete(_first_datagrams())


async def _first_datagrams() -> list[bytes]:
    scene = Scene().begin()
    (initial, _), *_ = scene.liar.datagrams_to_send(now=scene.now)
    scene.deliver(initial)
    (answer, _), *_ = scene.out
    short = b"\x40" + bytes(8) + b"sealed with no key of ours"
    scene.close()
    offer = encode_quic_version_negotiation(b"12345678", b"87654321", [1, 0x6B3343CF])
    retry = encode_quic_retry(1, b"12345678", b"87654321", b"abcdefgh", b"token")
    unknown = initial[:1] + b"\x1a\x2a\x3a\x4a" + initial[5:]
    return [
        packed((0, initial)),
        packed((0, initial), (0, initial)),
        packed((0, answer)),
        packed((2, short)),
        packed((1, offer)),
        packed((1, retry)),
        packed((0, unknown)),
        packed((1, initial[:60])),
    ]


# HTTP/3

_STREAMS = ("request", "request", "control", "encoder", "decoder", "other")


def _say(scene: Scene, data: bytes) -> None:
    """Each piece goes to a stream: its kind says to which, and whether it ends there."""
    opened: dict[str, int] = {}
    for kind, part in pieces(data)[:_MOST_PIECES]:
        name = _STREAMS[kind % len(_STREAMS)]
        if name not in opened or kind & 0x40:
            is_request = name == "request"
            opened[name] = scene.liar.get_next_available_stream_id(is_unidirectional=not is_request)
        if scene.liar.takes_data(opened[name]) or not scene.liar.has_stream(opened[name]):
            try:
                scene.liar.send_stream_data(opened[name], part, bool(kind & 0x80))
            except (AssertionError, RuntimeError, ValueError):  # it had ended it already
                del opened[name]
        scene.run()


@_in_loop
def _http(data: bytes) -> None:
    scene = Scene().connected()
    _say(scene, data)
    _check(scene)


@_in_loop
def _answers(data: bytes) -> None:
    """What a server answers to a request of ours, and says on its own streams."""
    scene = Scene(server=False).connected()
    asked = scene.asked()
    for kind, part in pieces(data)[:_MOST_PIECES]:
        if kind % 4 or not scene.liar.has_stream(asked.id):
            _say(scene, packed((kind | 2, part)))
        elif scene.liar.takes_data(asked.id):
            with contextlib.suppress(RuntimeError):  # it had ended it already
                scene.liar.send_stream_data(asked.id, part, bool(kind & 0x80))
            scene.run()
    _check(scene)


def _http_seeds() -> list[bytes]:
    return _loop().run_until_complete(_exchanges())


async def _exchanges() -> list[bytes]:
    scene = Scene().connected()
    head, trailers = scene.headers(*OK), scene.headers(*TRAILERS)
    ok = scene.headers((b":status", b"200"), (b"content-type", b"application/grpc"))
    scene.close()
    request, end, control, encoder, decoder, other = 0, 0x80, 2, 3, 4, 5
    goaway = encode_frame(FrameType.GOAWAY, b"\0")
    return [
        packed((request, head + DATA + trailers), (end, b"")),
        packed((request | end, head)),
        packed((control, varint(StreamType.CONTROL) + SETTINGS + goaway)),
        packed((encoder, varint(StreamType.QPACK_ENCODER) + b"\x20\xc0\x01a")),
        packed((decoder, varint(StreamType.QPACK_DECODER) + b"\x44")),
        packed((other, varint(0x54) + b"\0x")),
        packed((request, encode_frame(0x21, b"x") + head), (request | end, DATA)),
        packed((request, ok + DATA + trailers), (end, b"")),
        packed((request, encode_frame(FrameType.PUSH_PROMISE, b"\0" + head))),
        packed((request, encode_frame(FrameType.HEADERS, b"\0\0\x51\x0bwww.example\xc1\xd7"))),
    ]


# Calls and bodies


async def _echo(call: Call[Any, Any]) -> None:
    """Reads what it is sent to the end, and gives the last of it back."""
    last = None
    async for message in call:
        last = message
    if last is None:
        raise Invalid("message", "there is none")
    await call.send_message(last)


class _EchoService:
    def __mapping__(self) -> dict[str, Handler]:
        handler = Handler(_echo, Cardinality.STREAM_UNARY, v1.Pool, v1.Pool)
        one = Handler(_echo_one, Cardinality.UNARY_UNARY, v1.Pool, v1.Pool)
        return {"/fuzz.Echo/Last": handler, "/fuzz.Echo/One": one}


async def _echo_one(call: Call[Any, Any]) -> None:
    message = await call.recv_message()
    if message is None:
        raise Invalid("message", "there is none")
    await call.send_message(message)


class _Bodies:
    async def head(self, request: BulkRequest) -> BulkInfo:
        return BulkInfo(9, {"nano-path": "x"})

    async def get(self, request: BulkRequest) -> BulkBody:
        if request.path != "/b":
            raise Invalid("path", f"{request.path} is not here", subject=request.path)

        async def chunks() -> Any:
            yield bytes(9 - request.offset)

        return BulkBody(BulkInfo(9), chunks())

    async def put(self, request: BulkRequest, chunks: Any) -> dict[str, str]:
        return {"nano-size": str(sum([len(chunk) async for chunk in chunks]))}


_EVERY_ROLE = frozenset(Role)
_FIELDS = (
    (b"content-type", b"application/grpc"),
    (b"te", b"trailers"),
    (b"grpc-timeout", b""),
    (b"nano-task", b""),
    (b"x-bin", b""),
    (b"range", b""),
    (b"content-length", b""),
    (b"grpc-encoding", b""),
    (b":path", b""),
    (b":method", b""),
)


def _calls(data: bytes) -> None:
    """A request with these fields and this body, to handlers of calls and of bodies."""
    _loop().run_until_complete(_serve(data))


async def _serve(data: bytes) -> None:
    async with asyncio.TaskGroup() as jobs:
        calls = CallServer(jobs, MessageCodec())
        calls.add([cast("Any", _EchoService())], dict.fromkeys(_EchoService().__mapping__(), _EVERY_ROLE))
        table = {(method, "/"): _EVERY_ROLE for method in ("GET", "HEAD", "PUT")}
        bulk = BulkServer(jobs, _Bodies(), table)
        scene = Scene().connected()

        def request(link: Link, stream: Stream, headers: Headers) -> None:
            if dict(headers).get("content-type", "").startswith("application/grpc"):
                calls.accept(stream, headers)
            else:
                bulk.accept(link, stream, headers)

        scene.owner.request = request  # type: ignore[method-assign]
        fields, body = _request(data)
        try:
            block = scene.headers(*fields)
        except (ValueError, TypeError, RuntimeError):  # what no encoder of headers writes
            scene.close()
            return
        stream_id = scene.say(block + b"".join(encode_frame(FrameType.DATA, part) for part in body), end=True)
        for _ in range(30):
            await asyncio.sleep(0)
            scene.link.flush()
            scene.run()
        heard = [event for event in scene.heard if getattr(event, "stream_id", None) == stream_id]
        assert heard or scene.link.error is not None, "no answer"
        _check(scene)


def _request(data: bytes) -> tuple[list[tuple[bytes, bytes]], list[bytes]]:
    fields, body = dict(REQUEST), []
    fields[b":path"], fields[b":method"] = b"/fuzz.Echo/Last", b"POST"
    for kind, part in pieces(data)[:_MOST_PIECES]:
        if kind & 0x80:
            body.append(part)
        else:
            name, fixed = _FIELDS[kind % len(_FIELDS)]
            fields[name] = fixed or part
    return list(fields.items()), body


def _call_seeds() -> list[bytes]:
    message = bytes(v1.Pool(name="p", enabled=True))
    framed = b"\0" + len(message).to_bytes(4, "big") + message
    grpc = ((0, b""), (1, b""))
    body = 0x80
    return [
        packed(*grpc, (body, framed)),
        packed(*grpc, (8, b"/fuzz.Echo/One"), (body, framed), (body, framed)),
        packed(*grpc, (8, b"/fuzz.Echo/None"), (body, b"")),
        packed(*grpc, (2, b"10S"), (3, b"task"), (4, b"AAAA"), (body, framed[:4]), (body, framed[4:])),
        packed((9, b"GET"), (8, b"/b"), (5, b"bytes=3-")),
        packed((9, b"GET"), (8, b"/\xf6")),
        packed((9, b"HEAD"), (8, b"/b")),
        packed((9, b"PUT"), (8, b"/b"), (6, b"4"), (body, b"four")),
        packed((9, b"DELETE"), (8, b"/b")),
    ]


TARGETS = [
    Target("quic-frames", _frames, _frame_seeds, longest_bytes=3000),
    Target("quic-frames-of-a-server", _client_frames, _frame_seeds, longest_bytes=3000),
    Target("quic-first-packets", _early, _early_seeds, longest_bytes=3000),
    Target("quic-parameters", _parameters, _parameter_seeds, longest_bytes=600),
    Target("datagrams", _datagrams, _datagram_seeds, longest_bytes=6000),
    Target("http-requests", _http, _http_seeds, longest_bytes=3000),
    Target("http-answers", _answers, _http_seeds, longest_bytes=3000),
    Target("calls-and-bodies", _calls, _call_seeds, longest_bytes=2000),
]
