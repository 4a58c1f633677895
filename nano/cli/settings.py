"""Where the gateway is and who we are to it: one small TOML file."""

import os
from pathlib import Path

import msgspec

from nano.model.errors import Invalid, NotFound


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a client of the REST surface needs."""

    url: str
    """`https://host:5850`"""
    id: str
    """The API id of the credential."""
    key: str
    certificate: str = ""
    """A PEM file to trust; empty: what the system trusts."""


def find(given: Path | None) -> Path:
    """The settings file: as given, by NANO_CONFIG, this folder's fleet, the user's, or the system's."""
    named = os.environ.get("NANO_CONFIG")
    if given is not None or named:  # whoever names one means no other: it may be another zone's
        return given or Path(named or "")
    places = [
        Path("var/nanoctl.toml"),
        Path.home() / ".config/nano/nanoctl.toml",
        Path("/etc/nano/nanoctl.toml"),
    ]
    for place in places:
        if place.is_file():
            return place
    looked = ", ".join(str(place) for place in places)
    raise NotFound(f"no settings for nanoctl: looked at {looked}; start Nano with ./dev up or give --config")


def read(path: Path) -> Settings:
    """The settings in a file; Invalid names the file and the member."""
    try:
        settings = msgspec.toml.decode(path.read_bytes(), type=Settings)
    except OSError as error:
        raise NotFound(f"cannot read {path}: {error.strerror}", field="config") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Invalid("config", f"{path}: {error}; correct it") from error
    if not settings.id.isascii():
        raise Invalid("id", f"{path}: id {settings.id!r:.60} is no API id: it goes into a header; correct it")
    return settings
