"""`/disk_images/`: what a disk is cloned from."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from email.utils import formatdate

import msgspec
from starlette.responses import Response

from nano.model.errors import Conflict, Unsupported
from nano.model.image import Content, Image, ImageKind
from nano.web import envelope
from nano.web.envelope import Answer
from nano.web.streamed import Streamed
from services.gateway import ranges
from services.gateway.call import Call, Route
from services.gateway.ranges import Span
from services.gateway.routes import images
from services.gateway.routes.images import READS, IdResult, ImageCreate, ImageItem, ImageModify

KIND = ImageKind.DISK


class DiskImage(msgspec.Struct):
    name: str
    description: str
    size: int
    created: bool
    progress: int
    tags: list[str] | None
    """Null when none were given."""


class DiskImageCreate(ImageCreate, kw_only=True):
    guest: str = ""
    """The instance to build it from; empty: its file will be uploaded."""


async def query_tags(call: Call[None]) -> Answer:
    """An image matches when it has any of the tags that are given."""
    tags = set(call.query.texts("tags"))
    found = images.searched(call, KIND)
    return images.listed(image for image in found if not tags or tags.intersection(image.tags))


async def read(call: Call[None]) -> Answer:
    image = images.found(call, KIND)
    created = image.content is not None
    return envelope.success(
        DiskImage(
            image.name,
            image.description,
            images.size_of(image),
            created,
            100 if created else 0,
            list(image.tags) or None,
        )
    )


async def create(call: Call[DiskImageCreate]) -> Answer:
    if call.body.guest:
        raise Unsupported("images are not built from instances yet: leave guest empty", field="guest")
    return await images.create(call, KIND)


async def modify(call: Call[ImageModify]) -> Answer:
    return await images.modify(call, KIND)


async def delete(call: Call[None]) -> Answer:
    return await images.delete(call, KIND)


async def upload(call: Call[None]) -> Answer:
    return await images.upload(call, KIND)


async def download(call: Call[None]) -> Response:
    """The file itself, whole or a range of it."""
    image = images.found(call, KIND)
    if image.content is None:
        missing = (
            "is being uploaded: wait for its end"
            if image.uploading
            else "has no content yet: upload its file"
        )
        raise Conflict(f"image {image.id} {missing}", subject=image.id)
    content, headers = image.content, call.request.headers
    common = _file_headers(image, content)
    if headers.get("if-none-match") == common["ETag"]:
        return Response(status_code=304, headers={"ETag": common["ETag"]})
    is_same = headers.get("if-range", common["ETag"]) == common["ETag"]
    try:
        span = ranges.asked(headers.get("range", "") if is_same else "", content.size_bytes)
    except ranges.Unsatisfiable:
        return Response(status_code=416, headers={"Content-Range": f"bytes */{content.size_bytes}"})
    whole = span or Span(0, content.size_bytes)
    pieces = _pieces(call.services.image_bytes.get(image.id, content.version, whole.start), whole.size_bytes)
    first = await anext(pieces, b"")  # what goes wrong before the first byte is still an answer
    common["Content-Length"] = str(whole.size_bytes)
    if span is not None:
        common["Content-Range"] = f"bytes {span.start}-{span.end - 1}/{content.size_bytes}"
    return Streamed(_chain(first, pieces), 206 if span else 200, "application/octet-stream", common)


async def _pieces(source: AsyncGenerator[bytes, None], size_bytes: int) -> AsyncGenerator[bytes, None]:
    """No more than so many bytes; the source is closed as soon as they are there."""
    async with aclosing(source):
        left = size_bytes
        async for piece in source:
            yield piece[:left]
            left -= len(piece)
            if left <= 0:
                return


async def _chain(first: bytes, rest: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    async with aclosing(rest):
        if first:
            yield first
        async for piece in rest:
            yield piece


def _file_headers(image: Image, content: Content) -> dict[str, str]:
    """As documented, and what lets a broken download go on."""
    return {
        "Content-Transfer-Encoding": "binary",
        "Expires": "0",
        "Cache-Control": "no-cache, no-store, must-revalidate",
        "Signature": content.sha1,
        "Accept-Ranges": "bytes",
        "Last-Modified": formatdate(image.modified_ms / 1000, usegmt=True),
        "ETag": f'"{content.blake3}"',
    }


_ALL = "/disk_images/"
_ONE = "/disk_images/{id}"
_FILE = _ONE + "/file/"

ROUTES = (
    Route(
        "GET",
        "/disk_image_search/*",
        query_tags,
        "Find disk images by owner, group and tags",
        answer=list[ImageItem],
        reads=READS,
        query={
            "all": "true: every image",
            "owner": "owned by",
            "group": "or of this group",
            "tags": "has any of these; may repeat",
        },
    ),
    Route("GET", _ONE, read, "Read a disk image", answer=DiskImage, reads=READS),
    Route("POST", _ALL, create, "Register a disk image before its upload", DiskImageCreate, IdResult),
    Route("PUT", _ONE, modify, "Edit a disk image", ImageModify, reads=READS),
    Route("DELETE", _ONE, delete, "Delete a disk image and its file", reads=READS),
    Route(
        "GET",
        _FILE,
        download,
        "Download the file of a disk image",
        reads=READS,
        statuses={
            200: "whole file, or a failure envelope",
            206: "a range",
            304: "not modified",
            416: "no such range",
        },
        media_type="application/octet-stream",
    ),
    Route("POST", _FILE, upload, "Upload the file of a disk image", reads=READS, is_upload=True),
)
