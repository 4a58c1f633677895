"""Uploads: the image's bytes exactly, whatever pieces they come in, and an error when they are not whole."""

import contextlib
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nano.model.errors import Corrupt, Invalid
from services.gateway.multipart import PIECE_BYTES, ImagePart, image_bytes

TYPE = 'multipart/form-data; boundary="b0und"'


def part(name: str, content: bytes, extra: str = "") -> bytes:
    head = f'--b0und\r\nContent-Disposition: form-data; name="{name}"{extra}\r\n'
    return head.encode() + b"Content-Type: application/octet-stream\r\n\r\n" + content + b"\r\n"


END = b"--b0und--\r\n"


def taken(*pieces: bytes) -> bytes:
    image = ImagePart(TYPE)
    got = b"".join(b"".join(image.push(piece)) for piece in pieces)
    image.close()
    return got


def test_the_part_named_image_is_taken_and_others_are_skipped() -> None:
    body = part("checksum", b"abc") + part("image", b"the bytes", '; filename="a.qcow2"') + part("x", b"y")
    assert taken(body + END) == b"the bytes"


def test_only_the_first_image_is_taken() -> None:
    assert taken(part("image", b"first") + part("image", b"second") + END) == b"first"


def test_an_empty_image_is_whole() -> None:
    assert taken(part("image", b"") + END) == b""


def test_an_upload_without_image_is_refused() -> None:
    with pytest.raises(Invalid) as refused:
        taken(part("file", b"the bytes") + END)
    assert refused.value.field == "image"


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "application/json",
        "multipart/form-data",
        "multipart/mixed; boundary=a",
        f"{TYPE}{'x' * 9999}"[:9999],
    ],
)
def test_another_content_type_is_refused(content_type: str) -> None:
    with pytest.raises(Invalid) as refused:
        ImagePart(content_type.replace("b0und", "b" * 5000))
    assert refused.value.field == "content-type"


WHOLE = part("note", b"n") + part("image", b"\r\n--b0un\r\n--b0undd" * 3) + END


@pytest.mark.parametrize("length", range(len(WHOLE) - 2))
def test_an_upload_that_breaks_off_anywhere_is_an_error(length: int) -> None:
    with pytest.raises(Corrupt):
        taken(WHOLE[:length])


@given(
    st.binary(max_size=300)
    | st.text("\r\n-b0und", max_size=200).map(str.encode).filter(lambda b: b"\r\n--b0und" not in b),
    st.lists(st.integers(1, 40), max_size=50),
)
def test_the_bytes_do_not_depend_on_the_pieces_they_come_in(content: bytes, lengths: list[int]) -> None:
    body = part("image", content) + END
    pieces = []
    for length in lengths:
        pieces.append(body[:length])
        body = body[length:]
    if b"\r\n--b0und" in content or content.startswith(b"--b0und"):
        return  # this content needs another boundary
    assert taken(*pieces, body) == content


@given(
    st.lists(
        st.binary(max_size=60) | st.sampled_from([part("image", b"i"), END, b"--b0und\r\n", b"\r\n\r\n"])
    )
)
def test_any_body_is_an_upload_or_refused(pieces: list[bytes]) -> None:
    with contextlib.suppress(Corrupt, Invalid):  # all else fails the test
        assert isinstance(taken(*pieces), bytes)


@given(st.text() | st.text(alphabet='boundary="=;*\\ ').map("multipart/form-data;".__add__))
def test_any_content_type_is_taken_or_refused(content_type: str) -> None:
    with contextlib.suppress(Invalid):  # all else fails the test
        assert not ImagePart(content_type).found


def test_a_part_whose_headers_never_end_is_refused() -> None:
    image = ImagePart(TYPE)
    with pytest.raises(Corrupt):
        list(image.push(b"--b0und\r\nContent-Disposition: " + b"x" * 100_000))


async def test_the_next_piece_is_asked_for_only_when_the_last_one_was_taken() -> None:
    asked = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal asked
        yield part("image", b"")[:-2]
        for _ in range(100):
            asked += 1
            yield b"x" * PIECE_BYTES
        yield b"\r\n" + END

    size = 0
    async for piece in image_bytes(TYPE, body()):
        size += len(piece)
        assert asked * PIECE_BYTES - size < 2 * PIECE_BYTES
    assert size == 100 * PIECE_BYTES
