"""Callees that are not there: a task waits at its first step on another service."""

from collections.abc import Sequence

from nano.model.action import Action, Outcome
from nano.model.errors import Unreachable
from nano.model.ids import TaskId
from nano.saga.targets import Target


class Nobody:
    """`nano.saga.callees.Callees` of a zone in which nobody answers."""

    async def begin(
        self, target: Target, task: TaskId, step: str, action: Action, deadline_ms: int
    ) -> Outcome:
        raise Unreachable(f"{target} is not there")

    async def undo(self, target: Target, task: TaskId, step: str) -> Outcome:
        raise Unreachable(f"{target} is not there")

    async def ask(self, target: Target, task: TaskId, step: str) -> Outcome:
        raise Unreachable(f"{target} is not there")

    async def forget(self, target: Target, tasks: Sequence[TaskId]) -> None:
        raise Unreachable(f"{target} is not there")
