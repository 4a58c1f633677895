"""What people may set of the scheduler."""

import msgspec

from nano.service import FabricSettings, Paths


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`config/scheduler.toml`; an empty file starts a sane service."""

    id: str = "main"
    zone: str = "nano"
    """The name of a zone that is made anew; one that exists keeps its own."""
    paths: Paths = Paths(data="/var/lib/nano/scheduler")
    fabric: FabricSettings = FabricSettings(port=5600)
    first_pool: str = "default"
    """Made at first start; cells of this host enter it by themselves. Empty: neither."""
