"""A book as a stream of messages: whole first, then each durable change in order (design, section 7).

The same for every service's `Watch`. Whoever resumes with a cursor that is too old, or of another life of the
book, gets the whole again; nobody is silently skipped.
"""

from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol, TypeVar

from nano.contracts.nano import v1
from nano.model.errors import Stale
from nano.shelf import Cursor, Shelf


class Change(Protocol):
    """A message that a watch sends."""

    cursor: v1.Cursor | None
    whole: bool


C = TypeVar("C", bound=Change)


async def watch(
    shelf: Shelf[Any],
    since: v1.Cursor | None,
    whole: Callable[[], C],
    told: Callable[[tuple[Any, ...]], C | None],
) -> AsyncIterator[C]:
    """Messages from `since` on.

    `whole` makes the message that holds the live book, `told` the one that tells some changes, or None when
    they show nothing. Both may look at the live book, which can be ahead of the disk: a message waits for it.
    """
    at = None if since is None else Cursor(since.incarnation, since.revision)
    while True:
        if at is None:
            at = shelf.cursor
            yield await _sent(shelf, at, whole(), is_whole=True)
        try:
            async for revision, changes in shelf.follow(at):
                at = Cursor(shelf.incarnation, revision)
                message = told(changes)
                if message is not None:
                    yield await _sent(shelf, at, message, is_whole=False)
        except Stale:
            at = None
        else:
            return  # the shelf is being closed


async def _sent(shelf: Shelf[Any], at: Cursor, message: C, *, is_whole: bool) -> C:
    message.cursor = v1.Cursor(incarnation=at.incarnation, revision=at.revision)
    message.whole = is_whole
    await shelf.durable()
    return message
