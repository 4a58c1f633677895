"""Sessions over a restart of the portal: a small file, written whole whenever one begins, lasts or ends.

It holds digests of ids, which open nothing. A file that is lost or cannot be read logs everybody out, no
more.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import msgspec
import structlog

from nano import codec
from nano.web.certificate import write_private
from services.portal.sessions import Kept, Sessions

FILE = "sessions.json"

_log = structlog.get_logger("nano.portal")


class SessionFile:
    """The file in the portal's data folder, and the sessions that are kept in it."""

    def __init__(
        self, folder: Path, sessions: Sessions, monotonic_s: Callable[[], float], now_ms: Callable[[], int]
    ) -> None:
        self._path = folder / FILE
        self._sessions = sessions
        self._monotonic_s = monotonic_s
        self._now_ms = now_ms
        self._written = sessions.changes
        self._crew = ThreadPoolExecutor(1, thread_name_prefix="sessions")

    def read(self) -> None:
        """Takes over what an earlier life of the portal has left."""
        if not self._path.exists():
            return
        try:
            kept = codec.decode(self._path.read_bytes(), list[Kept])
        except (msgspec.DecodeError, OSError) as error:
            _log.warning("sessions.unreadable", file=str(self._path), error=str(error))
            return
        self._sessions.restore(kept, self._monotonic_s(), self._now_ms())
        self._written = self._sessions.changes

    async def write(self) -> None:
        """Returns when the file has what the sessions are now. One thread writes, so the last state stays."""
        if self._written == self._sessions.changes:
            return
        self._written = self._sessions.changes
        content = codec.encode(self._sessions.kept(self._monotonic_s(), self._now_ms()))
        work = partial(write_private, self._path, content)
        try:
            await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._crew, work))
        except OSError as error:  # a full disk logs people out at the next restart; it refuses nobody now
            _log.warning("sessions.unwritten", file=str(self._path), error=str(error))

    def close(self) -> None:
        self._crew.shutdown(wait=True)
