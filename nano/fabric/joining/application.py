"""What a server that asks to be let in keeps beside its key, so that it stays the same one over restarts.

`application.json` of the identity folder, mode 0600: whom it asked first and believes since, its nonce, the
scheduler's answer to it, and the code that people compare. It is written before each thing that follows
from it is said, because a commitment must never be opened to two challenges. When the server is in the
zone, the file says so, and where the scheduler was.
"""

import secrets
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from nano.fabric.identity.trust import Fingerprint, Name
from nano.fabric.joining.short_code import NONCE_BYTES, commitment_to
from nano.files import replace_file
from nano.model.errors import Corrupt
from nano.model.peers import Role

APPLICATION_FILE = "application.json"

_Nonce = Annotated[str, msgspec.Meta(pattern=rf"\A[0-9a-f]{{{2 * NONCE_BYTES}}}\Z")]
_NonceOrNone = Annotated[str, msgspec.Meta(pattern=rf"\A([0-9a-f]{{{2 * NONCE_BYTES}}})?\Z")]


class Application(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One request to be let in, from its first word to its end."""

    role: Role
    id: Name
    fingerprint: Fingerprint
    """Of this server's key."""
    zone: Name
    authority: Fingerprint
    """Of the authority that the scheduler showed which was asked first; no other is believed."""
    scheduler: str
    """Where that scheduler is, as `host:port`."""
    scheduler_id: Name
    nonce: _Nonce
    challenge: _NonceOrNone = ""
    """The scheduler's nonce, once it was heard; ours was not said before."""
    code: str = ""
    state: Literal["waiting", "joined"] = "waiting"
    version: Literal[1] = 1

    @property
    def commitment(self) -> bytes:
        return commitment_to(bytes.fromhex(self.nonce))

    def anew(self) -> "Application":
        """The same request with a nonce that nobody was shown yet: the code will be another one."""
        return msgspec.structs.replace(self, nonce=new_nonce(), challenge="", code="")


def new_nonce() -> str:
    return secrets.token_hex(NONCE_BYTES)


_DECODER = msgspec.json.Decoder(Application)


def read(folder: Path) -> Application | None:
    """What is kept in an identity folder; None when nobody was asked yet. `Corrupt` says what to do about
    it."""
    path = folder / APPLICATION_FILE
    try:
        return _DECODER.decode(path.read_bytes())
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Corrupt(
            f"{path} cannot be read ({error}): delete it, and the server asks anew, with another code",
            subject=str(path),
        ) from error


def write(folder: Path, application: Application) -> None:
    """Keep it, durably."""
    content = msgspec.json.format(msgspec.json.encode(application)) + b"\n"
    replace_file(folder / APPLICATION_FILE, content, mode=0o600)


def forget(folder: Path) -> None:
    """Start over: whoever answers next is asked, and believed."""
    (folder / APPLICATION_FILE).unlink(missing_ok=True)
