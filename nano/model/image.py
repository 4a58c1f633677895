"""Images: what may be put into a drive (media), and what a disk is cloned from."""

from dataclasses import dataclass
from enum import StrEnum

from nano.model.ids import ImageId


class ImageKind(StrEnum):
    MEDIA = "media"
    DISK = "disk"


@dataclass(frozen=True, slots=True)
class Content:
    """One stored version of an image's bytes."""

    version: int
    size_bytes: int
    blake3: str
    """Hex; names the bytes everywhere inside Nano."""
    sha1: str
    """Hex; the documented `Signature` of downloads, for old clients."""
    format: str
    """`qcow2` or `raw` for disks, `iso` for media; read from the bytes, not from the file's name."""
    virtual_bytes: int
    """What the guest sees; equals `size_bytes` for raw and ISO."""


@dataclass(frozen=True, slots=True)
class Image:
    """The record of an image; without content until its first upload has ended well."""

    id: ImageId
    kind: ImageKind
    name: str
    owner: str
    group: str
    description: str
    tags: tuple[str, ...]
    created_ms: int
    modified_ms: int
    content: Content | None = None
    uploading: bool = False
