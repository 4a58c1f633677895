"""Who calls the image store, and what they get. Bytes do not pass here: see `transfer.py`."""

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

from nano import wire
from nano.contracts.nano import v1
from nano.model.errors import Invalid
from nano.model.ids import ImageId, new_image_id
from nano.model.image import Image, ImageKind
from nano.model.peers import Role
from nano.shelf import Shelf
from nano.watching import watch
from services.imagestore.catalog import Catalog, ImageGone, ImagePut
from services.imagestore.transfer import Transfer

_CHANGES_AND_READS = frozenset({Role.GATEWAY, Role.ADMIN})

ROLES = {
    f"/nano.v1.ImageStore/{method}": _CHANGES_AND_READS
    for method in ("CreateImage", "ModifyImage", "DeleteImage", "Watch")
}
"""Who may call what; nobody may call what is not here."""


class ImageStoreRpc(v1.ImageStoreBase):
    """The service `nano.v1.ImageStore`."""

    def __init__(self, shelf: Shelf[Catalog], transfer: Transfer, now_ms: Callable[[], int]) -> None:
        self._shelf = shelf
        self._transfer = transfer
        self._now_ms = now_ms

    async def create_image(self, message: v1.Image) -> v1.ImageReply:
        now_ms = self._now_ms()
        image = replace(_asked(message, new_image_id()), created_ms=now_ms, modified_ms=now_ms)
        return await self._committed(image.id, self._shelf.book.create(image))

    async def modify_image(self, message: v1.Image) -> v1.ImageReply:
        image = _asked(message, ImageId(message.id))
        return await self._committed(image.id, self._shelf.book.modify(image, self._now_ms()))

    async def delete_image(self, message: v1.ImageRef) -> v1.ImageReply:
        image = ImageId(message.id)
        reply = await self._committed(image, self._shelf.book.delete(image, _kind(message.kind)))
        await self._transfer.sweep()
        return reply

    async def watch(self, message: v1.WatchRequest) -> AsyncIterator[v1.ImageChange]:
        async for change in watch(self._shelf, message.since, lambda: whole(self._shelf.book), told):
            yield change

    async def _committed(self, image: ImageId, changes: list[Any]) -> v1.ImageReply:
        self._shelf.commit(*changes)
        revision = self._shelf.revision
        await self._shelf.durable(revision)
        return v1.ImageReply(id=image, revision=revision)


def _asked(message: v1.Image, image: ImageId) -> Image:
    """The members of a record that a client may set."""
    return wire.incoming(replace(message, id=image, content=None), Image)


def _kind(text: str) -> ImageKind:
    if text not in set(ImageKind):
        raise Invalid("kind", f"kind {text!r} is unknown: give one of {', '.join(ImageKind)}")
    return ImageKind(text)


def whole(book: Catalog) -> v1.ImageChange:
    """The book as it is, for a watcher that knows nothing yet."""
    return v1.ImageChange(images=[wire.outgoing(image) for image in book.images.values()])


def told(changes: tuple[Any, ...]) -> v1.ImageChange | None:
    """What some changes show to a watcher; None when they show nothing."""
    message = v1.ImageChange()
    for change in changes:
        match change:
            case ImagePut(image):
                message.images.append(wire.outgoing(image))
            case ImageGone(image_id):
                message.gone.append(v1.Gone(kind="image", id=image_id))
    return message if bytes(message) else None
