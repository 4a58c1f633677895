"""A book as a stream: whole first, then each change once and in order."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from nano.contracts.nano import v1
from nano.shelf import Shelf
from nano.watching import watch
from tests.support.bank import Bank, Moved


@dataclass
class Told:
    """A message as a service would make it."""

    accounts: tuple[str, ...] = ()
    moved: tuple[int, ...] = ()
    cursor: v1.Cursor | None = None
    whole: bool = False


@pytest.fixture
async def shelf(tmp_path: Path) -> AsyncIterator[Shelf[Bank]]:
    async with Shelf.open(tmp_path, Bank, history_bytes=500) as opened:
        yield opened


def stream(shelf: Shelf[Bank], since: v1.Cursor | None = None) -> AsyncIterator[Told]:
    def told(changes: tuple[Any, ...]) -> Told | None:
        moved = tuple(change.transfer.number for change in changes if isinstance(change, Moved))
        return Told(moved=moved) if moved else None

    return watch(shelf, since, lambda: Told(accounts=tuple(shelf.book.accounts)), told)


async def test_the_whole_book_comes_first_and_then_each_change(shelf: Shelf[Bank]) -> None:
    shelf.commit(*shelf.book.transfer("ann", "bob", 5))
    messages = stream(shelf)
    first = await anext(messages)
    assert (first.whole, first.accounts) == (True, ("ann", "bob"))
    for _ in range(3):
        shelf.commit(*shelf.book.transfer("bob", "ann", 1))
    assert [(await anext(messages)).moved for _ in range(3)] == [(2,), (3,), (4,)]


async def test_nothing_is_shown_before_it_is_durable(shelf: Shelf[Bank]) -> None:
    messages = stream(shelf)
    await anext(messages)
    shelf.commit(*shelf.book.transfer("ann", "bob", 5))
    message = await anext(messages)
    assert message.cursor is not None
    assert shelf.durable_revision >= message.cursor.revision


async def test_a_cursor_goes_on_where_it_stood(shelf: Shelf[Bank]) -> None:
    shelf.commit(*shelf.book.transfer("ann", "bob", 5))
    cursor = (await anext(stream(shelf))).cursor
    shelf.commit(*shelf.book.transfer("ann", "bob", 5))
    resumed = await anext(stream(shelf, cursor))
    assert (resumed.whole, resumed.moved) == (False, (2,))


async def test_a_cursor_of_another_life_or_too_long_ago_gets_the_whole_again(shelf: Shelf[Bank]) -> None:
    old = (await anext(stream(shelf))).cursor
    for _ in range(50):
        shelf.commit(*shelf.book.transfer("ann", "bob", 5))
    await shelf.durable()
    assert (await anext(stream(shelf, old))).whole
    assert (await anext(stream(shelf, v1.Cursor(incarnation="another", revision=1)))).whole


async def test_changes_that_show_nothing_are_not_sent(shelf: Shelf[Bank]) -> None:
    messages = stream(shelf)
    await anext(messages)
    opened, moved = shelf.book.transfer("ann", "ann", 5)[0], None
    shelf.commit(opened)
    shelf.commit(*shelf.book.transfer("ann", "bob", 5))
    moved = await anext(messages)
    assert moved.moved == (1,)
