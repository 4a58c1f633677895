"""`/tasks/`: what goes on and what went on. Beyond the documented surface."""

from dataclasses import dataclass, fields

import msgspec

from nano.contracts.nano import v1
from nano.model.errors import Invalid, NotFound
from nano.model.ids import TaskId
from nano.model.task import Task, TaskState
from nano.web import envelope
from nano.web.envelope import Answer
from services.gateway import paging, writes
from services.gateway.absence import waits_for
from services.gateway.call import Call, Route
from services.gateway.cursor import Book
from services.gateway.view import View


@dataclass(frozen=True, slots=True)
class TaskInfo(Task):
    """A task as it is answered."""

    waits_for: str = ""
    """What is not there, in words, when that is why it does not go on."""


class Page(msgspec.Struct):
    tasks: list[TaskInfo]
    """The newest first."""
    total: int


async def query(call: Call[None]) -> Answer:
    asked = call.query
    state = _state(asked.text("state"))
    subject = asked.text("subject")
    known = call.view.tasks_of(subject) if subject else list(call.view.tasks.values())
    found = [task for task in known if state in {None, task.state}]
    found.sort(key=lambda task: (task.created_ms, task.id), reverse=True)
    shown = [_shown(task, call.view) for task in paging.page(asked, found)]
    return envelope.success(Page(shown, len(found)))


def _shown(task: Task, view: View) -> TaskInfo:
    values = {each.name: getattr(task, each.name) for each in fields(task)}
    return TaskInfo(**values, waits_for=waits_for(view, task))


def _state(text: str) -> TaskState | None:
    if not text:
        return None
    try:
        return TaskState(text)
    except ValueError:
        raise Invalid("state", f"state {text!r:.40} is unknown: give one of {', '.join(TaskState)}") from None


async def read(call: Call[None]) -> Answer:
    wanted = TaskId(call.params["id"])
    task = call.view.tasks.get(wanted)
    if task is None:
        raise NotFound(f"there is no task {wanted!r:.80}", field="id", subject=wanted)
    return envelope.success(_shown(task, call.view))


async def cancel(call: Call[None]) -> Answer:
    """Its steps are undone from here on; what has passed its pivot goes on."""
    message = v1.CancelTaskRequest(task=call.params["id"])
    reply = await call.services.scheduler.cancel_task(message, timeout=writes.RPC_S)
    return await writes.done(call.gateway, Book.SCHEDULER, reply.revision)


_READS = (Book.SCHEDULER,)
_ONE = "/tasks/{id}"

ROUTES = (
    Route(
        "GET",
        "/tasks/",
        query,
        "List tasks, the newest first",
        answer=Page,
        reads=_READS,
        query={
            "state": ", ".join(TaskState),
            "subject": "the id of what they work on",
            **paging.PARAMETERS,
        },
    ),
    Route("GET", _ONE, read, "Read a task", answer=TaskInfo, reads=_READS),
    Route("DELETE", _ONE, cancel, "Cancel a task that has not passed its pivot"),
)
