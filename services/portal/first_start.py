"""The code that the first user must know: a file that only the portal's user, and root, can read.

Without it whoever finds the port first becomes the administrator (reference-behaviour, F-36).
"""

import hmac
import secrets
from pathlib import Path

from nano.model.errors import Forbidden
from nano.web.certificate import write_private

FILE = "first-start-code"
_LETTERS = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"
"""Without those that are taken for one another: 40 bits in 8 letters, and few attempts (`throttle.py`)."""


class FirstStart:
    """The code, for as long as there is no user."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / FILE

    def prepare(self) -> None:
        """Writes a code, unless an earlier start has."""
        if not self._file.exists() or not _bare(self._file.read_text()):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            letters = "".join(secrets.choice(_LETTERS) for _ in range(8))
            write_private(self._file, f"{letters[:4]}-{letters[4:]}\n".encode())

    def check(self, code: str) -> None:
        """`Forbidden` when it is not the code; blanks, the hyphen and the letters' case do not count.

        A file that is gone, or empty, lets nobody in: the next start of the portal writes a new one.
        """
        try:
            wanted = _bare(self._file.read_text())
        except FileNotFoundError:
            wanted = ""
        if not wanted:
            raise Forbidden(
                f"{self._file} holds no code: start the portal again, it writes one", field="code"
            )
        if not hmac.compare_digest(_bare(code).encode(), wanted.encode()):
            raise Forbidden(
                f"this is not the first-start code: `./dev up` prints it, and it is in {self._file} on the "
                "portal's host",
                field="code",
            )

    def done(self) -> None:
        self._file.unlink(missing_ok=True)


def _bare(code: str) -> str:
    return "".join(code.split()).replace("-", "").upper()
