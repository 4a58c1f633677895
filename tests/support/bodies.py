"""A body to fetch over a bad network, and from where it was asked for."""

from collections.abc import AsyncIterator

from nano.fabric.bulk.bodies import BulkBody, BulkInfo, BulkRequest
from nano.model.errors import Unreachable

PIECE_BYTES = 65_536


class Bodies:
    """One body. `answer_pieces`: each answer breaks off after so many, as of a store that is restarted."""

    def __init__(self, body: bytes, *, answer_pieces: int | None = None) -> None:
        self._body = body
        self._limit_bytes = len(body) if answer_pieces is None else answer_pieces * PIECE_BYTES
        self.offsets: list[int] = []

    async def head(self, request: BulkRequest) -> BulkInfo:
        return BulkInfo(len(self._body))

    async def get(self, request: BulkRequest) -> BulkBody:
        self.offsets.append(request.offset)
        return BulkBody(BulkInfo(len(self._body)), self._chunks(request.offset))

    async def _chunks(self, offset: int) -> AsyncIterator[bytes]:
        for start in range(offset, len(self._body), PIECE_BYTES):
            if start - offset >= self._limit_bytes:
                raise Unreachable("the store restarts")
            yield self._body[start : start + PIECE_BYTES]

    async def put(self, request: BulkRequest, chunks: AsyncIterator[bytes]) -> dict[str, str]:
        raise Unreachable("nothing is taken here")
