"""What people may set of the image store."""

import msgspec

from nano.service import FabricSettings, Paths


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`config/imagestore.toml`; an empty file starts a sane service."""

    id: str = "main"
    paths: Paths = Paths(data="/var/lib/nano/imagestore")
    fabric: FabricSettings = FabricSettings(port=5601)
