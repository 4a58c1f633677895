"""Images out of the image store, over the fabric's bulk links."""

from collections.abc import AsyncIterator

from nano.fabric.bulk.client import BulkClient
from nano.model.errors import Unreachable
from nano.model.ids import ImageId


class StoredImages:
    """`Images` of the zone's image store. The cell lives before it is on the fabric, and without it."""

    def __init__(self) -> None:
        self._store: BulkClient | None = None

    def join(self, store: BulkClient) -> None:
        """From now on the store can be asked."""
        self._store = store

    def fetch(self, image: ImageId, version: int, offset: int) -> AsyncIterator[bytes]:
        if self._store is None:
            raise Unreachable(f"image {image}: this cell is not on the fabric yet", subject=image)
        return self._store.get(f"/images/{image}/{version}", offset)
