"""What can be set about a gateway; an empty file starts a sane one."""

import msgspec

from nano.service import FabricSettings, Paths
from nano.web.listening import check_listening


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`config/gateway.toml`."""

    id: str = "main"
    paths: Paths = Paths(data="/var/lib/nano/gateway")
    fabric: FabricSettings = FabricSettings(port=5603)
    listen: str = "0.0.0.0"  # noqa: S104 - TLS and a signature on each request
    """The address of the REST API."""
    port: int = 5850
    """The documented port (REST document, head)."""
    tls: bool = True
    """False speaks plain HTTP, for old clients; refused on an address that is not loopback."""
    allow_plain: bool = False
    """True allows `tls = false` on any address: whoever listens on the wire can then read everything."""
    names: tuple[str, ...] = ()
    """More host names and addresses for the certificate that the gateway makes for itself."""
    credentials: str = ""
    """The documented `api.cfg`; empty: `credentials.json` in the data folder, made at first start."""


def check(config: Config) -> None:
    """Invalid when the API would be plain where others can listen."""
    check_listening(config.listen, tls=config.tls, allow_plain=config.allow_plain)
