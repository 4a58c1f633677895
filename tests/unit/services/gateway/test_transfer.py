"""Image bytes and a book's changes, over a real fabric on the loopback."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from nano.bell import Bell
from nano.contracts.nano import v1
from nano.fabric.fabric import Fabric, FabricConfig
from nano.model.errors import Corrupt, NotFound
from nano.model.ids import ImageId
from nano.model.peers import Role
from nano.shelf import Shelf
from services.gateway.cursor import Book
from services.gateway.feed import Feed, feed_from
from services.gateway.transfer import BulkImages
from services.gateway.view import View
from services.imagestore.catalog import Catalog
from services.imagestore.files import ImageFiles
from services.imagestore.rpc import ROLES, ImageStoreRpc
from services.imagestore.transfer import BULK_ROLES, Transfer
from tests.support.fabrics import Lab

CONTENT = b"QFI\xfb" + (3).to_bytes(4, "big") + bytes(16) + (1 << 30).to_bytes(8, "big") + bytes(5_000_000)


def config(**known: str) -> FabricConfig:
    peers = {f"{role}/main": address for role, address in known.items()}
    return FabricConfig(host="127.0.0.1", multicast=False, drain_s=0.5, peers=peers)


@contextlib.asynccontextmanager
async def pair(folder: Path) -> AsyncIterator[tuple[Shelf[Catalog], Fabric]]:
    """An image store, and the fabric of a gateway that knows it."""
    lab = Lab(folder / "zone")
    files = ImageFiles(folder / "images")
    async with (
        Shelf.open(folder / "shelf", Catalog) as shelf,
        Fabric.join(config(), lab.identity(Role.IMAGESTORE, "main")) as store,
    ):
        transfer = Transfer(shelf, files, lambda: 1)
        store.serve([ImageStoreRpc(shelf, transfer, lambda: 1)], ROLES)
        store.serve_bulk(transfer, BULK_ROLES)
        address = "{}:{}".format(*store.address)
        async with Fabric.join(config(imagestore=address), lab.identity(Role.GATEWAY, "main")) as gateway:
            yield shelf, gateway
    files.close()


async def created(fabric: Fabric) -> ImageId:
    stub = v1.ImageStoreStub(fabric.channel(Role.IMAGESTORE))
    asked = v1.Image(kind="disk", name="base", owner="admin", group="admin")
    return ImageId((await stub.create_image(asked, timeout=10)).id)


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def test_an_image_goes_there_and_comes_back_from_any_offset(tmp_path: Path) -> None:
    async with pair(tmp_path) as (shelf, fabric):
        image = await created(fabric)
        files = BulkImages(fabric.bulk(Role.IMAGESTORE))
        revision = await files.put(image, pieces(CONTENT[:700_000], CONTENT[700_000:]))
        assert revision == shelf.revision
        content = shelf.book.image(image).content
        assert content is not None
        for offset in (0, 4_999_000):
            got = [piece async for piece in files.get(image, content.version, offset)]
            assert b"".join(got) == CONTENT[offset:]
        with pytest.raises(NotFound):
            await anext(files.get(image, 99, 0))


async def test_a_source_that_breaks_off_leaves_the_record_without_content(tmp_path: Path) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield CONTENT[:2_000_000]
        raise Corrupt("the client sent half")

    async with pair(tmp_path) as (shelf, fabric):
        image = await created(fabric)
        files = BulkImages(fabric.bulk(Role.IMAGESTORE))
        before = shelf.cursor
        with pytest.raises(Corrupt, match="half"):
            await files.put(image, broken())
        async for _, changes in shelf.follow(before):  # the upload begins, and is given up
            if not changes[-1].image.uploading:
                break
        assert shelf.book.image(image).content is None
        revision = await files.put(image, pieces(CONTENT))
        assert shelf.book.image(image).content is not None
        assert revision == shelf.revision


async def test_a_view_is_fed_from_a_service_as_soon_as_it_is_found(tmp_path: Path) -> None:
    async with pair(tmp_path) as (shelf, fabric):
        view, bell = View(), Bell()
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as jobs:
            feeding: asyncio.Task[Any] = jobs.create_task(feed_from(fabric, Feed(view, bell, loop.time)))
            image = await created(fabric)
            assert await bell.until(lambda: image in view.images, 10)
            assert view.replicas[Book.IMAGESTORE].age_s(loop.time()) == 0
            assert view.shows(Book.IMAGESTORE, shelf.revision)
            feeding.cancel()
