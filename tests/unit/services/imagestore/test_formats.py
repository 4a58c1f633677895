"""What uploaded bytes are."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nano.model.errors import Invalid
from nano.model.image import ImageKind
from services.imagestore.formats import HEAD_BYTES, recognise


def qcow2(version: int = 3, backing_at: int = 0, features: int = 0, virtual_bytes: int = 2**30) -> bytes:
    fixed = struct.pack(">4sIQIIQ", b"QFI\xfb", version, backing_at, 0, 16, virtual_bytes)
    return fixed.ljust(72, b"\0") + struct.pack(">Q", features) + bytes(24)


ISO = bytes(32 * 1024) + b"\x01CD001\x01" + bytes(2041)
BOOT = bytes(510) + b"\x55\xaa"


@pytest.mark.parametrize(
    ("kind", "head", "size", "name", "virtual"),
    [
        (ImageKind.DISK, qcow2(), 5000, "qcow2", 2**30),
        (ImageKind.DISK, qcow2(version=2), 5000, "qcow2", 2**30),
        (ImageKind.DISK, BOOT + bytes(512), 1024, "raw", 1024),
        (ImageKind.MEDIA, ISO, 40000, "iso", 40000),
    ],
)
def test_a_format_is_recognised_by_its_bytes(
    kind: ImageKind, head: bytes, size: int, name: str, virtual: int
) -> None:
    found = recognise(kind, head, size)
    assert (found.name, found.virtual_bytes) == (name, virtual)


@pytest.mark.parametrize(
    ("kind", "head", "says"),
    [
        (ImageKind.MEDIA, qcow2(), "no ISO 9660"),
        (ImageKind.MEDIA, b"", "no ISO 9660"),
        (ImageKind.DISK, ISO, "neither"),
        (ImageKind.DISK, b"", "neither"),
        (ImageKind.DISK, b"#!/bin/sh", "neither"),
        (ImageKind.DISK, qcow2()[:60], "ends inside its header"),
        (ImageKind.DISK, qcow2(version=4), "version 4 is unknown"),
        (ImageKind.DISK, qcow2(backing_at=600), "backing file"),
        (ImageKind.DISK, qcow2(features=4), "data elsewhere"),
    ],
)
def test_what_cannot_serve_is_refused_with_what_to_do(kind: ImageKind, head: bytes, says: str) -> None:
    with pytest.raises(Invalid, match=says) as refused:
        recognise(kind, head, len(head))
    assert refused.value.field == "image"


@given(st.sampled_from(list(ImageKind)), st.binary(max_size=200), st.booleans())
def test_any_bytes_are_an_image_or_a_clear_refusal(kind: ImageKind, tail: bytes, magic: bool) -> None:
    head = (b"QFI\xfb" + tail if magic else tail)[:HEAD_BYTES]
    try:
        assert recognise(kind, head, len(head)).name in {"qcow2", "raw", "iso"}
    except Invalid as refused:
        assert refused.field == "image"  # noqa: PT017 - either outcome is right, if it is this one
