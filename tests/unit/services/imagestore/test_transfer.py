"""Bytes in and out: an upload ends in a record, or in nothing."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from nano.fabric.bulk.bodies import BulkRequest
from nano.fabric.calls.caller import Caller, answering
from nano.model.action import PinImage
from nano.model.errors import Busy, Corrupt, Forbidden, Invalid, NotFound
from nano.model.ids import CellId, TaskId
from nano.model.image import ImageKind
from nano.model.peers import Peer, Role
from nano.saga.handlers import Errand, errand
from nano.shelf import Shelf
from services.imagestore.catalog import Catalog
from services.imagestore.files import ImageFiles
from services.imagestore.transfer import Transfer
from tests.support.nouns import IMAGE
from tests.unit.services.imagestore.test_formats import qcow2

DATA = qcow2() + b"contents" * 1000
GATEWAY = Peer(Role.GATEWAY, "main")
CELL, OTHER = Peer(Role.CELL, "Cell_1"), Peer(Role.CELL, "Cell_2")
UPLOAD = BulkRequest(f"/images/{IMAGE.id}", size_bytes=len(DATA))


class Store:
    def __init__(self, shelf: Shelf[Catalog], files: ImageFiles, folder: Path) -> None:
        self.shelf = shelf
        self.folder = folder
        self.transfer = Transfer(shelf, files, lambda: 5)

    @property
    def names(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())

    async def bytes_of(self, version: int, offset: int = 0, by: Peer = GATEWAY) -> bytes:
        with answering(Caller(by, None, "")):
            body = await self.transfer.get(BulkRequest(f"/images/{IMAGE.id}/{version}", offset))
        return b"".join([piece async for piece in body.chunks])


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    files = ImageFiles(tmp_path / "images")
    async with Shelf.open(tmp_path / "shelf", Catalog) as shelf:
        shelf.commit(*shelf.book.create(replace(IMAGE, content=None)))
        yield Store(shelf, files, tmp_path / "images")
    files.close()


async def chunks(*given: bytes) -> AsyncIterator[bytes]:
    for piece in given:
        yield piece


async def broken(*given: bytes) -> AsyncIterator[bytes]:
    for piece in given:
        yield piece
    raise Corrupt("the sender broke off")


async def test_an_upload_is_served_from_any_offset_with_its_digests(store: Store) -> None:
    said = await store.transfer.put(UPLOAD, chunks(DATA[:7], DATA[7:]))
    content = store.shelf.book.images[IMAGE.id].content
    assert content is not None
    assert (said["version"], said["blake3"], said["sha1"]) == ("1", content.blake3, content.sha1)
    assert store.shelf.durable_revision >= int(said["revision"])
    assert await store.bytes_of(1) == DATA
    assert await store.bytes_of(1, 100) == DATA[100:]
    assert await store.bytes_of(1, len(DATA)) == b""
    with answering(Caller(GATEWAY, None, "")):
        info = await store.transfer.head(BulkRequest(f"/images/{IMAGE.id}/1"))
    assert (info.size_bytes, info.headers["sha1"]) == (len(DATA), content.sha1)


@pytest.mark.parametrize(
    ("body", "error"),
    [(broken(DATA[:50]), Corrupt), (chunks(DATA[:50]), Corrupt), (chunks(b"x" * len(DATA)), Invalid)],
)
async def test_an_upload_that_fails_leaves_the_image_as_it_was(
    store: Store, body: AsyncIterator[bytes], error: type[Exception]
) -> None:
    with pytest.raises(error):
        await store.transfer.put(UPLOAD, body)
    known = store.shelf.book.images[IMAGE.id]
    assert (known.uploading, known.content, store.names) == (False, None, [])
    await store.transfer.put(UPLOAD, chunks(DATA))


async def test_a_second_upload_at_the_same_time_is_refused(store: Store) -> None:
    async def meanwhile() -> AsyncIterator[bytes]:
        yield DATA[:9]
        with pytest.raises(Busy):
            await store.transfer.put(UPLOAD, chunks(DATA))
        await store.transfer.sweep()  # must not take what is being written
        yield DATA[9:]

    await store.transfer.put(UPLOAD, meanwhile())
    assert await store.bytes_of(1) == DATA


async def test_a_new_version_replaces_the_bytes_unless_a_task_has_them_pinned(store: Store) -> None:
    await store.transfer.put(UPLOAD, chunks(DATA))
    errand.set(Errand(TaskId("task"), "pin_image"))
    changes, _ = store.shelf.book.pin(PinImage(IMAGE.id, ImageKind.DISK))
    store.shelf.commit(*changes)
    other = qcow2() + b"new"
    await store.transfer.put(BulkRequest(UPLOAD.path), chunks(other))
    assert (await store.bytes_of(1), await store.bytes_of(2)) == (DATA, other)
    store.shelf.commit(*store.shelf.book.unpin(TaskId("task")))
    await store.transfer.sweep()
    assert store.names == [f"{IMAGE.id}_v2.qcow2"]
    with pytest.raises(NotFound, match="no version 1"):
        await store.bytes_of(1)


async def test_after_a_restart_broken_uploads_are_over_and_their_bytes_gone(store: Store) -> None:
    store.shelf.commit(*store.shelf.book.begin_upload(IMAGE.id))
    (store.folder / f".{IMAGE.id}.part").write_bytes(b"half")
    await store.transfer.settle()
    assert not store.shelf.book.images[IMAGE.id].uploading
    assert store.names == []


@pytest.mark.parametrize("path", ["/images/", "/images/x", f"/images/{IMAGE.id}/x", "/images/../shelf", "/x"])
async def test_a_path_that_is_none_is_not_found(store: Store, path: str) -> None:
    with pytest.raises(NotFound):
        await store.transfer.get(BulkRequest(path))
    with pytest.raises(NotFound):
        await store.transfer.put(BulkRequest(path), chunks(DATA))


async def test_an_offset_behind_the_end_is_refused_by_its_field(store: Store) -> None:
    await store.transfer.put(UPLOAD, chunks(DATA))
    with pytest.raises(Invalid) as refused:
        await store.bytes_of(1, len(DATA) + 1)
    assert refused.value.field == "range"


async def test_a_cell_gets_only_what_a_task_has_pinned_for_it(store: Store) -> None:
    await store.transfer.put(UPLOAD, chunks(DATA))
    other_image = BulkRequest("/images/00000000-0000-4000-8000-000000000000/1")
    for by, request in ((CELL, BulkRequest(f"/images/{IMAGE.id}/1")), (CELL, other_image)):
        with answering(Caller(by, None, "")), pytest.raises(Forbidden, match="pinned for cell Cell_1"):
            await store.transfer.head(request)
    errand.set(Errand(TaskId("task"), "pin_image"))
    changes, _ = store.shelf.book.pin(PinImage(IMAGE.id, ImageKind.DISK, CellId(CELL.id)))
    store.shelf.commit(*changes)
    assert await store.bytes_of(1, by=CELL) == DATA
    with pytest.raises(Forbidden):
        await store.bytes_of(1, by=OTHER)
    store.shelf.commit(*store.shelf.book.unpin(TaskId("task")))
    with pytest.raises(Forbidden):
        await store.bytes_of(1, by=CELL)
