"""What a handler may do with its call, and what becomes of one that does too little or too much."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import ProtocolError
from grpclib.server import Stream

from nano.model.errors import NanoError, NotFound, TimedOut
from nano.model.peers import Role
from tests.support.echo import ECHO, ROLES, EchoStub
from tests.support.fabrics import Lab

Run = Callable[[Stream[bytes, bytes]], Awaitable[None]]


class _One:
    """A contract whose `Repeat` is what the test says."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def __mapping__(self) -> dict[str, Handler]:
        return {ECHO + "Repeat": Handler(self._run, Cardinality.UNARY_UNARY, bytes, bytes)}


async def _ask(folder: Path, run: Run, **options: Any) -> bytes:
    lab = Lab(folder)
    async with lab.join(Role.CELL, "c1") as cell:
        cell.serve([_One(run)], {ECHO + "Repeat": ROLES[ECHO + "Repeat"]})
        async with lab.join(Role.SCHEDULER, "s1") as scheduler:
            stub = EchoStub(scheduler.channel(Role.CELL, "c1"))
            found = await stub.repeat(b"x", **options)
            assert len(scheduler.links) == 1
            return found


async def test_what_is_sent_is_what_comes(tmp_path: Path) -> None:
    async def run(call: Stream[bytes, bytes]) -> None:
        message = await call.recv_message()
        assert message is not None
        assert await call.recv_message() is None
        await call.send_initial_metadata(metadata={"colour": "blue"})
        await call.send_message(message * 3)
        await call.send_trailing_metadata(metadata={"size": "3"})

    assert await _ask(tmp_path, run) == b"xxx"


async def test_a_handler_that_answers_nothing_is_a_failure_and_no_silence(tmp_path: Path) -> None:
    async def run(call: Stream[bytes, bytes]) -> None:
        await call.recv_message()

    with pytest.raises(NanoError):
        await _ask(tmp_path, run, timeout=5)


async def test_a_unary_call_is_answered_once(tmp_path: Path) -> None:
    refused: list[Exception] = []

    async def run(call: Stream[bytes, bytes]) -> None:
        await call.send_message(b"first")
        for again in (call.send_message(b"second"), call.send_initial_metadata()):
            try:
                await again
            except ProtocolError as error:
                refused.append(error)
        await call.send_trailing_metadata()
        with pytest.raises(ProtocolError):
            await call.send_trailing_metadata()

    assert await _ask(tmp_path, run) == b"first"
    assert len(refused) == 2


async def test_a_status_may_be_sent_by_hand(tmp_path: Path) -> None:
    async def run(call: Stream[bytes, bytes]) -> None:
        await call.send_trailing_metadata(status=Status.NOT_FOUND, status_message="no such thing ü")

    with pytest.raises(NotFound, match="no such thing ü"):
        await _ask(tmp_path, run)


async def test_the_handler_is_stopped_at_the_deadline_that_it_was_told(tmp_path: Path) -> None:
    stopped = asyncio.Event()
    left: list[float] = []

    async def run(call: Stream[bytes, bytes]) -> None:
        assert call.deadline is not None
        left.append(call.deadline.time_remaining())
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    with pytest.raises(TimedOut):
        await _ask(tmp_path, run, timeout=0.3)
    await asyncio.wait_for(stopped.wait(), 5)
    assert 0 < left[0] <= 0.3


async def test_metadata_reaches_the_handler_and_what_every_call_has_does_not(tmp_path: Path) -> None:
    seen: list[dict[str, Any]] = []

    async def run(call: Stream[bytes, bytes]) -> None:
        assert call.metadata is not None
        seen.append(dict(call.metadata))
        await call.send_message(b"")

    await _ask(tmp_path, run, metadata={"colour": "blue", "raw-bin": b"\x00\xff"}, timeout=5)
    await _ask(tmp_path, run)
    assert seen == [{"colour": "blue", "raw-bin": b"\x00\xff"}, {}]
