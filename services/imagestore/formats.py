"""What uploaded bytes are: read from the bytes themselves, never from a file's name.

QCOW2 header: QEMU's `docs/interop/qcow2.txt`. ISO 9660: ECMA-119, 6.2 and 8.1 (sector 16 holds the
first volume descriptor, its identifier is `CD001`). Raw disks are told by the boot signature of their first
sector (UEFI specification, 5.2: a protective MBR has it too).
"""

import struct
from dataclasses import dataclass

from nano.model.errors import Invalid
from nano.model.image import ImageKind

HEAD_BYTES = 32 * 1024 + 2048
"""How much of the start is needed to judge: up to the end of an ISO's first volume descriptor."""

_QCOW2_MAGIC = b"QFI\xfb"
_QCOW2_FIXED = struct.Struct(">4sIQIIQ")
_QCOW2_INCOMPATIBLE_AT = 72
_EXTERNAL_DATA_FILE = 1 << 2
_ISO_AT = 32 * 1024 + 1
_SECTOR_BYTES = 512


@dataclass(frozen=True, slots=True)
class Format:
    name: str
    """`qcow2`, `raw` or `iso`."""
    virtual_bytes: int
    """What a guest sees."""


def recognise(kind: ImageKind, head: bytes, size_bytes: int) -> Format:
    """What these bytes are; Invalid when they cannot serve as an image of that kind.

    `head` is the first `HEAD_BYTES` of them, or all when there are fewer.
    """
    if kind is ImageKind.MEDIA:
        if head[_ISO_AT : _ISO_AT + 5] == b"CD001":
            return Format("iso", size_bytes)
        raise Invalid("image", "these bytes are no ISO 9660 image: upload a CD or DVD image (.iso)")
    if head.startswith(_QCOW2_MAGIC):
        return _qcow2(head)
    if size_bytes >= _SECTOR_BYTES and size_bytes % _SECTOR_BYTES == 0 and head[510:512] == b"\x55\xaa":
        return Format("raw", size_bytes)
    raise Invalid("image", "these bytes are neither a QCOW2 image nor a raw disk with a boot sector")


def _qcow2(head: bytes) -> Format:
    if len(head) < _QCOW2_INCOMPATIBLE_AT + 8:
        raise Invalid("image", "this QCOW2 image ends inside its header: upload it again")
    _, version, backing_at, _, _, virtual_bytes = _QCOW2_FIXED.unpack_from(head)
    if version not in {2, 3}:
        raise Invalid("image", f"QCOW2 version {version} is unknown: convert it with qemu-img to version 3")
    if backing_at:
        # such an image would make a host open whatever file its author names
        raise Invalid("image", "this QCOW2 image has a backing file: flatten it with qemu-img convert")
    if version == 3:  # noqa: PLR2004 - the version that has feature bits
        (features,) = struct.unpack_from(">Q", head, _QCOW2_INCOMPATIBLE_AT)
        if features & _EXTERNAL_DATA_FILE:
            raise Invalid(
                "image", "this QCOW2 image keeps its data elsewhere: flatten it with qemu-img convert"
            )
    return Format("qcow2", virtual_bytes)
