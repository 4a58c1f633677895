"""An event loop whose clock jumps to what is due next: hours pass in milliseconds, always in the same order.

Nothing outside can wake it, so when nothing is due and nothing is ready, nothing ever will be: that is a
deadlock, and is raised as one.
"""

import asyncio
import selectors
from collections.abc import Callable, Coroutine, Mapping
from functools import wraps
from typing import Any, ParamSpec, TypeVar

T = TypeVar("T")
P = ParamSpec("P")


class Deadlock(AssertionError):
    """Everybody waits for somebody."""


class _Selector(selectors.DefaultSelector):
    """Never waits: what it should have waited is how far the clock goes."""

    elapsed_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Deadlock("nothing is due and nothing is ready")
        self.elapsed_s += max(timeout, 0)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._clock = _Selector()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.elapsed_s

    def call_exception_handler(self, context: Mapping[str, Any]) -> None:
        """What nobody awaited is a failure of the test, not a line on stderr."""
        error = context.get("exception")
        raise error if isinstance(error, BaseException) else AssertionError(context["message"])


def run_virtually(main: Coroutine[Any, Any, T]) -> T:
    """Run it to its end on a clock of its own that starts at 0."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


def virtually(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Decorates an asynchronous test that has a virtual clock of its own."""

    @wraps(test)
    def run(*arguments: P.args, **named: P.kwargs) -> None:
        run_virtually(test(*arguments, **named))

    return run
