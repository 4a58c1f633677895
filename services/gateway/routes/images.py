"""What media and disk images have in common: records, searches, uploads.

The two kinds are one noun of the image store and two of the documented surface.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing

import msgspec
from starlette.requests import ClientDisconnect, Request

from nano import wire
from nano.contracts.nano import v1
from nano.model.errors import Cancelled, NotFound, TimedOut, Unsupported
from nano.model.ids import ImageId
from nano.model.image import Image, ImageKind
from nano.web import envelope
from nano.web.envelope import Answer, local_time
from services.gateway import writes
from services.gateway.call import Call
from services.gateway.cursor import Book
from services.gateway.multipart import image_bytes
from services.gateway.view import View

READS = (Book.IMAGESTORE,)
SILENCE_S = 60.0
"""How long an upload may stand still."""


class ImageItem(msgspec.Struct, kw_only=True, omit_defaults=True):
    """An image in a list."""

    name: str
    id: str
    size: int
    description: str = ""
    tags: list[str] = []
    create_time: str = ""
    modify_time: str = ""
    owner: str
    """This and the next are ours."""
    group: str


class ImageCreate(msgspec.Struct, kw_only=True):
    name: str
    owner: str
    group: str
    description: str = ""
    tags: list[str] = []


class ImageModify(msgspec.Struct, kw_only=True):
    """What is left out or empty stays as it is, as documented."""

    name: str = ""
    owner: str = ""
    group: str = ""
    description: str = ""
    tags: list[str] = []


class IdResult(msgspec.Struct):
    id: str


def item(image: Image) -> ImageItem:
    return ImageItem(
        name=image.name,
        id=image.id,
        size=size_of(image),
        description=image.description,
        tags=list(image.tags),
        create_time=local_time(image.created_ms),
        modify_time=local_time(image.modified_ms) if image.content is not None else "",
        owner=image.owner,
        group=image.group,
    )


def size_of(image: Image) -> int:
    return image.content.size_bytes if image.content is not None else 0


def listed(images: Iterable[Image]) -> Answer:
    in_order = sorted(images, key=lambda image: (f"{image.group}.{image.name}", image.id))
    return envelope.success([item(image) for image in in_order])


def of_kind(view: View, kind: ImageKind) -> Iterable[Image]:
    return (image for image in view.images.values() if image.kind is kind)


def searched(call: Call[None], kind: ImageKind) -> Iterable[Image]:
    """Owner OR group; with neither there is nothing to find. Beyond the document, `all` finds every image."""
    owner, group = call.query.text("owner"), call.query.text("group")
    everything = call.query.flag("all")
    return (
        image
        for image in of_kind(call.view, kind)
        if everything or (owner and image.owner == owner) or (group and image.group == group)
    )


def found(call: Call[object], kind: ImageKind) -> Image:
    wanted = ImageId(call.params["id"])
    image = call.view.images.get(wanted)
    if image is None or image.kind is not kind:
        raise NotFound(f"there is no {kind} image {wanted!r:.80}", field="id", subject=wanted)
    return image


async def create(call: Call[ImageCreate], kind: ImageKind) -> Answer:
    """Makes a record without content; the store mints the id."""
    body = call.body
    message = v1.Image(
        kind=kind,
        name=body.name,
        owner=body.owner,
        group=body.group,
        description=body.description,
        tags=body.tags,
    )
    reply = await call.services.imagestore.create_image(message, timeout=writes.RPC_S)
    headers = await writes.held(call.gateway, Book.IMAGESTORE, reply.revision)
    return envelope.success(IdResult(reply.id), headers=headers)


async def modify(call: Call[ImageModify], kind: ImageKind) -> Answer:
    body = call.body
    image = found(call, kind)
    if body.owner not in {"", image.owner} or body.group not in {"", image.group}:
        raise Unsupported("images do not change hands yet: leave owner and group out", field="owner")
    message = wire.outgoing(image)
    for name in ("name", "description", "tags"):
        if given := getattr(body, name):
            setattr(message, name, given)
    reply = await call.services.imagestore.modify_image(message, timeout=writes.RPC_S)
    return await writes.done(call.gateway, Book.IMAGESTORE, reply.revision)


async def delete(call: Call[None], kind: ImageKind) -> Answer:
    message = v1.ImageRef(id=found(call, kind).id, kind=kind)
    reply = await call.services.imagestore.delete_image(message, timeout=writes.RPC_S)
    return await writes.done(call.gateway, Book.IMAGESTORE, reply.revision)


async def upload(call: Call[None], kind: ImageKind) -> Answer:
    """From the client to the store, piece by piece; answers when the bytes are durable there.

    Whether somebody else is at it the store knows: our view may lag behind an upload that has just failed.
    """
    image = found(call, kind)
    pieces = image_bytes(call.request.headers.get("content-type", ""), _body(call.request))
    async with aclosing(pieces):
        revision = await call.services.image_bytes.put(image.id, pieces)
    return await writes.done(call.gateway, Book.IMAGESTORE, revision)


async def _body(request: Request) -> AsyncIterator[bytes]:
    """A client that falls silent is given up: its image stays locked as long as its upload lasts."""
    pieces = request.stream()
    try:
        while True:
            async with asyncio.timeout(SILENCE_S):
                piece = await anext(pieces, None)
            if piece is None:
                return
            yield piece
    except TimeoutError:
        raise TimedOut(f"nothing came for {SILENCE_S:g} s in the middle of an upload: try again") from None
    except ClientDisconnect:
        raise Cancelled("the client went away in the middle of its upload") from None
