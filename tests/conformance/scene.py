"""One of our links and a peer that does whatever a row of the table says, in memory.

The end under test is a real `Link`, with its `Connection`, `Exchanges` and `Http3`. The other end is a
`Liar`: a connection with the right keys and a certificate of the zone, whose packets a row seals by hand. No
socket, no waiting: datagrams pass in `run` until both are silent.
"""

import asyncio
import contextlib
import functools
import ssl
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, cast

import pylsqpack
from aioquic import tls
from aioquic._buffer import Buffer
from aioquic.buffer import encode_uint_var
from aioquic.h3.connection import ErrorCode, FrameType, Setting, StreamType, encode_frame, encode_settings
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import NetworkAddress, QuicConnectionError, QuicConnectionId
from aioquic.quic.events import StopSendingReceived, StreamDataReceived, StreamReset
from aioquic.quic.packet import QuicErrorCode
from aioquic.quic.stream import QuicStream

from nano.fabric.http3.stream import Headers, Stream
from nano.fabric.identity.credentials import Credentials
from nano.fabric.identity.identity import Identity, Usage
from nano.fabric.links.ends import Listener
from nano.fabric.links.link import Link
from nano.fabric.links.liveness import Pace, Patience
from nano.fabric.links.sparing import Sparing
from nano.fabric.packets.address import Address
from nano.fabric.packets.quic import Connection, Windows
from nano.fabric.packets.udp import Datagram, Train
from nano.model.errors import Internal, NanoError
from nano.model.peers import Role
from tests.support.certificates import issue, make_zone, utc_now

OURS, THEIRS = ("10.0.0.2", 2000), ("10.0.0.1", 1000)
WINDOWS = Windows(stream_bytes=64 * 1024, connection_bytes=128 * 1024, streams=64)
"""Small, so that a row can step over them."""

_PATIENCE = Patience(keep_alive_s=1000.0, suspect_s=3000.0, lost_s=5000.0)
"""Nobody is lost here because time is made to pass."""

VERSION_1 = 1
_LONG_TYPES = {tls.Epoch.INITIAL: 0, tls.Epoch.ZERO_RTT: 1, tls.Epoch.HANDSHAKE: 2}

Parameters = list[tuple[int, bytes]]

REQUEST = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"c1"), (b":path", b"/x")]


def varint(value: int) -> bytes:
    return encode_uint_var(value)


class Liar(Connection):
    """A peer that may say anything. `parameters` edits its transport parameters before they are sent."""

    def __init__(
        self,
        configuration: QuicConfiguration,
        *,
        parameters: Callable[[Parameters], Parameters] | None = None,
        hello: Callable[[tls.Context], None] | None = None,
        original_destination_connection_id: bytes | None = None,
    ) -> None:
        self._edit = parameters
        self._hello = hello
        self.retired: list[int] = []
        """Numbers of connection ids that the other end has given up."""
        super().__init__(
            configuration, Windows(), original_destination_connection_id=original_destination_connection_id
        )

    def _serialize_transport_parameters(self) -> bytes:
        data = super()._serialize_transport_parameters()
        if self._edit is None:
            return data
        found: Parameters = []
        buffer = Buffer(data=data)
        while not buffer.eof():
            number, size = buffer.pull_uint_var(), buffer.pull_uint_var()
            found.append((number, buffer.pull_bytes(size)))
        edited = self._edit(found)
        return b"".join(varint(number) + varint(len(value)) + value for number, value in edited)

    def _initialize(self, peer_cid: bytes) -> None:
        super()._initialize(peer_cid)
        if self._hello is not None:
            self._hello(self.tls)

    def close(self, *_: object, **__: object) -> None:
        """Never: what it says back to us is its own affair."""

    def receive_datagram(self, data: bytes, addr: NetworkAddress, now: float) -> None:
        """It answers to every connection id, also to those that a row made up."""
        if not data[0] & 0x80 and all(data[1:9] != known.cid for known in self._host_cids):
            made_up = QuicConnectionId(cid=data[1:9], sequence_number=self._host_cid_seq, was_sent=True)
            self._host_cids.append(made_up)
        super().receive_datagram(data, addr, now)

    def _payload_received(self, *arguments: Any, **options: Any) -> tuple[bool, bool]:
        """What is wrong in its eyes with what we say is acknowledged all the same."""
        try:
            return super()._payload_received(*arguments, **options)
        except QuicConnectionError:
            return True, False

    def _get_or_create_stream(self, frame_type: int, stream_id: int) -> QuicStream:
        """It knows nothing of the streams that a row spoke on with frames made by hand."""
        own = stream_id % 2 == (0 if self._is_client else 1)
        if own and stream_id not in self._streams:
            return QuicStream(stream_id=stream_id, max_stream_data_local=2**40)
        return super()._get_or_create_stream(frame_type, stream_id)

    def _handle_retire_connection_id_frame(self, context: Any, frame_type: int, buf: Buffer) -> None:
        self.retired.append(buf.pull_uint_var())

    def seal(
        self,
        payload: bytes,
        epoch: tls.Epoch = tls.Epoch.ONE_RTT,
        *,
        destination: bytes | None = None,
        reserved: int = 0,
        token: bytes = b"",
        number: int | None = None,
    ) -> bytes:
        """A packet with `payload` as its frames, as the real keys of `epoch` protect it."""
        if number is None:
            number = self._packet_number
            self._packet_number += 1
        to = self._peer_cid.cid if destination is None else destination
        short = number.to_bytes(4, "big")
        pair = self._cryptos[epoch]
        if epoch == tls.Epoch.ONE_RTT:
            head = bytes([0x40 | reserved | pair.key_phase << 2 | 3]) + to + short
            return pair.encrypt_packet(head, payload, number)
        first = bytes([0xC0 | _LONG_TYPES[epoch] << 4 | reserved | 3])
        ids = bytes([len(to)]) + to + bytes([len(self.host_cid)]) + self.host_cid
        tokens = varint(len(token)) + token if epoch == tls.Epoch.INITIAL else b""
        length = (0x4000 | len(short) + len(payload) + 16).to_bytes(2, "big")
        head = first + VERSION_1.to_bytes(4, "big") + ids + tokens + length + short
        return pair.encrypt_packet(head, payload, number)


class _Owner:
    """What an end does with its link: answers each request with 204, remembers the rest."""

    def __init__(self) -> None:
        self.served = 0
        self.datagrams: list[bytes] = []

    def link_up(self, link: Link) -> None:
        """Nobody waits for it."""

    def link_down(self, link: Link, error: NanoError) -> None:
        """`link.error` has it."""

    def link_silent(self, link: Link, *, suspected: bool) -> None:
        """Time stands still here."""

    def request(self, link: Link, stream: Stream, headers: Headers) -> None:
        self.served += 1
        if stream.id in link.exchanges._streams:
            link.exchanges.send_headers(stream, [(":status", "204")], end=True)

    def datagram(self, link: Link, data: bytes) -> None:
        self.datagrams.append(data)

    def is_behind(self) -> bool:
        """It never is."""
        return False

    def sign_known(self, link: Link, sign_id: bytes) -> None:
        """There is one link."""

    def address_issued(self, link: Link, connection_id: bytes) -> None:
        """There is one link."""

    def address_retired(self, link: Link, connection_id: bytes) -> None:
        """There is one link."""


class _Clock:
    """The loop of a link, on the scene's own time: its timers are looked at in `Scene.run`."""

    def __init__(self, scene: "Scene") -> None:
        self._scene = scene
        self._loop = asyncio.get_running_loop()
        self.create_future = self._loop.create_future

    def time(self) -> float:
        return self._scene.now

    def call_soon(self, _act: Callable[..., object], *_: object) -> asyncio.Handle:
        """`deliver` flushes, always."""
        return self._never()

    def call_at(self, _when: float, _act: Callable[..., object], *_: object) -> asyncio.TimerHandle:
        return self._never()

    def _never(self) -> asyncio.TimerHandle:
        handle = self._loop.call_later(0, self.time)
        handle.cancel()
        return handle


def hand_over(end: Link | Listener, datagram: bytes, address: Address) -> None:
    """Give an end a datagram as its socket would."""
    end.receive(Train(datagram, max(len(datagram), 1), address))


@functools.cache
def zone() -> dict[str, Identity]:
    """A cell and a scheduler of one zone, and a scheduler of another that has the same name."""
    folder = Path(tempfile.mkdtemp(prefix="nano-conformance-"))
    ours, theirs = make_zone(folder / "ours"), make_zone(folder / "theirs")
    return {
        "cell": issue(ours, Role.CELL, "c1"),
        "scheduler": issue(ours, Role.SCHEDULER, "s1"),
        "stranger": issue(theirs, Role.SCHEDULER, "s1"),
    }


@functools.cache
def credentials(name: str) -> Credentials:
    return Credentials.load(zone()[name], utc_now)


class Scene:
    """`link` is the end under test, a server or a client; `liar` its peer. To be made in a running loop."""

    def __init__(
        self,
        *,
        server: bool = True,
        parameters: Callable[[Parameters], Parameters] | None = None,
        hello: Callable[[tls.Context], None] | None = None,
        alpn: list[str] | None = None,
        liar: str | None = None,
        sparing: Sparing | None = None,
    ) -> None:
        self.now = asyncio.get_running_loop().time()
        self.owner = _Owner()
        self.out: list[Datagram] = []
        self.heard: list[object] = []
        self.passed_in = self.passed_out = 0
        """UDP payload bytes that went to the end under test, and that came from it."""
        self._server = server
        cell = zone()["cell"]
        common = {"datagram_bytes": 1200, "idle_timeout_s": 60.0}
        own = credentials("cell" if server else "scheduler")
        other = credentials(liar if liar == "stranger" else ("scheduler" if server else "cell"))
        ours = own.configuration(dials=None if server else cell.dns_name, **common)  # type: ignore[arg-type]
        theirs = other.configuration(dials=cell.dns_name if server else None, **common)  # type: ignore[arg-type]
        theirs.verify_mode = ssl.CERT_NONE
        if alpn is not None:
            theirs.alpn_protocols = alpn
        if liar == "nobody":
            theirs.certificate = theirs.private_key = None
        if server:
            self.liar = Liar(theirs, parameters=parameters, hello=hello)
            original = self.liar.original_destination_connection_id
            connection = Connection(ours, WINDOWS, original_destination_connection_id=original)
        else:
            connection = Connection(ours, WINDOWS)
            original = connection.original_destination_connection_id
            self.liar = Liar(
                theirs, parameters=parameters, hello=hello, original_destination_connection_id=original
            )
        connection._ack_delay = 0.0  # no timer runs here that would send a late one
        verify = functools.partial(
            own.verify,
            usage=Usage.CLIENT if server else Usage.SERVER,
            role=None if server else cell.role,
            name=None if server else cell.id,
        )
        self.link = Link(
            connection,
            self.owner,
            send=self._send,
            verify=verify,
            patience=_PATIENCE,
            pace=Pace(),
            sparing=sparing or Sparing(),
        )
        self.link._loop = cast("Any", _Clock(self))
        self._encoder = pylsqpack.Encoder()

    def _send(self, datagrams: Iterable[Datagram]) -> None:
        for datagram in datagrams:
            self.passed_out += len(datagram[0])
            self.out.append(datagram)

    @property
    def quic(self) -> Connection:
        return self.link.quic

    # Passing datagrams

    def begin(self) -> "Scene":
        """Send the first flight, and let nothing pass."""
        if self._server:
            self.liar.connect(OURS, now=self.now)
        else:
            self.quic.connect(THEIRS, now=self.now)
            self.link.flush()
        return self

    def connected(self) -> "Scene":
        self.begin().run()
        return self

    def deliver(self, datagram: bytes) -> None:
        """Hand one datagram of the liar to the end under test."""
        self.passed_in += len(datagram)
        hand_over(self.link, datagram, THEIRS)
        self.link.flush()

    def run(self) -> None:
        """Pass datagrams both ways until neither has one."""
        for _ in range(200):
            flight = self.liar.datagrams_to_send(now=self.now) if self.liar.has_path else []
            back, self.out = self.out, []
            self.now += 0.03
            if not flight and not back:
                self._look_at_timers()
                if not self.out:
                    return
            for data, _ in back:
                self.liar.take(data, OURS, self.now)
            self._listen()
            for data, _ in flight:
                self.deliver(data)
            if not flight and self.liar.has_path:
                self.liar.handle_timer(now=self.now)
            self._look_at_timers()

    def _look_at_timers(self) -> None:
        due = self.quic.get_timer()
        if due is not None and due <= self.now and self.link.error is None:
            self.quic.handle_timer(now=self.now)
            self.link.flush()

    def _listen(self) -> None:
        while (event := self.liar.next_event()) is not None:
            self.heard.append(event)

    # What the liar says

    def frames(self, payload: bytes, epoch: tls.Epoch = tls.Epoch.ONE_RTT, **how: object) -> None:
        """Send one packet with these frames."""
        packet = self.liar.seal(payload, epoch, **how)  # type: ignore[arg-type]
        if epoch == tls.Epoch.INITIAL:
            packet += bytes(max(0, 1200 - len(packet)))
        self.deliver(packet)
        self.run()

    def say(self, data: bytes, stream_id: int | None = None, *, end: bool = False) -> int:
        """Write to a stream, a new one for a request unless named; gives its id."""
        if stream_id is None:
            stream_id = self.liar.get_next_available_stream_id()
        self.liar.send_stream_data(stream_id, data, end)
        self.run()
        return stream_id

    def say_alone(self, data: bytes, *, kind: int, end: bool = False) -> int:
        """Open a stream of one direction, of the given kind."""
        stream_id = self.liar.get_next_available_stream_id(is_unidirectional=True)
        return self.say(varint(kind) + data, stream_id, end=end)

    def control(self, *frames: bytes, settings: dict[int, int] | None = None) -> int:
        """Open the control stream as one should, then send `frames` on it."""
        own = {Setting.QPACK_MAX_TABLE_CAPACITY: 0} if settings is None else settings
        first = encode_frame(FrameType.SETTINGS, encode_settings({int(k): v for k, v in own.items()}))
        return self.say_alone(first + b"".join(frames), kind=StreamType.CONTROL)

    def headers(self, *fields: tuple[bytes, bytes]) -> bytes:
        """A HEADERS frame, with no dynamic table."""
        _, block = self._encoder.encode(0, list(fields))
        return encode_frame(FrameType.HEADERS, block)

    def asked(self) -> Stream:
        """Have the end under test, a client, send a request; gives its stream."""
        stream = self.link.exchanges.create_stream()
        head = [(name.decode(), value.decode()) for name, value in REQUEST]
        with contextlib.suppress(StopIteration):  # it has nothing to wait for
            stream.send_request(head, end_stream=True).send(None)
        self.link.flush()
        self.run()
        return stream

    # What came of it

    def still_serves(self) -> bool:
        """Whether a proper request is answered still."""
        if self._server:
            stream_id = self.say(self.headers(*REQUEST), end=True)
            return any(isinstance(e, StreamDataReceived) and e.stream_id == stream_id for e in self.heard)
        stream = self.asked()
        self.say(self.headers((b":status", b"204")), stream.id, end=True)
        return stream.headers is not None and stream.error is None

    def outcome(self, stream_id: int | None = None) -> str:
        """What the peer got: `connection NAME`, `stream NAME`, `ignored` if the link serves on, or worse."""
        self.run()
        if isinstance(self.link.error, Internal):
            return "a defect of ours"
        ended = self.quic.ended
        if ended is not None:
            told = self.liar.ended is not None and self.liar.ended.error_code == ended.error_code
            name = name_of(ended.error_code, application=ended.frame_type is None)
            return f"connection {name}" + ("" if told else ", and nobody is told")
        resets = [e for e in self.heard if isinstance(e, StreamReset)]
        if stream_id is not None:
            resets = [e for e in resets if e.stream_id == stream_id]
        if resets:
            codes = {name_of(event.error_code, application=True) for event in resets}
            after = "" if self.still_serves() else ", and the link serves no more"
            return f"stream {', '.join(sorted(codes))}{after}"
        return "ignored" if self.still_serves() else "no answer any more"

    def stopped(self, stream_id: int) -> str:
        """With which error the peer was asked to send no more on a stream, or that it was broken off."""
        asked = (StopSendingReceived, StreamReset)
        codes = [e.error_code for e in self.heard if isinstance(e, asked) and e.stream_id == stream_id]
        return name_of(codes[0], application=True) if codes else "none"

    def close(self) -> None:
        self.link.close()


def name_of(code: int, *, application: bool) -> str:
    """The name of an error code: of HTTP/3 and QPACK for an application's, else of QUIC and TLS."""
    if application:
        return ErrorCode(code).name if code in set(ErrorCode) else hex(code)
    if QuicErrorCode.CRYPTO_ERROR <= code < QuicErrorCode.CRYPTO_ERROR + 0x100:
        return f"CRYPTO_ERROR {tls.AlertDescription(code - QuicErrorCode.CRYPTO_ERROR).name}"
    return QuicErrorCode(code).name if code in set(QuicErrorCode) else hex(code)
