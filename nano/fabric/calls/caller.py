"""Who calls, until when, and for which task: set by the server around each handler.

The deadline does not travel by itself: a handler that starts work which outlives the call must not bind it
to the caller's patience. Pass it on where it belongs: `stub.method(request, deadline=caller().deadline)`. The
task does travel: each call made in its context carries it, into the logs of the other side.
"""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass

import structlog
from grpclib.metadata import Deadline

from nano.model.errors import Internal
from nano.model.peers import Peer

TASK_HEADER = "nano-task"
TASK_LIMIT = 200
"""Longest task id that is taken over from a header into logs."""


@dataclass(frozen=True, slots=True)
class Caller:
    """The peer behind the call that is being answered; `task` is empty when it named none."""

    peer: Peer
    deadline: Deadline | None
    task: str
    fingerprint: str = ""
    """What the key is known by that the peer has proven on this link."""
    host: str = ""
    """The address that it calls from, for people to read."""


_caller: ContextVar[Caller] = ContextVar("nano-caller")
_task: ContextVar[str] = ContextVar("nano-task", default="")


def caller() -> Caller:
    """Who calls. Outside of a handler there is nobody, which is a defect of ours."""
    try:
        return _caller.get()
    except LookupError:
        raise Internal("caller() was asked outside of a call") from None


def current_task() -> str:
    """The task on whose behalf this code runs; empty when there is none."""
    return _task.get()


@contextlib.contextmanager
def for_task(task: str) -> Iterator[None]:
    """Everything inside is done for `task`: log lines and calls to other peers say so."""
    token = _task.set(task)
    try:
        with structlog.contextvars.bound_contextvars(task=task):
            yield
    finally:
        _task.reset(token)


@contextlib.contextmanager
def answering(found: Caller) -> Iterator[None]:
    """Inside, `found` is the caller and its task the current one."""
    token = _caller.set(found)
    try:
        if found.task:
            with for_task(found.task):
                yield
        else:
            yield
    finally:
        _caller.reset(token)
