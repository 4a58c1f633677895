"""Volumes by `qemu-img`, in a process of its own for each."""

import asyncio
import json
from pathlib import Path
from typing import Any

from nano.model.errors import Internal, Invalid, StorageFull, Unsupported
from nano.model.image import Content
from services.cell.disks import Backing

_FORMATS = frozenset({"qcow2", "raw"})


class QemuImages:
    """`VolumeMaker` for real guests."""

    async def check_base(self, path: Path, content: Content) -> None:
        """An image that names a file of this host as its backing would show that file to its guest."""
        if content.format not in _FORMATS:
            raise Invalid("image", f"an image of format {content.format} cannot be cloned: give qcow2 or raw")
        described = json.loads(
            await _qemu_img("info", "--output=json", "-f", content.format, "--", _local(path))
        )
        for member in _references(described):
            raise Invalid(
                "image", f"the image refers to another file ({member}): flatten it and upload it again"
            )
        if described["virtual-size"] != content.virtual_bytes:
            raise Invalid(
                "image",
                f"the image shows {described['virtual-size']} bytes and not {content.virtual_bytes}",
            )

    async def make(self, path: Path, size_bytes: int, backing: Backing | None) -> None:
        options = ["-q", "-f", "qcow2"]
        if backing is not None:
            options += ["-F", backing.format, "-b", str(backing.path)]
        await _qemu_img("create", *options, "--", _local(path), str(size_bytes))


def _references(described: dict[str, Any]) -> list[str]:
    """Every file that an image would make QEMU open beside itself."""
    specific = described.get("format-specific", {}).get("data", {})
    named = (described.get("backing-filename"), specific.get("data-file"))
    return [str(each) for each in named if each]


def _local(path: Path) -> str:
    """A name that QEMU cannot take for a protocol of its own, such as `nbd:`."""
    return f"file:{path}"


async def _qemu_img(*arguments: str) -> str:
    try:
        process = await asyncio.create_subprocess_exec(
            "qemu-img", *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
    except FileNotFoundError:
        raise Unsupported("qemu-img is not installed: install qemu-utils") from None
    try:
        said, complained = await process.communicate()
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    if process.returncode:
        words = complained.decode(errors="replace").strip()
        kind = StorageFull if "No space left" in words else Internal
        raise kind(f"qemu-img {' '.join(arguments)} failed: {words}")
    return said.decode()
