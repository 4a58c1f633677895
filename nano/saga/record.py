"""A task as it is kept, and the changes that make it so. Frozen: a mark makes a new record of the old one."""

from enum import StrEnum
from typing import TypeAlias

import msgspec

from nano.model.ids import TaskId
from nano.model.task import Fault, TaskState

NO_STEP = -1
"""The index before the first mark."""


class Mark(StrEnum):
    """What was written of a step."""

    OPENED = "opened"
    """No step yet."""
    BEGUN = "begun"
    """It may have happened."""
    DONE = "done"
    FAILED = "failed"
    """It did not happen, or only in part; before the pivot this turns the task back."""
    STUCK = "stuck"
    """Its undo was tried and did not succeed; it is tried again."""
    UNDONE = "undone"
    ABANDONED = "abandoned"
    """Its peer was declared dead: nothing will be heard of it, and nothing is owed any more."""


class Idempotency(msgspec.Struct, frozen=True, gc=False):
    """A client's name for one request: its `Idempotency-Key` and the digest of the body that came with it."""

    key: str
    digest: str


class About(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What a task's subject was called when the task began, and whose it was."""

    name: str = ""
    owner: str = ""
    group: str = ""


NOBODYS = About()


class TaskRecord(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One task. `notes` stay JSON, as in the journal, until a step needs them: open tasks cost bytes."""

    id: TaskId
    kind: str
    subject: str
    notes: msgspec.Raw
    step_count: int
    pivot: int
    """The index of the step after which there is no way back."""
    created_ms: int
    deadline_ms: int = 0
    requester: str = ""
    about: About = NOBODYS
    claims: tuple[str, ...] = ()
    step: str = ""
    index: int = NO_STEP
    mark: Mark = Mark.OPENED
    attempt: int = 1
    """How often the step has been begun; only behind the pivot more than once."""
    ran: int = 0
    """A bit for each step that may have left something: what a way back must undo."""
    at: tuple[tuple[int, str], ...] = ()
    """Index and target of each remote step that was begun: its undo goes where it went."""
    back: bool = False
    """It is on its way back."""
    cancelled: bool = False
    error: Fault | None = None
    """Why it turned back."""
    trouble: Fault | None = None
    """What holds it up now: an undo that fails, or a step behind the pivot."""
    state: TaskState = TaskState.RUNNING
    """RUNNING until it has ended; what is shown meanwhile follows from the marks."""
    ended_ms: int = 0

    @property
    def past_pivot(self) -> bool:
        return self.index > self.pivot or (
            self.index == self.pivot and self.mark in {Mark.DONE, Mark.ABANDONED} and not self.back
        )

    @property
    def cancellable(self) -> bool:
        return not self.state.ended and not self.past_pivot

    @property
    def peers(self) -> set[str]:
        """All targets that have heard of it, or may have."""
        return {target for _, target in self.at}

    def target(self, index: int) -> str | None:
        """Where the step of that index was begun last."""
        return next((target for at, target in reversed(self.at) if at == index), None)


class TaskOpened(msgspec.Struct, frozen=True, tag="task_opened", omit_defaults=True):
    task: TaskId
    kind: str
    subject: str
    notes: msgspec.Raw
    step_count: int
    pivot: int
    created_ms: int
    deadline_ms: int = 0
    requester: str = ""
    about: About = NOBODYS
    claims: tuple[str, ...] = ()
    idempotency: Idempotency | None = None


class StepMarked(msgspec.Struct, frozen=True, tag="task_step", omit_defaults=True):
    task: TaskId
    step: str
    index: int
    mark: Mark
    at: str = ""
    """With BEGUN: the target."""
    notes: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    """The notes as they are from here on; absent when the step did not change them."""
    fault: Fault | None = None


class TaskTurned(msgspec.Struct, frozen=True, tag="task_turned", omit_defaults=True):
    """Somebody cancelled it, or its deadline passed (then `fault` says so): from here it goes back."""

    task: TaskId
    fault: Fault | None = None


class TaskEnded(msgspec.Struct, frozen=True, tag="task_ended"):
    """Its claims are free; the peers of its steps are owed a word that they may forget it."""

    task: TaskId
    state: TaskState
    ended_ms: int


class TasksForgotten(msgspec.Struct, frozen=True, tag="task_forgotten"):
    """The target knows that these have ended."""

    at: str
    tasks: tuple[TaskId, ...]


class PeerDeclaredDead(msgspec.Struct, frozen=True, tag="task_peer_dead"):
    """The target will never come back: what it was owed is dropped, what it owes is abandoned."""

    at: str


class PeerReadmitted(msgspec.Struct, frozen=True, tag="task_peer_readmitted"):
    at: str


TaskChange: TypeAlias = (
    TaskOpened | StepMarked | TaskTurned | TaskEnded | TasksForgotten | PeerDeclaredDead | PeerReadmitted
)
