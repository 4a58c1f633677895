"""Image bytes to and from the image store, over the fabric's bulk links."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import cast

from nano.fabric.bulk.client import BulkClient
from nano.model.errors import Corrupt
from nano.model.ids import ImageId


class BulkImages:
    """`services.gateway.call.ImageBytes` over one link."""

    def __init__(self, bulk: BulkClient) -> None:
        self._bulk = bulk

    async def put(self, image: ImageId, body: AsyncIterator[bytes]) -> int:
        headers = await self._bulk.put(f"/images/{image}", body)
        try:
            return int(headers["revision"])
        except (KeyError, ValueError):
            raise Corrupt(f"the image store took image {image} and did not say at which revision") from None

    async def get(self, image: ImageId, version: int, offset: int) -> AsyncGenerator[bytes, None]:
        source = cast("AsyncGenerator[bytes, None]", self._bulk.get(f"/images/{image}/{version}", offset))
        async with aclosing(source) as pieces:  # a reader that goes away ends the transfer at once
            async for piece in pieces:
                yield piece
