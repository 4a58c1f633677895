"""What people may set of the address pool."""

import msgspec

from nano.service import FabricSettings, Paths


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`config/addresspool.toml`; an empty file starts a sane service."""

    id: str = "main"
    paths: Paths = Paths(data="/var/lib/nano/addresspool")
    fabric: FabricSettings = FabricSettings(port=5602)
