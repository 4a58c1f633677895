"""The image store's book: records of images, which of their versions are pinned, and outcomes of steps.

Plain and synchronous. A record has no content until its first upload has ended well; an upload that replaces
content adds a version, and the old bytes stay for as long as a task has them pinned.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, TypeAlias

import msgspec

from nano.model import names
from nano.model.action import PinImage, Pinned
from nano.model.errors import Busy, Conflict, Exists, Forbidden, NotFound
from nano.model.ids import CellId, ImageId, TaskId
from nano.model.image import Content, Image, ImageKind
from nano.saga.handlers import errand
from nano.saga.outcomes import OutcomeChange, Outcomes
from nano.saga.step import Changes

TAGS_LIMIT = 64


class ImagePut(msgspec.Struct, frozen=True, tag="image_put"):
    image: Image


class ImageGone(msgspec.Struct, frozen=True, tag="image_gone"):
    id: ImageId


class Pin(msgspec.Struct, frozen=True, tag="image_pinned"):
    """A task needs the bytes of this version until it has ended."""

    task: TaskId
    image: ImageId
    content: Content
    reader: CellId = CellId("")
    """The cell that may fetch them meanwhile; empty: none."""


class Unpin(msgspec.Struct, frozen=True, tag="image_unpinned"):
    """The task needs nothing any more."""

    task: TaskId


Change: TypeAlias = ImagePut | ImageGone | Pin | Unpin | OutcomeChange


class Catalog:
    """What images there are."""

    changes: ClassVar[Any] = Change
    kinds: ClassVar[Mapping[str, Any]] = {"images": Image, "pins": Pin, **Outcomes.kinds}
    schema: ClassVar[int] = 1

    def __init__(self) -> None:
        self.images: dict[ImageId, Image] = {}
        self.outcomes = Outcomes()
        self._pins: dict[TaskId, Pin] = {}
        self._by_name: dict[tuple[ImageKind, str, str], ImageId] = {}

    # -------------------------------------------------------------- reading

    def image(self, image: ImageId, kind: ImageKind | None = None) -> Image:
        """NotFound also when it is of the other kind: their routes are different."""
        found = self.images.get(image)
        if found is None or (kind is not None and found.kind is not kind):
            word = "" if kind is None else f"{kind} "
            raise NotFound(f"there is no {word}image {image!r}", field="image", subject=image)
        return found

    def content(self, image: ImageId, version: int) -> Content:
        """What is known of one version that is still there: the current one, or one that is pinned."""
        found = self.image(image)
        there = [found.content, *(pin.content for pin in self._pins.values() if pin.image == image)]
        for content in there:
            if content is not None and content.version == version:
                return content
        raise NotFound(f"image {found.name} has no version {version} any more", subject=image)

    def check_reader(self, cell: CellId, image: ImageId, version: int) -> None:
        """Forbidden unless a task has this version pinned for the cell, be there such a one or not."""
        for pin in self._pins.values():
            if (pin.reader, pin.image, pin.content.version) == (cell, image, version):
                return
        raise Forbidden(
            f"no task has image {image} version {version} pinned for cell {cell}: it may not fetch it",
            subject=image,
        )

    def kept(self) -> set[tuple[ImageId, int]]:
        """The versions whose bytes must stay: what is current, and what is pinned."""
        current = {
            (image.id, image.content.version) for image in self.images.values() if image.content is not None
        }
        return current | {(pin.image, pin.content.version) for pin in self._pins.values()}

    # -------------------------------------------------------------- records

    def create(self, image: Image) -> list[Change]:
        """A record without content."""
        _check_names(image)
        self._check_free(image)
        return [ImagePut(replace(image, content=None, uploading=False))]

    def modify(self, asked: Image, now_ms: int) -> list[Change]:
        """Name, description and tags; the rest is as it was."""
        known = self.image(asked.id, asked.kind)
        if known.uploading:
            raise Busy(f"image {known.name} is being uploaded: wait for its end", subject=known.id)
        changed = replace(known, name=asked.name, description=asked.description, tags=asked.tags)
        _check_names(changed)
        if changed.name != known.name:
            self._check_free(changed)
        if changed == known:
            raise Conflict(f"image {known.name} is like that already", subject=known.id)
        return [ImagePut(replace(changed, modified_ms=now_ms))]

    def delete(self, image: ImageId, kind: ImageKind) -> list[Change]:
        known = self.image(image, kind)
        if known.uploading:
            raise Busy(f"image {known.name} is being uploaded: wait for its end", subject=image)
        for pin in self._pins.values():
            if pin.image == image:
                raise Busy(
                    f"image {known.name} is in use by task {pin.task}: wait for its end", subject=image
                )
        return [ImageGone(image)]

    def _check_free(self, image: Image) -> None:
        taken = self._by_name.get((image.kind, image.group, image.name))
        if taken is not None:
            raise Exists(
                f"group {image.group} has a {image.kind} image {image.name!r} already: {taken}",
                field="name",
                subject=taken,
            )

    # -------------------------------------------------------------- uploads

    def begin_upload(self, image: ImageId) -> list[Change]:
        known = self.image(image)
        if known.uploading:
            raise Busy(f"image {known.name} is being uploaded by somebody else", subject=image)
        return [ImagePut(replace(known, uploading=True))]

    def next_version(self, image: ImageId) -> int:
        """Never that of bytes that may still lie on disk."""
        known = self.image(image)
        pinned = [pin.content.version for pin in self._pins.values() if pin.image == image]
        return max([0 if known.content is None else known.content.version, *pinned]) + 1

    def end_upload(self, image: ImageId, content: Content, now_ms: int) -> list[Change]:
        known = self.image(image)
        return [ImagePut(replace(known, uploading=False, content=content, modified_ms=now_ms))]

    def abort_upload(self, image: ImageId) -> list[Change]:
        known = self.images.get(image)
        return [] if known is None or not known.uploading else [ImagePut(replace(known, uploading=False))]

    def abort_all_uploads(self) -> list[Change]:
        """After our own restart: nobody goes on with them."""
        return [change for image in self.images for change in self.abort_upload(image)]

    # -------------------------------------------------------------- steps

    def pin(self, action: PinImage) -> tuple[Changes, Pinned]:
        known = self.image(action.image, action.kind)
        if known.content is None:
            raise Conflict(
                f"image {known.name} has no content yet: upload it first", field="image", subject=known.id
            )
        task = errand.get().task
        return [Pin(task, known.id, known.content, action.reader)], Pinned(known.content)

    def unpin(self, task: TaskId) -> Changes:
        return [Unpin(task)] if task in self._pins else []

    # -------------------------------------------------------------- one way in

    def apply(self, change: Change) -> None:
        match change:
            case ImagePut(image):
                self._forget_name(image.id)
                self.images[image.id] = image
                self._by_name[image.kind, image.group, image.name] = image.id
            case ImageGone(image_id):
                self._forget_name(image_id)
                self.images.pop(image_id, None)
            case Pin(task):
                self._pins[task] = change
            case Unpin(task):
                self._pins.pop(task, None)
            case _:
                self.outcomes.apply(change)

    def _forget_name(self, image: ImageId) -> None:
        old = self.images.get(image)
        if old is not None:
            self._by_name.pop((old.kind, old.group, old.name), None)

    def snapshot(self) -> Mapping[str, Sequence[Any]]:
        return {
            "images": list(self.images.values()),
            "pins": list(self._pins.values()),
            **self.outcomes.snapshot(),
        }

    @classmethod
    def restore(cls, snapshot: Mapping[str, Sequence[Any]]) -> "Catalog":
        book = cls()
        for image in snapshot["images"]:
            book.apply(ImagePut(image))
        for pin in snapshot["pins"]:
            book.apply(pin)
        book.outcomes = Outcomes.restore(snapshot)
        return book


def _check_names(image: Image) -> None:
    (names.dotted if image.kind is ImageKind.DISK else names.free)("name", image.name)
    names.plain("owner", image.owner)
    names.plain("group", image.group)
    for index, tag in enumerate(image.tags[: TAGS_LIMIT + 1]):
        names.free(f"tags[{index}]", tag)
    if len(image.tags) > TAGS_LIMIT:
        raise Conflict(f"{len(image.tags)} tags are too many: give up to {TAGS_LIMIT}", field="tags")
