"""A contract over raw bytes, for tests of the fabric: each kind of call, and some that misbehave."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from typing import Any

from betterproto2.grpclib.grpclib_client import ServiceStub
from grpclib.const import Cardinality, Handler
from grpclib.encoding.base import CodecBase
from grpclib.server import Stream

from nano.fabric.calls.caller import Caller, caller
from nano.model.errors import NanoError
from nano.model.peers import Role

ECHO = "/test.Echo/"
EVERYONE = frozenset(Role) - {Role.APPLICANT}
ROLES = {
    ECHO + name: EVERYONE
    for name in ("Repeat", "Count", "Total", "Chat", "Wait", "Fail", "WhoAmI", "Flood", "Ignore")
}


class BytesCodec(CodecBase):
    """Messages are bytes as they are."""

    __content_subtype__ = "proto"

    def encode(self, message: Any, message_type: Any) -> bytes:
        assert isinstance(message, message_type)
        return bytes(message)

    def decode(self, data: bytes, message_type: Any) -> Any:
        return data


class EchoHandler:
    """Answers; keeps what happened for the test to look at."""

    def __init__(self) -> None:
        self.started = asyncio.Event()
        self.stopped = asyncio.Event()
        self.may_read = asyncio.Event()
        self.produced = 0
        self.error: Exception | None = None
        self.callers: list[Caller] = []

    def __mapping__(self) -> dict[str, Handler]:
        kinds = {
            "Repeat": (self._repeat, Cardinality.UNARY_UNARY),
            "Count": (self._count, Cardinality.UNARY_STREAM),
            "Total": (self._total, Cardinality.STREAM_UNARY),
            "Chat": (self._chat, Cardinality.STREAM_STREAM),
            "Wait": (self._wait, Cardinality.UNARY_STREAM),
            "Fail": (self._fail, Cardinality.UNARY_UNARY),
            "WhoAmI": (self._who_am_i, Cardinality.UNARY_UNARY),
            "Flood": (self._flood, Cardinality.UNARY_STREAM),
            "Ignore": (self._ignore, Cardinality.STREAM_UNARY),
            "Secret": (self._repeat, Cardinality.UNARY_UNARY),
        }
        return {ECHO + name: Handler(run, kind, bytes, bytes) for name, (run, kind) in kinds.items()}

    async def _repeat(self, call: Stream[bytes, bytes]) -> None:
        message = await call.recv_message()
        assert message is not None
        await call.send_message(message)

    async def _count(self, call: Stream[bytes, bytes]) -> None:
        for number in range(int(await call.recv_message() or b"0")):
            await call.send_message(str(number).encode())

    async def _total(self, call: Stream[bytes, bytes]) -> None:
        total = 0
        async for message in call:
            total += len(message)
        await call.send_message(str(total).encode())

    async def _chat(self, call: Stream[bytes, bytes]) -> None:
        async for message in call:
            await call.send_message(message.upper())

    async def _wait(self, call: Stream[bytes, bytes]) -> None:
        """Say that it began, then wait until somebody ends it."""
        await call.recv_message()
        await call.send_message(b"started")
        self.started.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.stopped.set()

    async def _fail(self, call: Stream[bytes, bytes]) -> None:
        await call.recv_message()
        assert self.error is not None
        raise self.error

    async def _who_am_i(self, call: Stream[bytes, bytes]) -> None:
        await call.recv_message()
        found = caller()
        self.callers.append(found)
        await call.send_message(str(found.peer).encode())

    async def _ignore(self, call: Stream[bytes, bytes]) -> None:
        """Read one message, then nothing more until somebody lets it."""
        await call.recv_message()
        self.started.set()
        await self.may_read.wait()
        await self._total(call)

    async def _flood(self, call: Stream[bytes, bytes]) -> None:
        """Send 100 kB messages without end."""
        await call.recv_message()
        self.started.set()
        try:
            while True:
                await call.send_message(bytes(100_000))
                self.produced += 1
        finally:
            self.stopped.set()


class EchoStub(ServiceStub):
    """What a generator would have made."""

    async def repeat(self, message: bytes, **options: Any) -> bytes:
        return await self._unary(ECHO + "Repeat", message, **options)

    async def secret(self, message: bytes) -> bytes:
        return await self._unary(ECHO + "Secret", message)

    async def missing(self, message: bytes) -> bytes:
        return await self._unary(ECHO + "Missing", message)

    async def fail(self) -> bytes:
        return await self._unary(ECHO + "Fail", b"")

    async def who_am_i(self, **options: Any) -> bytes:
        return await self._unary(ECHO + "WhoAmI", b"", **options)

    def count(self, upto: int) -> AsyncIterator[bytes]:
        return self._stream(ECHO + "Count", str(upto).encode())

    def wait(self, **options: Any) -> AsyncIterator[bytes]:
        return self._stream(ECHO + "Wait", b"", **options)

    def flood(self) -> AsyncIterator[bytes]:
        return self._stream(ECHO + "Flood", b"")

    async def ignore(self, messages: AsyncIterable[bytes]) -> bytes:
        found: Any = await self._stream_unary(ECHO + "Ignore", messages, bytes, bytes)  # type: ignore[arg-type]
        return bytes(found)

    async def total(self, messages: AsyncIterable[bytes]) -> bytes:
        found: Any = await self._stream_unary(ECHO + "Total", messages, bytes, bytes)  # type: ignore[arg-type]
        return bytes(found)

    def chat(self, messages: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
        found: Any = self._stream_stream(ECHO + "Chat", messages, bytes, bytes)  # type: ignore[arg-type]
        return found  # type: ignore[no-any-return]

    async def _unary(self, route: str, message: bytes, **options: Any) -> bytes:
        found: Any = await self._unary_unary(route, message, bytes, **options)  # type: ignore[arg-type]
        return bytes(found)

    def _stream(self, route: str, message: bytes, **options: Any) -> AsyncIterator[bytes]:
        found: Any = self._unary_stream(route, message, bytes, **options)  # type: ignore[arg-type]
        return found  # type: ignore[no-any-return]


def domain_error(kind: type[NanoError]) -> NanoError:
    """One of each kind, with all its fields set."""
    if kind.code == "invalid":
        return kind("cores", "bad", subject="i-7", retry_after_s=2.5)  # type: ignore[call-arg]
    return kind("bad ü %", field="cores", subject="i-7", retry_after_s=2.5)
