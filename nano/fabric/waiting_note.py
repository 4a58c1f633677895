"""What a peer that waits to be let in shows to people on its own host: `waiting.json` in its identity folder.

It is there for exactly as long as an administrator is waited for; `nanoctl join --status` and `./dev join`
read it.
"""

from pathlib import Path
from typing import Annotated

import msgspec

from nano.fabric.authority import replace_file
from nano.model.errors import Corrupt

FILE = "waiting.json"


class Waiting(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What people compare, and by what the applicant is admitted."""

    code: str
    fingerprint: Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]


def leave_note(identity: Path, waiting: Waiting) -> None:
    """It waits from now on, in the identity folder `identity`."""
    replace_file(identity / FILE, msgspec.json.encode(waiting) + b"\n", mode=0o600)


def take_note_away(identity: Path) -> None:
    """It waits no more."""
    (identity / FILE).unlink(missing_ok=True)


def waiting_at(identity: Path) -> Waiting | None:
    """What it waits with; None when it does not wait. `Corrupt` when the note cannot be read."""
    path = identity / FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=Waiting)
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Corrupt(
            f"{path} cannot be read: {error}; restart the service that waits", subject=str(path)
        ) from error
