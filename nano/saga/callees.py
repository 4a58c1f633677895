"""How the engine reaches the services that its steps act on. Model types only: `nano/steps.py` adapts."""

from collections.abc import Sequence
from typing import Protocol

from nano.model.action import Action, Outcome
from nano.model.ids import TaskId
from nano.saga.targets import Target

_AGAIN = "~"


class Callees(Protocol):
    """Each call is answered at once, and may be repeated at will.

    Unreachable, TimedOut and Exhausted say that nothing is known to have happened: the call is repeated until
    it is answered. Any other `NanoError` is the peer's refusal, and counts as the step's failure.

    Outcomes that come later are handed to `Engine.outcome`. Whoever connects to a peer's stream of outcomes
    does so first and calls `Engine.peer_up` then, so that what the stream did not bring is asked for.
    """

    async def begin(
        self, target: Target, task: TaskId, step: str, action: Action, deadline_ms: int
    ) -> Outcome: ...

    async def undo(self, target: Target, task: TaskId, step: str) -> Outcome: ...

    async def ask(self, target: Target, task: TaskId, step: str) -> Outcome: ...

    async def forget(self, target: Target, tasks: Sequence[TaskId]) -> None: ...


def step_key(name: str, attempt: int) -> str:
    """A step as callees know it: behind the pivot a failed one is begun anew, as `start_instance~2`.

    The name alone would get the first attempt's outcome for ever, since who asks twice is answered the same.
    """
    return name if attempt == 1 else f"{name}{_AGAIN}{attempt}"


def split_key(step: str) -> tuple[str, int]:
    """Name and attempt of a step's key; what is no number of ours belongs to the name."""
    name, again, attempt = step.rpartition(_AGAIN)
    return (name, int(attempt)) if again and attempt.isdecimal() else (step, 1)
