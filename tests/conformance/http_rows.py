"""What a peer may not do with HTTP/3 (RFC 9114), QPACK (RFC 9204) and HTTP datagrams (RFC 9297)."""

from collections.abc import Callable

from aioquic.h3.connection import FrameType, Setting, StreamType, encode_frame

from nano.fabric.http3.header_blocks import HEADERS_LIMIT_BYTES
from tests.conformance.row import IGNORED, Row, connection, stream
from tests.conformance.scene import REQUEST, Scene, varint

_UNEXPECTED = connection("H3_FRAME_UNEXPECTED")
_FRAME_ERROR = connection("H3_FRAME_ERROR")
_MESSAGE = stream("H3_MESSAGE_ERROR")
_CREATION = connection("H3_STREAM_CREATION_ERROR")
_CRITICAL = connection("H3_CLOSED_CRITICAL_STREAM")
_ID = connection("H3_ID_ERROR")

Fields = tuple[tuple[bytes, bytes], ...]


def _asks(*parts: bytes | Fields, end: bool = True) -> Callable[[], Scene]:
    """Send these frames, or fields as a HEADERS frame, on a stream for a request."""

    def act() -> Scene:
        scene = Scene().connected()
        scene.say(b"".join(_frame(scene, part) for part in parts), end=end)
        return scene

    return act


def _answers(*parts: bytes | Fields, end: bool = True) -> Callable[[], Scene]:
    """Have our client ask, and answer with these."""

    def act() -> Scene:
        scene = Scene(server=False).connected()
        asked = scene.asked()
        scene.say(b"".join(_frame(scene, part) for part in parts), asked.id, end=end)
        return scene

    return act


def _frame(scene: Scene, part: bytes | Fields) -> bytes:
    return part if isinstance(part, bytes) else scene.headers(*part)


def _controls(*frames: bytes, server: bool = True) -> Callable[[], Scene]:
    """Send these on the control stream, after SETTINGS."""

    def act() -> Scene:
        scene = Scene(server=server).connected()
        scene.control(*frames)
        return scene

    return act


def _alone(kind: int, data: bytes = b"", *, end: bool = False, server: bool = True) -> Callable[[], Scene]:
    """Open a stream of one direction and of this kind."""

    def act() -> Scene:
        scene = Scene(server=server).connected()
        scene.say_alone(data, kind=kind, end=end)
        return scene

    return act


def _twice(kind: int) -> Callable[[], Scene]:
    def act() -> Scene:
        scene = Scene().connected()
        for _ in range(2):
            scene.say_alone(b"", kind=kind)
        return scene

    return act


def _breaks_off(kind: int) -> Callable[[], Scene]:
    def act() -> Scene:
        scene = Scene().connected()
        stream_id = scene.control() if kind == StreamType.CONTROL else scene.say_alone(b"", kind=kind)
        scene.liar.reset_stream(stream_id, 0)
        scene.run()
        return scene

    return act


def _stops(index: int) -> Callable[[], Scene]:
    """Ask us to stop one of our own three streams: control, encoder, decoder."""

    def act() -> Scene:
        scene = Scene().connected()
        scene.frames(b"\x05" + varint(3 + 4 * index) + varint(0))
        return scene

    return act


def _settings(known: dict[int, int]) -> Callable[[], Scene]:
    def act() -> Scene:
        scene = Scene().connected()
        scene.control(settings=known)
        return scene

    return act


def _with(*changed: tuple[bytes, bytes], but: tuple[bytes, ...] = ()) -> Fields:
    """The fields of a request with some replaced or added, without those named in `but`."""
    new = dict(changed)
    kept = [(name, new.pop(name, value)) for name, value in REQUEST if name not in but]
    return (*kept, *new.items())


OK: Fields = tuple(REQUEST)
DATA = encode_frame(FrameType.DATA, b"body")
TRAILERS: Fields = ((b"grpc-status", b"0"),)
SETTINGS = encode_frame(FrameType.SETTINGS, b"")


def _frames_on_requests() -> list[Row]:
    forbidden = {
        "SETTINGS": FrameType.SETTINGS,
        "CANCEL_PUSH": FrameType.CANCEL_PUSH,
        "GOAWAY": FrameType.GOAWAY,
        "MAX_PUSH_ID": FrameType.MAX_PUSH_ID,
    }
    return [
        *(
            Row(
                "RFC 9114, 7.2",
                f"sends {name} on a stream for a request",
                _UNEXPECTED,
                _asks(OK, encode_frame(kind, b"\0")),
            )
            for name, kind in forbidden.items()
        ),
        *(
            Row(
                "RFC 9114, 7.2.8",
                f"sends a frame that only HTTP/2 has (type {kind}) with a request",
                _UNEXPECTED,
                _asks(OK, encode_frame(kind, b"")),
            )
            for kind in (2, 6, 8, 9)
        ),
        Row("RFC 9114, 4.1", "sends DATA before HEADERS", _UNEXPECTED, _asks(DATA, OK)),
        Row("RFC 9114, 4.1", "sends DATA after the trailers", _UNEXPECTED, _asks(OK, DATA, TRAILERS, DATA)),
        Row(
            "RFC 9114, 4.1",
            "sends HEADERS after the trailers",
            _UNEXPECTED,
            _asks(OK, DATA, TRAILERS, TRAILERS),
        ),
        Row(
            "RFC 9114, 7.2.5",
            "as a client, promises a push",
            _UNEXPECTED,
            _asks(OK, encode_frame(FrameType.PUSH_PROMISE, b"\0")),
        ),
        Row("RFC 9114, 9", "sends a frame of an unknown type", IGNORED, _asks(encode_frame(0x2F, b"x"), OK)),
        Row(
            "RFC 9114, 9",
            "sends a frame of WebTransport, which was not agreed on, before a request",
            ("the request is answered",),
            _answered(encode_frame(FrameType.WEBTRANSPORT_STREAM, b"x")),
        ),
        Row("RFC 9114, 7.1", "ends the stream in the middle of a frame", _FRAME_ERROR, _asks(OK, DATA[:-1])),
        Row("RFC 9114, 7.1", "ends the stream in the head of a frame", _FRAME_ERROR, _asks(OK, b"\x01\x40")),
        Row(
            "RFC 9114, 4.1",
            "ends the stream before the request is whole",
            stream("H3_REQUEST_INCOMPLETE"),
            _asks(encode_frame(0x2F, b"x")),
        ),
        Row(
            "RFC 9114, 4.1",
            "breaks the stream off before the request is whole",
            stream("H3_REQUEST_INCOMPLETE"),
            _cancels,
        ),
        Row(
            "RFC 9114, 10.5",
            "announces a header block larger than we gather",
            connection("H3_EXCESSIVE_LOAD"),
            _asks(varint(1) + varint(HEADERS_LIMIT_BYTES + 1), end=False),
        ),
        Row(
            "RFC 9114, 4.2.2",
            "sends fields larger than our SETTINGS allow",
            stream("H3_EXCESSIVE_LOAD"),
            _asks((*OK, *((b"accept-encoding", b"gzip, deflate, br") for _ in range(1200)))),
        ),
    ]


def _answered(before: bytes) -> Callable[[], str]:
    def act() -> str:
        scene = Scene().connected()
        scene.say(before + scene.headers(*REQUEST), end=True)
        served = scene.owner.served
        scene.close()
        return "the request is answered" if served else "no answer"

    return act


def _cancels() -> Scene:
    scene = Scene().connected()
    stream_id = scene.say(b"\x01")
    scene.liar.reset_stream(stream_id, 0x10C)
    scene.run()
    return scene


def _messages() -> list[Row]:
    flaws = {
        "no :method": _with(but=(b":method",)),
        "no :scheme": _with(but=(b":scheme",)),
        "no :path": _with(but=(b":path",)),
        "no :authority": _with(but=(b":authority",)),
        "an empty :path": _with((b":path", b"")),
        "an empty :authority": _with((b":authority", b"")),
        ":status, as only an answer has": _with((b":status", b"200")),
        ":protocol, which was not agreed on": _with((b":method", b"CONNECT"), (b":protocol", b"x")),
        "a pseudo-header that nobody knows": _with((b":nano", b"x")),
        "CONNECT with a :path": _with((b":method", b"CONNECT")),
        "another host than :authority": _with((b"host", b"c2")),
    }
    fields = {
        "a name in capitals": (b"Accept", b"x"),
        "a name with a space": (b"ac cept", b"x"),
        "a name with a colon inside": (b"ac:cept", b"x"),
        "an empty line in a value": (b"accept", b"x\r\n\r\nx"),
        "NUL in a value": (b"accept", b"x\0"),
        "a value that begins with a space": (b"accept", b" x"),
        "connection": (b"connection", b"close"),
        "keep-alive": (b"keep-alive", b"5"),
        "proxy-connection": (b"proxy-connection", b"close"),
        "transfer-encoding": (b"transfer-encoding", b"chunked"),
        "upgrade": (b"upgrade", b"h2c"),
        "te that is not trailers": (b"te", b"gzip"),
        "a content-length that is no number": (b"content-length", b"ten"),
        "a content-length below zero": (b"content-length", b"-1"),
    }
    return [
        *(
            Row("RFC 9114, 4.3", f"sends a request with {name}", _MESSAGE, _asks(found))
            for name, found in flaws.items()
        ),
        *(
            Row("RFC 9114, 4.2", f"sends a field that may not be: {name}", _MESSAGE, _asks(_with(found)))
            for name, found in fields.items()
        ),
        Row(
            "RFC 9114, 4.3.1",
            "sends :path twice",
            _MESSAGE,
            _asks((*OK, (b":path", b"/y"))),
        ),
        Row(
            "RFC 9114, 4.3",
            "sends a pseudo-header after other fields",
            _MESSAGE,
            _asks((*OK[:3], (b"accept", b"x"), OK[3])),
        ),
        Row(
            "RFC 9114, 4.3",
            "sends a pseudo-header in trailers",
            _MESSAGE,
            _asks(OK, DATA, ((b":path", b"/y"),)),
        ),
        Row(
            "RFC 9114, 4.1.2",
            "sends another body than its content-length says",
            _MESSAGE,
            _asks(_with((b"content-length", b"9")), DATA),
            instead="ignored",
            deviates="who reads a body counts it: a PUT is answered with the error, which RFC 9114, 4.1.2 "
            "allows; a message of gRPC has its own length; other requests have no body that anybody reads",
        ),
    ]


def _answers_malformed() -> list[Row]:
    ok = ((b":status", b"200"),)
    flaws: dict[str, tuple[bytes | Fields, ...]] = {
        "without :status": (((b"accept", b"x"),),),
        "with a :status that is no number": (((b":status", b"abc"),),),
        "with :status 101": (((b":status", b"101"),),),
        "with :path": (((b":status", b"200"), (b":path", b"/")),),
        "with a name in capitals": (((b":status", b"200"), (b"Accept", b"x")),),
        "with transfer-encoding": (((b":status", b"200"), (b"transfer-encoding", b"chunked")),),
        "that is only an interim one": (((b":status", b"103"),),),
        "whose trailers have :status": (ok, DATA, ((b":status", b"200"),)),
    }
    return [
        *(
            Row(
                "RFC 9114, 4.3.2",
                f"as a server, answers {name}",
                ("the call fails",) if "interim" in name else _MESSAGE,
                _refused(*parts),
            )
            for name, parts in flaws.items()
        ),
        Row("RFC 9114, 4.1", "as a server, sends DATA before HEADERS", _UNEXPECTED, _answers(DATA)),
        Row(
            "RFC 9114, 7.2.5",
            "as a server, promises a push that nobody allowed",
            _ID,
            _answers(ok, encode_frame(FrameType.PUSH_PROMISE, b"\0"), end=False),
        ),
        Row(
            "RFC 9114, 4.6",
            "as a server, pushes, which nobody allowed",
            _ID,
            _alone(StreamType.PUSH, varint(0), server=False),
        ),
        Row(
            "RFC 9114, 6.1",
            "as a server, opens a stream of two directions",
            _CREATION,
            _server_asks,
        ),
        Row(
            "RFC 9114, 7.2.7",
            "as a server, sends MAX_PUSH_ID",
            _UNEXPECTED,
            _controls(encode_frame(FrameType.MAX_PUSH_ID, b"\0"), server=False),
        ),
        Row(
            "RFC 9114, 5.2",
            "as a server, names no request in GOAWAY",
            _ID,
            _controls(encode_frame(FrameType.GOAWAY, b"\x03"), server=False),
        ),
        Row(
            "RFC 9114, 5.2",
            "as a server, raises the number in GOAWAY",
            _ID,
            _controls(
                encode_frame(FrameType.GOAWAY, b"\x04"), encode_frame(FrameType.GOAWAY, b"\x08"), server=False
            ),
        ),
        Row(
            "RFC 9114, 7.2.3",
            "as a server, cancels a push that was not promised",
            _ID,
            _controls(encode_frame(FrameType.CANCEL_PUSH, b"\0"), server=False),
        ),
    ]


def _refused(*parts: bytes | Fields) -> Callable[[], str]:
    """What our client's call ends with; the code stands in the STOP_SENDING that the server gets."""

    def act() -> str:
        scene = Scene(server=False).connected()
        asked = scene.asked()
        scene.say(b"".join(_frame(scene, part) for part in parts), asked.id, end=parts[0][0][1] == b"103")  # type: ignore[index]
        code = f"stream {scene.stopped(asked.id)}"
        if asked.error is None:
            return "the call goes on"
        if code == "stream none":
            code = "the call fails"  # the stream had ended: there is nothing left to stop
        served = scene.still_serves()
        scene.close()
        return code if served else f"{code}, and the link serves no more"

    return act


def _server_asks() -> Scene:
    scene = Scene(server=False).connected()
    scene.frames(b"\x0a" + varint(1) + varint(1) + b"\0")
    return scene


def _control() -> list[Row]:
    return [
        Row(
            "RFC 9114, 6.2.1",
            "begins its control stream with another frame than SETTINGS",
            connection("H3_MISSING_SETTINGS"),
            _alone(StreamType.CONTROL, encode_frame(FrameType.GOAWAY, b"\0")),
        ),
        Row(
            "RFC 9114, 6.2.1",
            "begins its control stream with an unknown frame",
            connection("H3_MISSING_SETTINGS"),
            _alone(StreamType.CONTROL, encode_frame(0x21, b"")),
        ),
        Row("RFC 9114, 7.2.4", "sends SETTINGS twice", _UNEXPECTED, _controls(SETTINGS)),
        *(
            Row(
                "RFC 9114, 7.2",
                f"sends {kind.name} on its control stream",
                _UNEXPECTED,
                _controls(encode_frame(kind, b"")),
            )
            for kind in (FrameType.DATA, FrameType.HEADERS, FrameType.PUSH_PROMISE)
        ),
        *(
            Row(
                "RFC 9114, 7.2.8",
                f"sends a frame that only HTTP/2 has (type {kind}) on its control stream",
                _UNEXPECTED,
                _controls(encode_frame(kind, b"")),
            )
            for kind in (2, 6, 8, 9)
        ),
        Row(
            "RFC 9114, 9",
            "sends an unknown frame after SETTINGS",
            IGNORED,
            _controls(encode_frame(0x2F, b"x")),
        ),
        Row(
            "RFC 9114, 7.2.4",
            "sends SETTINGS that are cut short",
            _FRAME_ERROR,
            _alone(StreamType.CONTROL, encode_frame(FrameType.SETTINGS, b"\x01")),
        ),
        Row(
            "RFC 9114, 7.2.4",
            "sends a setting twice",
            connection("H3_SETTINGS_ERROR"),
            _alone(StreamType.CONTROL, encode_frame(FrameType.SETTINGS, b"\x06\x01\x06\x01")),
        ),
        *(
            Row(
                "RFC 9114, 7.2.4.1",
                f"sends a setting that only HTTP/2 has ({number})",
                connection("H3_SETTINGS_ERROR"),
                _settings({number: 1}),
            )
            for number in (0, 2, 3, 4, 5)
        ),
        Row("RFC 9114, 7.2.4.1", "sends a setting that nobody knows", IGNORED, _settings({0x21: 7})),
        Row(
            "RFC 9297, 2.1.1",
            "sends a SETTINGS_H3_DATAGRAM that is neither 0 nor 1",
            connection("H3_SETTINGS_ERROR"),
            _settings({Setting.H3_DATAGRAM: 2}),
        ),
        Row(
            "RFC 9220, 3",
            "sends a SETTINGS_ENABLE_CONNECT_PROTOCOL that is neither 0 nor 1",
            connection("H3_SETTINGS_ERROR"),
            _settings({Setting.ENABLE_CONNECT_PROTOCOL: 2}),
        ),
        Row(
            "RFC 9114, 10.5",
            "sends SETTINGS without end",
            connection("H3_EXCESSIVE_LOAD"),
            _alone(StreamType.CONTROL, varint(4) + varint(2**40) + bytes(20_000)),
        ),
        Row("RFC 9114, 6.2.1", "opens two control streams", _CREATION, _two_controls),
        Row("RFC 9114, 6.2.1", "ends its control stream", _CRITICAL, _ends_control),
        Row("RFC 9114, 6.2.1", "breaks its control stream off", _CRITICAL, _breaks_off(StreamType.CONTROL)),
        Row("RFC 9114, 6.2.1", "asks us to stop our control stream", _CRITICAL, _stops(0)),
        Row("RFC 9114, 6.2.2", "as a client, pushes", _CREATION, _alone(StreamType.PUSH, varint(0))),
        Row("RFC 9114, 6.2", "opens a stream of an unknown kind", IGNORED, _alone(0x2F, b"whatever")),
        Row("RFC 9114, 6.2", "ends a stream before saying of which kind it is", IGNORED, _nameless),
        Row(
            "RFC 9114, 7.2.7",
            "lowers MAX_PUSH_ID",
            _ID,
            _controls(
                encode_frame(FrameType.MAX_PUSH_ID, b"\x05"), encode_frame(FrameType.MAX_PUSH_ID, b"\x04")
            ),
        ),
        *(
            Row(
                "RFC 9114, 7.1",
                f"sends {kind.name} with {name}",
                _FRAME_ERROR,
                _controls(encode_frame(kind, body)),
            )
            for kind in (FrameType.MAX_PUSH_ID, FrameType.GOAWAY, FrameType.CANCEL_PUSH)
            for name, body in (("nothing in it", b""), ("more than a number in it", b"\0\0"))
        ),
        Row(
            "RFC 9114, 7.2.3",
            "cancels a push that we did not promise",
            _ID,
            _controls(encode_frame(FrameType.CANCEL_PUSH, b"\0")),
        ),
        Row(
            "RFC 9114, 5.2",
            "raises the number in GOAWAY",
            _ID,
            _controls(encode_frame(FrameType.GOAWAY, b"\x01"), encode_frame(FrameType.GOAWAY, b"\x02")),
        ),
        Row(
            "RFC 9114, 5.2",
            "says GOAWAY twice",
            IGNORED,
            _controls(*[encode_frame(FrameType.GOAWAY, b"\0")] * 2),
        ),
    ]


def _two_controls() -> Scene:
    scene = Scene().connected()
    scene.control()
    scene.control()
    return scene


def _ends_control() -> Scene:
    scene = Scene().connected()
    scene.say(b"", scene.control(), end=True)
    return scene


def _nameless() -> Scene:
    scene = Scene().connected()
    stream_id = scene.liar.get_next_available_stream_id(is_unidirectional=True)
    scene.say(b"", stream_id, end=True)
    return scene


def _qpack() -> list[Row]:
    decompression = connection("QPACK_DECOMPRESSION_FAILED")
    encoder = connection("QPACK_ENCODER_STREAM_ERROR")
    decoder = connection("QPACK_DECODER_STREAM_ERROR")

    def block(data: bytes) -> Callable[[], Scene]:
        return _asks(encode_frame(FrameType.HEADERS, data))

    return [
        Row("RFC 9204, 4.5", "sends an empty header block", decompression, block(b"")),
        Row(
            "RFC 9204, 4.5", "sends a header block that is cut short", decompression, block(b"\0\0\x51\x0bx")
        ),
        Row(
            "RFC 9204, 3.1",
            "names an entry that the static table has not",
            decompression,
            block(b"\0\0\xff\x80\x01"),
        ),
        Row(
            "RFC 9204, 2.2.3",
            "names an entry of the table that is not there",
            decompression,
            block(b"\0\0\x80"),
        ),
        Row(
            "RFC 9204, 2.1.2",
            "has us wait for the table that is not there",
            decompression,
            block(b"\x02\0\x80"),
        ),
        Row(
            "RFC 9204, 4.1.1",
            "sends a number that overflows",
            decompression,
            block(b"\0\0\xff" + b"\xff" * 12),
        ),
        Row(
            "RFC 7541, 5.2",
            "sends a Huffman code that is none",
            decompression,
            block(b"\0\0\x51\x84\xff\xff\xff\xff"),
        ),
        Row(
            "RFC 9204, 4.3.1",
            "makes the table larger than we allow",
            encoder,
            _alone(StreamType.QPACK_ENCODER, b"\x3f\x01"),
        ),
        Row(
            "RFC 9204, 3.2.2",
            "puts an entry into the table that is not there",
            encoder,
            _alone(StreamType.QPACK_ENCODER, b"\x41a\x01b"),
        ),
        Row(
            "RFC 9204, 4.3.4",
            "copies an entry that is not there",
            encoder,
            _alone(StreamType.QPACK_ENCODER, b"\x00"),
        ),
        Row(
            "RFC 9204, 4.4.1",
            "acknowledges a header block that needs none",
            decoder,
            _alone(StreamType.QPACK_DECODER, b"\x80"),
        ),
        Row("RFC 9204, 4.4.3", "acknowledges no insert", decoder, _alone(StreamType.QPACK_DECODER, b"\x00")),
        Row(
            "RFC 9204, 4.4.3",
            "acknowledges inserts that were not made",
            decoder,
            _alone(StreamType.QPACK_DECODER, b"\x05"),
        ),
        Row(
            "RFC 9204, 4.4.2",
            "cancels a stream that has no header block",
            IGNORED,
            _alone(StreamType.QPACK_DECODER, b"\x44"),
        ),
        *(
            Row("RFC 9204, 4.2", f"opens two streams of kind {kind.name}", _CREATION, _twice(kind))
            for kind in (StreamType.QPACK_ENCODER, StreamType.QPACK_DECODER)
        ),
        *(
            Row("RFC 9204, 4.2", f"ends its stream of kind {kind.name}", _CRITICAL, _alone(kind, end=True))
            for kind in (StreamType.QPACK_ENCODER, StreamType.QPACK_DECODER)
        ),
        *(
            Row("RFC 9204, 4.2", f"breaks its stream of kind {kind.name} off", _CRITICAL, _breaks_off(kind))
            for kind in (StreamType.QPACK_ENCODER, StreamType.QPACK_DECODER)
        ),
        Row("RFC 9204, 4.2", "asks us to stop our encoder's stream", _CRITICAL, _stops(1)),
        Row("RFC 9204, 4.2", "asks us to stop our decoder's stream", _CRITICAL, _stops(2)),
    ]


def _datagrams() -> list[Row]:
    return [
        Row(
            "RFC 9297, 2.1",
            "sends a datagram too short for a stream's number",
            connection("H3_DATAGRAM_ERROR"),
            _datagram(b""),
            instead="ignored",
            deviates="we do not offer SETTINGS_H3_DATAGRAM: our datagrams are samples of a format of our "
            "own, and one that is none is dropped by whoever reads it",
        ),
        Row(
            "RFC 9297, 2.1",
            "sends a datagram for a stream that nobody can open",
            connection("H3_DATAGRAM_ERROR"),
            _datagram(varint(2**61)),
            instead="ignored",
            deviates="as above",
        ),
    ]


def _datagram(data: bytes) -> Callable[[], Scene]:
    def act() -> Scene:
        scene = Scene().connected()
        scene.frames(b"\x31" + varint(len(data)) + data)
        return scene

    return act


ROWS = [
    *_frames_on_requests(),
    *_messages(),
    *_answers_malformed(),
    *_control(),
    *_qpack(),
    *_datagrams(),
]
