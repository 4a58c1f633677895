"""Answers whose body comes piece by piece: each is sent before the next one is made, and made only as long as
somebody listens."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from nano.model.errors import NanoError


class _Gone(Exception):
    """The client closed its connection."""


class Streamed(Response):
    """Sends pieces until they end or the client goes; the generator is closed in both cases."""

    def __init__(
        self,
        pieces: AsyncGenerator[bytes, None],
        status: int,
        media_type: str,
        headers: Mapping[str, str],
    ) -> None:
        self._pieces = pieces
        self.status_code = status
        self.media_type = media_type
        self.background = None
        self.init_headers(headers)

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        start = {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        broken: BaseException | None = None
        try:
            async with asyncio.TaskGroup() as jobs:
                watch = jobs.create_task(_until_gone(receive), name="disconnect")
                async with aclosing(self._pieces) as pieces:
                    await send(start)
                    async for piece in pieces:
                        await send({"type": "http.response.body", "body": piece, "more_body": True})
                        # Once the client is gone, uvicorn's `send` returns at once: pieces that are there
                        # without waiting would leave nobody a turn to say so.
                        await asyncio.sleep(0)
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                watch.cancel()
        except* _Gone:
            await self._pieces.aclose()
        except* NanoError as failures:
            broken = failures.exceptions[0]
        if broken is not None:
            raise broken


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    raise _Gone
