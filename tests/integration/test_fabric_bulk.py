"""Bodies over bulk links: whole, from an offset, refused, broken off; never short in silence."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from nano.fabric.bulk.bodies import BulkBody, BulkInfo, BulkRequest
from nano.fabric.bulk.client import BulkClient
from nano.fabric.calls.caller import caller
from nano.model.errors import Corrupt, Forbidden, Internal, Invalid, NotFound, Unreachable
from nano.model.peers import Role
from tests.support.fabrics import Lab

BLOB = hashlib.shake_128(b"blob").digest(3_000_000)
CELLS = frozenset({Role.CELL})
TABLE = {
    ("GET", "/"): CELLS,
    ("HEAD", "/"): CELLS,
    ("PUT", "/"): CELLS,
    ("GET", "/secret/"): frozenset[Role](),
}


class Shelf:
    """A handler with one good resource and some bad ones."""

    def __init__(self) -> None:
        self.stored: dict[str, bytes] = {}
        self.broken: list[Exception] = []
        self.headers: Mapping[str, str] = {}

    async def head(self, request: BulkRequest) -> BulkInfo:
        if request.path != "/blob":
            raise NotFound(f"there is no {request.path}", subject=request.path)
        return BulkInfo(len(BLOB), {"nano-digest": "abc"})

    async def get(self, request: BulkRequest) -> BulkBody:
        info = BulkInfo(len(BLOB), {"nano-caller": str(caller().peer)})
        match request.path:
            case "/blob":
                return BulkBody(info, _pieces(BLOB[request.offset :]))
            case "/unknown-size":
                return BulkBody(BulkInfo(), _pieces(BLOB[request.offset :]))
            case "/short":
                return BulkBody(info, _pieces(BLOB[:1_000_000]))
            case "/fails":
                return BulkBody(BulkInfo(), _failing(BLOB[:1_000_000]))
        raise NotFound(f"there is no {request.path}", subject=request.path)

    async def put(self, request: BulkRequest, chunks: AsyncIterator[bytes]) -> Mapping[str, str]:
        if request.path == "/full":
            raise Internal("no room")
        self.headers = request.headers
        try:
            parts = [chunk async for chunk in chunks]
        except Unreachable as error:
            self.broken.append(error)
            raise
        self.stored[request.path] = b"".join(parts)
        return {"nano-size": str(len(self.stored[request.path]))}


async def _pieces(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 65_536):
        yield data[start : start + 65_536]


async def _failing(data: bytes) -> AsyncIterator[bytes]:
    async for piece in _pieces(data):
        yield piece
    raise OSError("the disk died")


@pytest.fixture
async def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
async def client(tmp_path: Path, shelf: Shelf) -> AsyncIterator[BulkClient]:
    lab = Lab(tmp_path)
    async with lab.join(Role.IMAGESTORE, "i1") as store:
        store.serve_bulk(shelf, TABLE)
        async with lab.join(Role.CELL, "c1") as cell:
            yield cell.bulk(Role.IMAGESTORE, "i1")


async def _all(chunks: AsyncIterator[bytes]) -> bytes:
    return b"".join([chunk async for chunk in chunks])


async def test_a_body_arrives_whole(client: BulkClient) -> None:
    assert await _all(client.get("/blob")) == BLOB
    assert await _all(client.get("/unknown-size")) == BLOB


@pytest.mark.parametrize("offset", [1, 65_536, 2_999_999, 3_000_000])
async def test_a_transfer_goes_on_from_an_offset(client: BulkClient, offset: int) -> None:
    assert await _all(client.get("/blob", offset)) == BLOB[offset:]


async def test_an_offset_behind_the_end_is_refused(client: BulkClient) -> None:
    with pytest.raises(Invalid) as found:
        await _all(client.get("/blob", 3_000_001))
    assert found.value.field == "range"


async def test_size_and_headers_come_without_the_body(client: BulkClient) -> None:
    info = await client.head("/blob")
    assert info.size_bytes == len(BLOB)
    assert info.headers["nano-digest"] == "abc"


async def test_errors_of_the_handler_arrive_as_they_are(client: BulkClient) -> None:
    with pytest.raises(NotFound) as found:
        await _all(client.get("/nothing"))
    assert found.value.subject == "/nothing"
    assert found.value.message == "there is no /nothing"


async def test_an_error_about_a_name_that_is_not_ascii_arrives_and_ends_nothing(client: BulkClient) -> None:
    """What a header cannot hold would end the job that answers, and with it the service."""
    with pytest.raises(NotFound) as found:
        await _all(client.get("/nöthing"))
    assert found.value.subject == "/nöthing"
    assert await _all(client.get("/blob")) == BLOB


async def test_a_path_that_no_row_names_is_for_nobody(client: BulkClient) -> None:
    with pytest.raises(Forbidden):
        await _all(client.get("/secret/key"))


@pytest.mark.parametrize("path", ["/short", "/fails"])
async def test_a_body_that_ends_early_is_an_error(client: BulkClient, path: str) -> None:
    with pytest.raises((Unreachable, Corrupt)):
        await _all(client.get(path))
    assert await _all(client.get("/blob")) == BLOB


async def test_a_body_is_stored_whole(client: BulkClient, shelf: Shelf) -> None:
    headers = await client.put("/new", _pieces(BLOB), len(BLOB), {"nano-name": "disk"})
    assert headers["nano-size"] == str(len(BLOB))
    assert shelf.stored["/new"] == BLOB
    assert shelf.headers["nano-name"] == "disk"


async def test_a_source_that_fails_leaves_nothing_stored(client: BulkClient, shelf: Shelf) -> None:
    with pytest.raises(OSError, match="the disk died"):
        await client.put("/new", _failing(BLOB[:1_000_000]))
    assert await _all(client.get("/blob")) == BLOB
    assert "/new" not in shelf.stored
    assert len(shelf.broken) == 1


@pytest.mark.parametrize("announced", [2_999_999, 3_000_001])
async def test_a_body_of_another_size_than_announced_is_not_stored(
    client: BulkClient, shelf: Shelf, announced: int
) -> None:
    with pytest.raises((Unreachable, Corrupt)):
        await client.put("/new", _pieces(BLOB), announced)
    assert "/new" not in shelf.stored


async def test_a_refused_body_is_not_sent_to_its_end(client: BulkClient) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1
            yield bytes(65_536)

    with pytest.raises(Internal, match="no room"):
        await asyncio.wait_for(client.put("/full", endless()), 10)


async def test_a_reader_that_stops_stops_the_sender(client: BulkClient) -> None:
    body = client.get("/blob")
    await anext(body)
    await body.aclose()  # type: ignore[attr-defined]
    assert await _all(client.get("/blob")) == BLOB
