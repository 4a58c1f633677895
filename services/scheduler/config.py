"""What people may set of the scheduler."""

import msgspec

from nano.model.peers import Role
from nano.service import FabricSettings, Paths


class Enrolment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who may enrol on this host beside root and the scheduler's own user; default: nobody."""

    group: str = ""
    """The group that may open the socket; the scheduler must be in it."""
    users: dict[Role, str] = {}
    """The one user who may enrol as each role: `cell = "nano-cell"`."""


class Admission(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How servers elsewhere get in; one by token and one that a person admits always may."""

    first_use: bool = False
    """True: the documented route that puts a cell into a pool lets it in, for as long as one key alone claims
    its name. For networks where nobody else is, and for clients that know no other way."""
    addresses: tuple[str, ...] = ()
    """Where join tokens say that this scheduler is, `host` or `host:port`; none: this host's addresses."""


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`config/scheduler.toml`; an empty file starts a sane service."""

    id: str = "main"
    zone: str = "nano"
    """The name of a zone that is made anew; one that exists keeps its own."""
    paths: Paths = Paths(data="/var/lib/nano/scheduler")
    fabric: FabricSettings = FabricSettings(port=5600)
    enrolment: Enrolment = Enrolment()
    admission: Admission = Admission()
    first_pool: str = "default"
    """Made at first start; cells of this host enter it by themselves. Empty: neither."""
