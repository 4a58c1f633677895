"""Pretended volumes: real files that say in JSON what a real one would be, and hold nothing."""

import json
from pathlib import Path

from nano.model.errors import Invalid
from nano.model.image import Content
from services.cell.disks import Backing
from services.cell.threads import in_thread


class SimVolumes:
    """`VolumeMaker` without `qemu-img`."""

    async def check_base(self, path: Path, content: Content) -> None:
        size_bytes = (await in_thread(path.stat)).st_size
        if size_bytes != content.size_bytes:
            raise Invalid("image", f"the image has {size_bytes} bytes and not {content.size_bytes}")

    async def make(self, path: Path, size_bytes: int, backing: Backing | None) -> None:
        volume = {"virtual_bytes": size_bytes, "backing": str(backing.path) if backing else None}
        await in_thread(path.write_text, json.dumps(volume))
