"""Image bytes in and out, as HTTP/3 bodies on bulk links.

PUT /images/<id>            the whole of an upload; answered when it is durable
GET /images/<id>/<version>  a version's bytes, from any offset on; headers `blake3`, `sha1`
"""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Mapping

import structlog

from nano.fabric.bulk.bodies import BulkBody, BulkInfo, BulkRequest
from nano.fabric.calls.caller import caller
from nano.model.errors import Invalid, NotFound, Stale
from nano.model.ids import CellId, ImageId
from nano.model.image import Content
from nano.model.peers import Role
from nano.shelf import Shelf
from services.imagestore.catalog import Catalog, Unpin
from services.imagestore.files import ImageFiles

BULK_ROLES = {
    ("PUT", "/images/"): frozenset({Role.GATEWAY}),
    ("GET", "/images/"): frozenset({Role.GATEWAY, Role.CELL}),
    ("HEAD", "/images/"): frozenset({Role.GATEWAY, Role.CELL}),
}
"""Who may move which bytes; nobody may do what is not here. A cell gets only what is pinned for it."""

_UPLOAD = re.compile(r"/images/(?P<image>[0-9a-f-]{36})", re.ASCII)
_VERSION = re.compile(r"/images/(?P<image>[0-9a-f-]{36})/(?P<version>[0-9]{1,9})", re.ASCII)

_log = structlog.get_logger("imagestore")


class Transfer:
    """A `BulkHandler` over the catalog and its files."""

    def __init__(self, shelf: Shelf[Catalog], files: ImageFiles, now_ms: Callable[[], int]) -> None:
        self._shelf = shelf
        self._files = files
        self._now_ms = now_ms
        self._receiving: set[ImageId] = set()

    async def settle(self) -> None:
        """After a restart: nobody goes on with a broken upload, and no bytes stay without a record."""
        self._shelf.commit(*self._shelf.book.abort_all_uploads())
        await self.sweep()

    async def sweep(self) -> None:
        """Remove bytes that no record needs any more; not while an upload is on its way to its record."""
        await self._shelf.durable()
        if not self._receiving:
            removed = self._files.sweep(self._shelf.book.kept())
            if removed:
                _log.info("images.swept", files=removed)

    async def tidy(self) -> None:
        """Until cancelled: remove a replaced version when the last task that had it pinned has ended."""
        while True:
            try:
                async for _, changes in self._shelf.follow(self._shelf.cursor):
                    if any(isinstance(change, Unpin) for change in changes):
                        await self.sweep()
            except Stale:
                await self.sweep()
            else:
                return  # the shelf is being closed

    # -------------------------------------------------------------- the bulk handler

    async def head(self, request: BulkRequest) -> BulkInfo:
        _, content = self._asked(request.path)
        return _info(content)

    async def get(self, request: BulkRequest) -> BulkBody:
        image, content = self._asked(request.path)
        if request.offset > content.size_bytes:
            raise Invalid(
                "range",
                f"offset {request.offset} lies behind the {content.size_bytes} bytes of image {image}",
            )
        pieces = self._files.read(image, content, request.offset, content.size_bytes)
        return BulkBody(_info(content), pieces)

    async def put(self, request: BulkRequest, chunks: AsyncIterator[bytes]) -> Mapping[str, str]:
        found = _UPLOAD.fullmatch(request.path)
        if found is None:
            raise NotFound(f"there is nothing to upload to at {request.path!r:.100}", field="path")
        image = ImageId(found["image"])
        content = await self._receive(image, chunks, request.size_bytes)
        await self.sweep()
        return {
            "version": str(content.version),
            "blake3": content.blake3,
            "sha1": content.sha1,
            "revision": str(self._shelf.revision),
        }

    async def _receive(self, image: ImageId, chunks: AsyncIterator[bytes], size_bytes: int | None) -> Content:
        book = self._shelf.book
        record = book.image(image)
        self._shelf.commit(*book.begin_upload(image))
        self._receiving.add(image)
        try:
            version = book.next_version(image)
            content = await self._files.receive(image, record.kind, version, chunks, size_bytes)
            self._shelf.commit(*book.end_upload(image, content, self._now_ms()))
            await self._shelf.durable()
        except (Exception, asyncio.CancelledError):
            self._shelf.commit(*book.abort_upload(image))
            raise
        finally:
            self._receiving.discard(image)
        _log.info("image.stored", image=image, version=content.version, bytes=content.size_bytes)
        return content

    def _asked(self, path: str) -> tuple[ImageId, Content]:
        found = _VERSION.fullmatch(path)
        if found is None:
            raise NotFound(f"there is no image at {path!r:.100}", field="path")
        image, version = ImageId(found["image"]), int(found["version"])
        asking = caller().peer
        if asking.role is Role.CELL:
            self._shelf.book.check_reader(CellId(asking.id), image, version)
        return image, self._shelf.book.content(image, version)


def _info(content: Content) -> BulkInfo:
    return BulkInfo(content.size_bytes, {"blake3": content.blake3, "sha1": content.sha1})
