"""Beats on while the event loop is held up: tells peers that this process is busy and not gone.

A thread that does nothing but look, once a beat, whether the loop has passed by since. Only while it has not
are signs sent (`busy.py`). Python code that holds the loop up lets other threads run; C code that does not
give up the interpreter's lock stops the heart as well, and so does a stop of the whole process: then peers
judge by silence.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator

Sign = Callable[[], None]
"""Tells one peer that we are busy. Called in the heart's thread; must not block and may raise `OSError`."""

_MISSED_BEATS = 1.5
"""After how many beats without a sight of the loop it is held up."""


class Heart:
    """The heart of one process."""

    def __init__(self, beat_s: float) -> None:
        self._beat_s = beat_s
        self._signs: dict[object, Sign] = {}
        self._seen = time.monotonic()
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = threading.Event()

    def add(self, link: object, sign: Sign) -> None:
        self._signs[link] = sign

    def remove(self, link: object) -> None:
        self._signs.pop(link, None)

    @contextlib.contextmanager
    def beating(self) -> Iterator[None]:
        """Beats for the time of the context, which has a running loop."""
        thread = threading.Thread(target=self._beat, name="fabric heart", daemon=True)
        self._pass_by()
        thread.start()
        try:
            yield
        finally:
            self._stopped.set()
            if self._timer is not None:
                self._timer.cancel()
            thread.join()

    def _pass_by(self) -> None:
        """In the loop: it is not held up."""
        self._seen = time.monotonic()
        self._timer = asyncio.get_running_loop().call_later(self._beat_s, self._pass_by)

    def _beat(self) -> None:
        while not self._stopped.wait(self._beat_s):
            self.look(time.monotonic())

    def look(self, now: float) -> None:
        """Tell everybody, if the loop has not passed by for too long."""
        if now - self._seen > _MISSED_BEATS * self._beat_s:
            for sign in list(self._signs.values()):
                with contextlib.suppress(OSError):  # closed meanwhile, or no way to it now
                    sign()
