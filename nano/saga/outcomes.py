"""What a callee keeps of the steps that others began here: the part of its book that every callee has.

A book embeds it as `outcomes`, passes it the changes it does not know itself, and gives its snapshot along.
Each record changes in the same commit as what the step did, so that the two can never disagree.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, TypeAlias

import msgspec

from nano.model.action import AnyAction, AnyResult, Outcome, Progress
from nano.model.ids import TaskId
from nano.model.task import Fault
from nano.saga.callees import split_key, step_key

FORGOTTEN_LIMIT = 10_000
"""How many ended tasks are remembered by name only, so that a step that comes after the end is refused."""


class OutcomeRecord(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One step as it stands here. Without an action it is a tombstone: undone before it was seen."""

    task: TaskId
    step: str
    progress: Progress
    attempt: int = 1
    action: AnyAction | None = None
    result: AnyResult | None = None
    fault: Fault | None = None

    @property
    def key(self) -> str:
        return step_key(self.step, self.attempt)

    def outcome(self, percent: int = 0) -> Outcome:
        return Outcome(self.task, self.key, self.progress, percent, self.result, self.fault)


class OutcomePut(msgspec.Struct, frozen=True, tag="outcome_put"):
    """A step began, or came to something, or was taken back."""

    outcome: OutcomeRecord


class OutcomesForgotten(msgspec.Struct, frozen=True, tag="outcome_forgotten"):
    """These tasks have ended."""

    tasks: tuple[TaskId, ...]


OutcomeChange: TypeAlias = OutcomePut | OutcomesForgotten


class Outcomes:
    """Records by task and step, and the names of tasks that ended not long ago. Pure."""

    kinds: ClassVar[Mapping[str, Any]] = {"outcomes": OutcomeRecord, "forgotten_tasks": str}

    def __init__(self, *, forgotten_limit: int = FORGOTTEN_LIMIT) -> None:
        self._by_task: dict[TaskId, dict[str, OutcomeRecord]] = {}
        self._forgotten: dict[TaskId, None] = {}
        self._forgotten_limit = forgotten_limit

    def __len__(self) -> int:
        return sum(len(steps) for steps in self._by_task.values())

    def __iter__(self) -> Iterator[OutcomeRecord]:
        for steps in self._by_task.values():
            yield from steps.values()

    def of(self, task: TaskId) -> Mapping[str, OutcomeRecord]:
        """The task's steps by name."""
        return self._by_task.get(task, {})

    def is_forgotten(self, task: TaskId) -> bool:
        return task in self._forgotten

    def find(self, task: TaskId, key: str) -> OutcomeRecord | None:
        """The record of exactly that attempt; an older attempt than the one kept counts as undone."""
        step, attempt = split_key(key)
        record = self.of(task).get(step)
        if record is None or attempt > record.attempt:
            return None
        if attempt < record.attempt:
            return OutcomeRecord(task, step, Progress.UNDONE, attempt)
        return record

    def apply(self, change: OutcomeChange) -> None:
        match change:
            case OutcomePut(outcome):
                self._by_task.setdefault(outcome.task, {})[outcome.step] = outcome
            case OutcomesForgotten(tasks):
                for task in tasks:
                    self._by_task.pop(task, None)
                    self._forgotten[task] = None
                while len(self._forgotten) > self._forgotten_limit:
                    del self._forgotten[next(iter(self._forgotten))]

    def snapshot(self) -> dict[str, Sequence[Any]]:
        return {"outcomes": list(self), "forgotten_tasks": list(self._forgotten)}

    @classmethod
    def restore(
        cls, snapshot: Mapping[str, Sequence[Any]], *, forgotten_limit: int = FORGOTTEN_LIMIT
    ) -> "Outcomes":
        outcomes = cls(forgotten_limit=forgotten_limit)
        for record in snapshot["outcomes"]:
            outcomes.apply(OutcomePut(record))
        outcomes._forgotten.update(dict.fromkeys(snapshot["forgotten_tasks"]))
        return outcomes
