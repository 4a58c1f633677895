"""The file that holds the keys to the API, in the documented shape."""

from pathlib import Path

import msgspec
import structlog

from nano.model.errors import Invalid
from nano.web.certificate import write_private
from nano.web.keys import Credential, CredentialsFile
from services.gateway.keyring import new_credential

FILE = "credentials.json"

_log = structlog.get_logger("nano.gateway")


def load(path: Path, port: int) -> tuple[Credential, ...]:
    """The credentials; a missing file is made, with one of its own, for its owner only."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        made = CredentialsFile((new_credential(),), port)
        write_private(path, msgspec.json.format(msgspec.json.encode(made), indent=2) + b"\n")
        _log.info("gateway.credential_made", file=str(path), id=made.credentials[0].id)
    try:
        found = msgspec.json.decode(path.read_bytes(), type=CredentialsFile)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Invalid(str(path), f"{path}: {error}; correct it and start again") from error
    if not found.credentials:
        raise Invalid(str(path), f"{path} has no credentials: remove it, and a new one is made")
    return found.credentials
