"""What can be set about a portal; an empty file starts a sane one beside a gateway on the same host."""

import os
from pathlib import Path

import msgspec

from nano.model.errors import Invalid
from nano.service import Paths
from nano.web.listening import check_listening

_LEAST = 2
"""Below this a limit is no limit that anybody means (REST document, 9.1)."""


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`config/portal.toml`."""

    paths: Paths = Paths(data="/var/lib/nano/portal")
    listen: str = "0.0.0.0"  # noqa: S104 - TLS, and a session for each request
    """The address of the pages and of the FrontEnd's API."""
    port: int = 5870
    """The documented port (REST document, head)."""
    tls: bool = True
    """False speaks plain HTTP, for a reverse proxy on this host; refused where others can listen."""
    allow_plain: bool = False
    """True allows `tls = false` on any address: whoever listens on the wire can then read passwords."""
    names: tuple[str, ...] = ()
    """More host names and addresses for the certificate that the portal makes for itself."""
    gateway: str = "https://127.0.0.1:5850"
    """The gateway's address, without a path."""
    gateway_credentials: str = "/var/lib/nano/gateway/credentials.json"
    """A file with the key to the gateway, in the documented shape; a name without a folder is looked for
    among the unit's credentials (systemd.exec(5), LoadCredential)."""
    gateway_credential: str = ""
    """The id of the credential to use; empty: the first of that file."""
    gateway_certificate: str = ""
    """What the gateway's certificate is judged by, looked for like the credentials; empty: what the system
    trusts."""
    first_start_code: bool = True
    """Whoever creates the first user must know the code in `first-start-code` of the data folder. False is as
    documented: the first visitor becomes the administrator."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses of reverse proxies that may say whom they speak for (`X-Forwarded-For`)."""
    origins: tuple[str, ...] = ()
    """More origins of these pages, such as `https://cloud.example.org`, for proxies that change `Host`."""
    max_cores: int = 24
    max_memory: int = 32
    """GiB. These three shape the form that creates an instance."""
    max_disk: int = 64
    """GiB."""
    pages: str = ""
    """The folder of the built pages; empty: `web/dist` beside this module."""


def check(config: Config) -> None:
    """Invalid names what would be unsafe, or cannot be meant."""
    check_listening(config.listen, tls=config.tls, allow_plain=config.allow_plain)
    for name in ("max_cores", "max_memory", "max_disk"):
        if getattr(config, name) < _LEAST:
            raise Invalid(name, f"{name} is {getattr(config, name)}: give {_LEAST} or more")
    if not config.gateway.startswith(("https://", "http://")):
        raise Invalid("gateway", f"gateway {config.gateway!r} is no address: give https://host:port")


def credential_path(name: str, environment: "os._Environ[str] | dict[str, str]") -> Path:
    """Where a file that somebody hands us lies: a bare name is one of the unit's credentials."""
    folder = environment.get("CREDENTIALS_DIRECTORY", "")
    return Path(folder, name) if folder and "/" not in name else Path(name)
