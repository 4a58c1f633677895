"""How a callee does an action and takes it back: at once in its book, or by a job that touches the world."""

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeAlias

from nano.model.action import AnyResult
from nano.model.ids import TaskId
from nano.saga.step import Changes

Did: TypeAlias = tuple[Changes, AnyResult]
"""What an action changes in the callee's book, and what it brings back."""
Report: TypeAlias = Callable[[int], None]
"""Say how far the work is: percent, measured."""


@dataclass(frozen=True, slots=True)
class Errand:
    """For whom a handler works."""

    task: TaskId
    step: str
    deadline_ms: int = 0
    """0: none, or not known any more after a restart."""


errand: ContextVar[Errand] = ContextVar("errand")
"""The errand under way: set around every handler, also in the jobs that it starts."""


@dataclass(frozen=True, slots=True)
class Immediate:
    """Pure: done in the same breath, whole by one commit."""

    do: Callable[[Any, Any], Did]
    """`(action, book) -> (changes, result)`; a `NanoError` refuses, and nothing has happened."""
    undo: Callable[[Any, Any, Any], Changes] | None
    """`(action, result, book) -> changes`."""


@dataclass(frozen=True, slots=True)
class Job:
    """Work on the world that takes its time. Both ways must be idempotent: a crash runs them again."""

    run: Callable[[Any, Report], Awaitable[Did]]
    """`async (action, report) -> (changes, result)`; may be cancelled at any `await`, `undo` follows then."""
    undo: Callable[[Any], Awaitable[Changes]] | None
    """`async (action) -> changes`: removes whatever `run` did, all, a part or nothing of it."""


Handler: TypeAlias = Immediate | Job
