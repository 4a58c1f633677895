"""What is logged, for tests that wait for it."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import structlog

from nano.bell import Bell

Line = dict[str, Any]


class HeardLogs:
    """The lines logged so far; a bell tells of each."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self._bell = Bell()

    def __call__(self, _: object, level: str, line: Any) -> Any:
        """As a processor of structlog, the only one."""
        self.lines.append(dict(line) | {"log_level": level})
        self._bell.ring()
        raise structlog.DropEvent

    def events(self, name: str) -> list[Line]:
        return [line for line in self.lines if line["event"] == name]

    async def until(self, is_it: Callable[[Line], bool], within_s: float, count: int = 1) -> None:
        """Returns once so many lines are like that."""
        async with asyncio.timeout(within_s):
            while sum(is_it(line) for line in self.lines) < count:
                await self._bell.heard()


@contextlib.contextmanager
def heard_logs() -> Iterator[HeardLogs]:
    """What is logged inside, and nothing of it printed."""
    heard = HeardLogs()
    processors = structlog.get_config()["processors"]
    before = list(processors)
    try:  # in place: loggers that are bound already hold this very list
        processors[:] = [heard]
        yield heard
    finally:
        processors[:] = before
