"""Who calls, inside a handler and outside."""

import asyncio

import pytest
import structlog

from nano.fabric.calls.caller import Caller, answering, caller, current_task, for_task
from nano.model.errors import Internal
from nano.model.peers import Peer, Role

GATEWAY = Caller(Peer(Role.GATEWAY, "g1"), None, "task-1")
CELL = Caller(Peer(Role.CELL, "c1"), None, "")


def test_outside_of_a_call_nobody_calls() -> None:
    with pytest.raises(Internal):
        caller()
    assert current_task() == ""


def test_the_caller_and_its_task_are_known_while_the_call_is_answered() -> None:
    with answering(GATEWAY):
        assert caller() is GATEWAY
        assert current_task() == "task-1"
        assert structlog.contextvars.get_contextvars() == {"task": "task-1"}
    with pytest.raises(Internal):
        caller()
    assert structlog.contextvars.get_contextvars() == {}


def test_a_caller_without_a_task_leaves_the_current_one_alone() -> None:
    with for_task("task-2"), answering(CELL):
        assert current_task() == "task-2"


async def test_calls_that_are_answered_at_once_do_not_mix() -> None:
    seen: list[Caller] = []

    async def answer(who: Caller) -> None:
        with answering(who):
            await asyncio.sleep(0)
            seen.append(caller())

    async with asyncio.TaskGroup() as jobs:
        for who in (GATEWAY, CELL):
            jobs.create_task(answer(who))
    assert seen == [GATEWAY, CELL]
