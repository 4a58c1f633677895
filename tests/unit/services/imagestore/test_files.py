"""Bytes on disk: whole, digested and durable, or not there at all."""

import hashlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import blake3
import pytest

from nano.model.errors import Conflict, Corrupt, Invalid
from nano.model.image import ImageKind
from services.imagestore.files import PIECE_BYTES, ImageFiles
from tests.support.nouns import IMAGE
from tests.unit.services.imagestore.test_formats import qcow2


@pytest.fixture
def files(tmp_path: Path) -> Iterator[ImageFiles]:
    made = ImageFiles(tmp_path)
    yield made
    made.close()


async def pieces(*given: bytes) -> AsyncIterator[bytes]:
    for piece in given:
        yield piece


DATA = qcow2() + bytes(range(256)) * 10_000


async def test_what_was_sent_is_what_is_kept_and_served(files: ImageFiles, tmp_path: Path) -> None:
    cut = (DATA[:10], DATA[10:PIECE_BYTES], DATA[PIECE_BYTES:])
    content = await files.receive(IMAGE.id, ImageKind.DISK, 3, pieces(*cut), len(DATA))
    assert content.blake3 == blake3.blake3(DATA).hexdigest()
    assert content.sha1 == hashlib.sha1(DATA).hexdigest()
    assert (content.size_bytes, content.version, content.format) == (len(DATA), 3, "qcow2")
    assert [path.name for path in tmp_path.iterdir()] == [f"{IMAGE.id}_v3.qcow2"]
    assert b"".join([piece async for piece in files.read(IMAGE.id, content, 0, len(DATA))]) == DATA
    assert b"".join([piece async for piece in files.read(IMAGE.id, content, 5, 99)]) == DATA[5:99]


async def broken_off() -> AsyncIterator[bytes]:
    yield DATA[:100]
    raise ConnectionResetError


@pytest.mark.parametrize(
    ("sent", "size", "error"),
    [
        (pieces(DATA[:-1]), len(DATA), Corrupt),
        (pieces(DATA, b"more"), len(DATA), Corrupt),
        (pieces(b"no image at all"), None, Invalid),
        (pieces(), None, Invalid),
        (broken_off(), None, ConnectionResetError),
    ],
)
async def test_what_is_cut_short_or_no_image_leaves_nothing(
    files: ImageFiles, tmp_path: Path, sent: AsyncIterator[bytes], size: int | None, error: type[Exception]
) -> None:
    with pytest.raises(error):
        await files.receive(IMAGE.id, ImageKind.DISK, 1, sent, size)
    assert list(tmp_path.iterdir()) == []


async def test_a_second_upload_of_the_same_image_is_refused_and_disturbs_nothing(
    files: ImageFiles, tmp_path: Path
) -> None:
    part = tmp_path / f".{IMAGE.id}.part"
    part.write_bytes(b"somebody else's")
    with pytest.raises(Conflict):
        await files.receive(IMAGE.id, ImageKind.DISK, 1, pieces(DATA), None)
    assert part.read_bytes() == b"somebody else's"


async def test_a_file_that_shrank_under_us_is_an_error_and_not_a_short_answer(files: ImageFiles) -> None:
    content = await files.receive(IMAGE.id, ImageKind.DISK, 1, pieces(DATA), None)
    files.path(IMAGE.id, content).write_bytes(DATA[:50])
    with pytest.raises(Corrupt, match="shorter than its record"):
        [piece async for piece in files.read(IMAGE.id, content, 0, len(DATA))]


async def test_a_sweep_removes_what_no_record_needs(files: ImageFiles, tmp_path: Path) -> None:
    for version in (1, 2):
        await files.receive(IMAGE.id, ImageKind.DISK, version, pieces(DATA), None)
    (tmp_path / f".{IMAGE.id}.part").write_bytes(b"broken off")
    removed = files.sweep({(IMAGE.id, 2)})
    assert sorted(removed) == [f".{IMAGE.id}.part", f"{IMAGE.id}_v1.qcow2"]
    assert [path.name for path in tmp_path.iterdir()] == [f"{IMAGE.id}_v2.qcow2"]
