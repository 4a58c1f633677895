"""An HTTP/3 client that is not aioquic: libcurl with ngtcp2 and nghttp3, by curl_cffi.

libcurl blocks, so each request has a thread. A reader that is slow blocks it, and with it the sender.
"""

import asyncio
import base64
import contextlib
import struct
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

import msgspec
from curl_cffi import Curl, CurlError, CurlHttpVersion, CurlInfo, CurlOpt

from nano.fabric.calls.status import DETAIL_TRAILER, Detail
from nano.fabric.identity.identity import Identity
from nano.fabric.packets.address import Address

Fields = Sequence[tuple[str, str]]
GRPC: Fields = (("content-type", "application/grpc"), ("te", "trailers"))

_PREFIX = struct.Struct(">BI")
_TIMEOUT_S = 20.0
_WRITE_FAILED = 0xFFFFFFFF
"""What a write function answers to end the transfer (CURL_WRITEFUNC_ERROR)."""


class Refused(Exception):
    """No answer came: the transfer failed below HTTP."""


@dataclass
class Answer:
    """What came back; `fields` are headers and trailers alike, in lower case, the last of each."""

    status: int = 0
    fields: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def messages(self) -> list[bytes]:
        """The body as gRPC's messages."""
        return messages(self.body)

    @property
    def grpc_status(self) -> int:
        return int(self.fields["grpc-status"])

    @property
    def detail(self) -> Detail:
        """What the trailer beside the status says."""
        value = self.fields[DETAIL_TRAILER]
        return msgspec.json.decode(base64.b64decode(value + "=" * (-len(value) % 4)), type=Detail)


def framed(message: bytes) -> bytes:
    return _PREFIX.pack(0, len(message)) + message


def messages(body: bytes) -> list[bytes]:
    """All whole messages in a body; one that is cut short fails."""
    found = []
    while body:
        flag, size = _PREFIX.unpack_from(body)
        assert flag == 0
        assert len(body) >= _PREFIX.size + size, "a message is cut short"
        found.append(body[_PREFIX.size : _PREFIX.size + size])
        body = body[_PREFIX.size + size :]
    return found


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    path: str
    fields: Fields
    body: bytes | None
    timeout_s: float


class ForeignClient:
    """Asks one server. `shows` is the identity whose certificate it has, None for none."""

    def __init__(self, address: Address, server: Identity, shows: Identity | None) -> None:
        self._name, self._port, self._host = server.dns_name, address[1], address[0]
        self._ca_file = server.ca_file
        self._shows = shows

    async def call(
        self, path: str, message: bytes = b"", fields: Fields = (), *, timeout_s: float = _TIMEOUT_S
    ) -> Answer:
        """A call of gRPC with one message; `Refused` if there is no answer."""
        return await self.ask("POST", path, (*GRPC, *fields), framed(message), timeout_s=timeout_s)

    async def ask(
        self,
        method: str,
        path: str,
        fields: Fields = (),
        body: bytes | None = None,
        *,
        timeout_s: float = _TIMEOUT_S,
    ) -> Answer:
        """Any request."""
        parts: list[bytes] = []

        def keep(part: bytes) -> int:
            parts.append(part)
            return len(part)

        request = _Request(method, path, fields, body, timeout_s)
        answer = await asyncio.to_thread(self._perform, request, keep)
        answer.body = b"".join(parts)
        return answer

    @contextlib.asynccontextmanager
    async def stream(
        self, path: str, message: bytes = b"", fields: Fields = ()
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """The parts of an answer as they come. No more is read before one is taken; leaving ends the call."""
        request = _Request("POST", path, (*GRPC, *fields), framed(message), _TIMEOUT_S)
        loop = asyncio.get_running_loop()
        parts: asyncio.Queue[bytes | None] = asyncio.Queue(1)
        left = threading.Event()

        def hand_over(part: bytes | None) -> int:
            if left.is_set():
                return _WRITE_FAILED
            asyncio.run_coroutine_threadsafe(parts.put(part), loop).result()
            return _WRITE_FAILED if left.is_set() else len(part or b"")

        def run() -> None:
            with contextlib.suppress(Refused):
                self._perform(request, hand_over)
            hand_over(None)

        async def taken() -> AsyncIterator[bytes]:
            while (part := await parts.get()) is not None:
                yield part

        async with asyncio.TaskGroup() as jobs:
            job = jobs.create_task(asyncio.to_thread(run))
            try:
                yield taken()
            finally:
                left.set()
                while not job.done():
                    if parts.empty():
                        await asyncio.wait((job,), timeout=0.01)
                    else:
                        parts.get_nowait()

    def _perform(self, request: _Request, write: Callable[[bytes], int]) -> Answer:
        answer = Answer()

        def head(line: bytes) -> int:
            name, colon, value = line.decode("latin-1").partition(":")
            if colon:
                answer.fields[name.strip().lower()] = value.strip()
            return len(line)

        options: dict[CurlOpt, object] = {
            CurlOpt.URL: f"https://{self._name}:{self._port}{request.path}".encode(),
            CurlOpt.RESOLVE: [f"{self._name}:{self._port}:{self._host}"],
            CurlOpt.HTTP_VERSION: CurlHttpVersion.V3ONLY,
            CurlOpt.CAINFO: str(self._ca_file).encode(),
            CurlOpt.CUSTOMREQUEST: request.method.encode(),
            CurlOpt.HTTPHEADER: [f"{name}: {value}".encode() for name, value in request.fields],
            CurlOpt.WRITEFUNCTION: write,
            CurlOpt.HEADERFUNCTION: head,
            CurlOpt.TIMEOUT_MS: round(request.timeout_s * 1000),
            CurlOpt.NOBODY: int(request.method == "HEAD"),
        }
        if self._shows is not None:
            options[CurlOpt.SSLCERT] = str(self._shows.certificate_file).encode()
            options[CurlOpt.SSLKEY] = str(self._shows.key_file).encode()
        if request.body is not None:
            options[CurlOpt.POSTFIELDS] = request.body
            options[CurlOpt.POSTFIELDSIZE_LARGE] = len(request.body)
        curl = Curl()
        try:
            for option, value in options.items():
                curl.setopt(option, value)
            curl.perform()
            answer.status = int(str(curl.getinfo(CurlInfo.RESPONSE_CODE)))
        except CurlError as error:
            raise Refused(str(error)) from error
        finally:
            curl.close()
        return answer
