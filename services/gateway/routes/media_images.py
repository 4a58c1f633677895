"""`/media_images/`: what may be put into a drive."""

import msgspec

from nano.model.image import ImageKind
from nano.web import envelope
from nano.web.envelope import Answer
from services.gateway.call import Call, Route
from services.gateway.routes import images
from services.gateway.routes.images import READS, IdResult, ImageCreate, ImageItem, ImageModify

KIND = ImageKind.MEDIA


class MediaImage(msgspec.Struct):
    name: str
    description: str
    size: int
    tags: list[str] | None
    """Null when none were given."""


async def query(call: Call[None]) -> Answer:
    """All of them, as the documented route intends."""
    return images.listed(images.of_kind(call.view, KIND))


async def search(call: Call[None]) -> Answer:
    return images.listed(images.searched(call, KIND))


async def read(call: Call[None]) -> Answer:
    image = images.found(call, KIND)
    return envelope.success(
        MediaImage(image.name, image.description, images.size_of(image), list(image.tags) or None)
    )


async def create(call: Call[ImageCreate]) -> Answer:
    return await images.create(call, KIND)


async def modify(call: Call[ImageModify]) -> Answer:
    return await images.modify(call, KIND)


async def delete(call: Call[None]) -> Answer:
    return await images.delete(call, KIND)


async def upload(call: Call[None]) -> Answer:
    return await images.upload(call, KIND)


_ALL = "/media_images/"
_ONE = "/media_images/{id}"

ROUTES = (
    Route("GET", _ALL, query, "List media images", answer=list[ImageItem], reads=READS),
    Route(
        "GET",
        "/media_image_search/*",
        search,
        "Find media images by owner or group",
        answer=list[ImageItem],
        reads=READS,
        query={"all": "true: every image", "owner": "owned by", "group": "or of this group"},
    ),
    Route("GET", _ONE, read, "Read a media image", answer=MediaImage, reads=READS),
    Route("POST", _ALL, create, "Register a media image before its upload", ImageCreate, IdResult),
    Route("PUT", _ONE, modify, "Edit a media image", ImageModify, reads=READS),
    Route("DELETE", _ONE, delete, "Delete a media image and its file", reads=READS),
    Route("POST", _ONE + "/file/", upload, "Upload the file of a media image", reads=READS, is_upload=True),
)
