"""`/tasks/`: what goes on and what went on. Beyond the documented surface."""

import msgspec

from nano.contracts.nano import v1
from nano.model.errors import Invalid, NotFound
from nano.model.ids import TaskId
from nano.model.task import Task, TaskState
from nano.web import envelope
from nano.web.envelope import Answer
from services.gateway import paging, writes
from services.gateway.call import Call, Route
from services.gateway.cursor import Book


class Page(msgspec.Struct):
    tasks: list[Task]
    """The newest first."""
    total: int


async def query(call: Call[None]) -> Answer:
    asked = call.query
    state = _state(asked.text("state"))
    subject = asked.text("subject")
    known = call.view.tasks_of(subject) if subject else list(call.view.tasks.values())
    found = [task for task in known if state in {None, task.state}]
    found.sort(key=lambda task: (task.created_ms, task.id), reverse=True)
    return envelope.success(Page(paging.page(asked, found), len(found)))


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
    return envelope.success(task)


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
    Route("GET", _ONE, read, "Read a task", answer=Task, reads=_READS),
    Route("DELETE", _ONE, cancel, "Cancel a task that has not passed its pivot"),
)
