"""What the world sees of a task: one run of a saga."""

from dataclasses import dataclass
from enum import StrEnum

from nano.model.errors import NanoError, from_code
from nano.model.ids import TaskId


class TaskState(StrEnum):
    RUNNING = "running"
    UNDOING = "undoing"
    STUCK = "stuck"
    """An undo keeps failing; it is tried again when its peer is back, and never dropped."""
    DONE = "done"
    FAILED = "failed"
    """Every step was undone; `error` says why."""
    CANCELLED = "cancelled"
    """Every step was undone because somebody asked for it."""

    @property
    def ended(self) -> bool:
        return self in _ENDED


_ENDED = frozenset({TaskState.DONE, TaskState.FAILED, TaskState.CANCELLED})


@dataclass(frozen=True, slots=True)
class Fault:
    """An error as it is stored and sent: see `nano.model.errors`."""

    code: str
    message: str
    field: str = ""
    subject: str = ""


def fault_of(error: NanoError) -> Fault:
    """An error as it is stored."""
    return Fault(error.code, error.message, error.field, error.subject)


def error_of(fault: Fault) -> NanoError:
    """A stored error as it is raised again."""
    return from_code(fault.code, fault.message, field=fault.field, subject=fault.subject)


@dataclass(frozen=True, slots=True)
class Task:
    """One run of a saga, as it is shown."""

    id: TaskId
    kind: str
    """The saga's name: `create_instance`."""
    subject: str
    """The id of what it works on."""
    state: TaskState
    step: str
    """The name of the step that is under way or was last."""
    step_index: int
    step_count: int
    progress_percent: int
    """Measured: steps done, and the share of the running one that its callee reports."""
    cancellable: bool
    """It has not passed its pivot."""
    created_ms: int
    ended_ms: int = 0
    deadline_ms: int = 0
    """0: none."""
    error: Fault | None = None
    requester: str = ""
    """The credential that asked for it."""
    name: str = ""
    """What its subject was called when it began, `<group>.<name>`: that may be gone by now."""
    owner: str = ""
    group: str = ""
