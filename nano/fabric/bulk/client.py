"""Fetches and sends bodies over a bulk link."""

import contextlib
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping

from grpclib.exceptions import StreamTerminatedError
from h2.exceptions import StreamClosedError

from nano.fabric.bulk.bodies import BulkInfo, error_in, size_in
from nano.fabric.http3.exchanges import LinkLost
from nano.fabric.http3.stream import Headers, Stream
from nano.fabric.links.link import Link
from nano.model.errors import Corrupt, Unreachable

_MESSAGE_LIMIT = 4_000


class BulkClient:
    """The way to one peer's bulk handler. Each request asks for the link to wherever the peer is now."""

    def __init__(self, target: str, connect: Callable[[], Awaitable[Link]]) -> None:
        self._target = target
        self._connect = connect

    async def head(self, path: str) -> BulkInfo:
        """Size and headers of a resource."""
        async with self._request("HEAD", path, [], end=True) as stream:
            return _info(await self._answer(stream))

    async def get(self, path: str, offset: int = 0) -> AsyncIterator[bytes]:
        """The bytes of a resource from `offset` on, as they come.

        A transfer that breaks off raises `Unreachable`; ask again from where it stopped. One that ends before
        its announced length is `Corrupt`.
        """
        extra = [("range", f"bytes={offset}-")] if offset else []
        async with self._request("GET", path, extra, end=True) as stream:
            headers = await self._answer(stream)
            expected = size_in(dict(headers).get("content-length"))
            received = 0
            while part := await stream.receive_some():
                received += len(part)
                yield part
            if expected is not None and received != expected:
                raise Corrupt(f"{path} from {self._target} ended after {received} of {expected} bytes")

    async def put(
        self,
        path: str,
        chunks: AsyncIterable[bytes],
        size_bytes: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Mapping[str, str]:
        """Send `chunks`; gives the answer's headers. If they raise, the peer sees a broken transfer."""
        extra = [] if size_bytes is None else [("content-length", str(size_bytes))]
        extra += list((headers or {}).items())
        async with self._request("PUT", path, extra, end=False) as stream:
            async for chunk in chunks:
                await stream.send_data(chunk)
                if stream.unwanted:
                    break  # the answer is on its way, and it is not about the rest
            await stream.end()
            return _info(await self._answer(stream)).headers

    @contextlib.asynccontextmanager
    async def _request(self, method: str, path: str, extra: Headers, *, end: bool) -> AsyncIterator[Stream]:
        link = await self._connect()
        stream = link.exchanges.create_stream()
        head = [(":method", method), (":scheme", "https"), (":authority", self._target), (":path", path)]
        try:
            await stream.send_request([*head, *extra], end_stream=end)
            yield stream
        except LinkLost as error:
            raise Unreachable(f"{path} at {self._target} broke off: {error.fact.message}") from error
        except (StreamTerminatedError, StreamClosedError) as error:
            raise Unreachable(f"{path} at {self._target} broke off: {error}") from error
        finally:
            stream.release()

    async def _answer(self, stream: Stream) -> Headers:
        """The head of a successful answer; else the error that it names."""
        headers = await stream.recv_headers()
        if not dict(headers).get(":status", "").startswith("2"):
            message = b""
            while len(message) < _MESSAGE_LIMIT and (part := await stream.receive_some()):
                message += part
            raise error_in(headers, message[:_MESSAGE_LIMIT].decode("utf-8", "replace"))
        return headers


def _info(headers: Headers) -> BulkInfo:
    named = {name: value for name, value in headers if not name.startswith(":")}
    size = size_in(named.pop("content-length", None))
    named.pop("content-type", None)
    return BulkInfo(size, named)
