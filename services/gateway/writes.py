"""How a write is answered: when the replica shows it, and for a short task when it has ended.

You read what you wrote: an answer is held until our own replica has come to the change, a second at most, and
says when it has not. `Nano-Revision` is the cursor for whoever uses several gateways.
"""

import msgspec

from nano.contracts.nano import v1
from nano.model.errors import Invalid
from nano.model.ids import TaskId
from nano.model.task import Task, error_of
from nano.web import envelope
from nano.web.envelope import Answer
from services.gateway import cursor
from services.gateway.absence import away, waits_for
from services.gateway.call import Call, Gateway
from services.gateway.cursor import Book, Position

HELD_S = 1.0
TASK_S = 10.0
"""How long a client waits for the end of a short task: the documented operate timeout."""
RPC_S = 10.0

REVISION = "Nano-Revision"
BEHIND = "Nano-Replica"
TASK = "Nano-Task"
_KEY_LONGEST = 255


class Running(msgspec.Struct, omit_defaults=True):
    """A task that goes on."""

    task: str
    waits_for: str = ""
    """What is not there, in words, when that is why it has not ended yet."""


async def held(gateway: Gateway, book: Book, revision: int, task: str = "") -> dict[str, str]:
    """Waits until the replica shows a revision of its book; the headers that tell where the reader stands.

    A task that is shown already is enough: a repeated request is answered with a later revision, of which the
    watch may have nothing to tell.
    """
    view = gateway.view
    is_shown = await gateway.bell.until(lambda: task in view.tasks or view.shows(book, revision), HELD_S)
    headers = {} if is_shown else {BEHIND: "behind"}
    position = view.replicas[book].position
    if position is not None:
        headers[REVISION] = cursor.written({book: Position(position.incarnation, revision)})
    return headers


async def done(gateway: Gateway, book: Book, revision: int) -> Answer:
    """The answer of a write that is over."""
    return envelope.success(headers=await held(gateway, book, revision))


def requester(call: Call[object]) -> v1.Requester:
    """Who asks; `Idempotency-Key` tells a repeated request from a new one."""
    key = call.request.headers.get("idempotency-key", "")
    if len(key) > _KEY_LONGEST or not key.isprintable():
        raise Invalid("Idempotency-Key", f"Idempotency-Key is not a text of up to {_KEY_LONGEST} characters")
    credential = call.credential.id if call.credential is not None else ""
    return v1.Requester(credential=credential, idempotency_key=key, body_digest=call.digest)


async def started(gateway: Gateway, ref: v1.TaskRef) -> dict[str, str]:
    """The headers of a write that has started a task."""
    return {TASK: ref.task, **await held(gateway, Book.SCHEDULER, ref.revision, ref.task)}


async def ended(gateway: Gateway, ref: v1.TaskRef) -> Answer:
    """Waits for the end of a short task: its error, its success, or word that it still runs.

    One that needs a cell which is not there is not waited for.
    """
    view = gateway.view
    headers = await started(gateway, ref)

    def over() -> Task | None:
        task = view.tasks.get(TaskId(ref.task))
        return task if task is not None and (task.state.ended or away(view, task)) else None

    task = await gateway.bell.until(over, TASK_S)
    if task is None or not task.state.ended:
        why = waits_for(view, task) if task is not None else ""
        return envelope.success(Running(ref.task, why), headers=headers)
    if task.error is not None:
        raise error_of(task.error)
    return envelope.success(headers=headers)
