"""Calls over real sockets: each kind, their errors, deadlines and ends."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from grpclib.const import Cardinality
from grpclib.metadata import Deadline

from nano.fabric.calls.caller import for_task
from nano.model import errors
from nano.model.errors import BY_CODE, Forbidden, Internal, NanoError, TimedOut, Unreachable, Unsupported
from nano.model.peers import Peer, Role
from tests.support.echo import ECHO, ROLES, EchoHandler, EchoStub, domain_error
from tests.support.fabrics import Lab


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


async def _messages(*messages: bytes) -> AsyncIterator[bytes]:
    for message in messages:
        yield message


async def test_a_unary_call_is_answered(lab: Lab) -> None:
    async with lab.echo() as (_, stub, _, _):
        assert await stub.repeat(b"hello") == b"hello"


async def test_a_message_larger_than_every_window_passes(lab: Lab) -> None:
    message = bytes(range(256)) * 15_000
    async with lab.echo() as (_, stub, _, _):
        assert await stub.repeat(message) == message


async def test_an_empty_message_is_a_message(lab: Lab) -> None:
    async with lab.echo() as (_, stub, _, _):
        assert await stub.repeat(b"") == b""


async def test_a_server_streams(lab: Lab) -> None:
    async with lab.echo() as (_, stub, _, _):
        assert [message async for message in stub.count(300)] == [str(n).encode() for n in range(300)]


async def test_a_client_streams(lab: Lab) -> None:
    async with lab.echo() as (_, stub, _, _):
        assert await stub.total(_messages(bytes(100_000), bytes(7), b"")) == b"100007"


async def test_both_stream_in_turns(lab: Lab) -> None:
    """Each message waits for the answer to the one before: neither end may gather them."""
    answers: asyncio.Queue[bytes] = asyncio.Queue()

    async def ask() -> AsyncIterator[bytes]:
        message = b"a"
        for _ in range(20):
            yield message
            message = (await answers.get()).lower() + b"x"

    async with lab.echo() as (_, stub, _, _):
        found = []
        async for answer in stub.chat(ask()):
            found.append(answer)
            answers.put_nowait(answer)
        assert found == [b"A" + b"X" * n for n in range(20)]


async def test_the_handler_knows_who_calls_until_when_and_for_which_task(lab: Lab) -> None:
    async with lab.echo() as (handler, stub, _, _):
        with for_task("task-5"):
            assert await stub.who_am_i(deadline=Deadline.from_timeout(30)) == b"scheduler/s1"
        (caller,) = handler.callers
        assert caller.peer == Peer(Role.SCHEDULER, "s1")
        assert caller.task == "task-5"
        assert caller.deadline is not None
        assert 0 < caller.deadline.time_remaining() <= 30


@pytest.mark.parametrize("kind", sorted(BY_CODE))
async def test_an_error_arrives_as_the_class_and_with_the_fields_it_was_raised_with(
    lab: Lab, kind: str
) -> None:
    async with lab.echo() as (handler, stub, _, _):
        handler.error = error = domain_error(BY_CODE[kind])
        with pytest.raises(NanoError) as found:
            await stub.fail()
        assert type(found.value) is type(error)
        assert vars(found.value) == vars(error)


async def test_a_defect_of_a_handler_is_told_by_its_number_only(lab: Lab) -> None:
    async with lab.echo() as (handler, stub, _, _):
        handler.error = RuntimeError("the password is hunter2")
        with pytest.raises(Internal) as found:
            await stub.fail()
        assert "hunter2" not in str(found.value)
        assert found.value.subject in str(found.value)
        assert await stub.repeat(b"and goes on") == b"and goes on"


async def test_a_method_that_does_not_exist_is_unsupported(lab: Lab) -> None:
    async with lab.echo() as (_, stub, _, _):
        with pytest.raises(Unsupported):
            await stub.missing(b"")


async def test_a_method_without_a_row_in_the_table_is_for_nobody(lab: Lab) -> None:
    async with lab.echo() as (_, stub, _, _):
        with pytest.raises(Forbidden):
            await stub.secret(b"")


async def test_a_deadline_ends_the_call_at_both_ends(lab: Lab) -> None:
    async with lab.echo() as (handler, stub, _, _):
        with pytest.raises(TimedOut):
            async for _ in stub.wait(timeout=0.2):
                pass
        await asyncio.wait_for(handler.stopped.wait(), 5)


async def test_a_deadline_that_has_passed_already_is_said_at_once(lab: Lab) -> None:
    async with lab.echo() as (_, stub, _, _):
        with pytest.raises(TimedOut):
            await stub.repeat(b"", timeout=0)


async def test_cancelling_the_caller_stops_the_handler(lab: Lab) -> None:
    async with lab.echo() as (handler, stub, _, _):

        async def call() -> None:
            async for _ in stub.wait():
                pass

        async with asyncio.TaskGroup() as jobs:
            job = jobs.create_task(call())
            await handler.started.wait()
            job.cancel()
        await asyncio.wait_for(handler.stopped.wait(), 5)


async def test_leaving_a_stream_half_read_stops_the_handler(lab: Lab) -> None:
    async with lab.echo() as (handler, _, _, scheduler):
        channel = scheduler.channel(Role.CELL, "c1")
        async with channel.request(ECHO + "Wait", Cardinality.UNARY_STREAM, bytes, bytes) as call:
            await call.send_message(b"", end=True)
            assert await call.recv_message() == b"started"
            await call.cancel()
        await asyncio.wait_for(handler.stopped.wait(), 5)


async def test_metadata_travels_both_ways_in_binary_too(lab: Lab) -> None:
    async with lab.echo() as (_, _, _, scheduler):
        channel = scheduler.channel(Role.CELL, "c1")
        metadata = {"colour": "blue", "raw-bin": b"\x00\xff"}
        async with channel.request(
            ECHO + "Repeat", Cardinality.UNARY_UNARY, bytes, bytes, metadata=metadata
        ) as call:
            await call.send_message(b"x", end=True)
            assert await call.recv_message() == b"x"
            await call.recv_trailing_metadata()
        assert call.initial_metadata is not None
        assert call.trailing_metadata is not None


async def test_a_peer_that_nobody_knows_is_unreachable_at_once(lab: Lab) -> None:
    async with lab.echo() as (_, _, _, scheduler):
        stub = EchoStub(scheduler.channel(Role.CELL, "c9"))
        with pytest.raises(Unreachable):
            await asyncio.wait_for(stub.repeat(b"x"), 1)


async def test_an_address_where_nobody_answers_is_unreachable_within_the_deadline(lab: Lab) -> None:
    lab.addresses["cell/c9"] = "127.0.0.1:9"
    async with lab.echo() as (_, _, _, scheduler):
        stub = EchoStub(scheduler.channel(Role.CELL, "c9"))
        with pytest.raises(Unreachable):
            await asyncio.wait_for(stub.repeat(b"x", timeout=0.3), 1)


async def test_calls_that_run_when_a_server_leaves_are_answered(lab: Lab) -> None:
    """Every call that was begun before the leaving has its answer; later ones may be refused, never lost."""
    leaving = asyncio.Event()
    cell_stack = contextlib.AsyncExitStack()
    cell = await cell_stack.enter_async_context(lab.join(Role.CELL, "c1"))
    cell.serve([EchoHandler()], ROLES)
    answered: list[bool] = []

    async def call_until_left(stub: EchoStub) -> None:
        while not leaving.is_set():
            answered.append(False)
            mine = len(answered) - 1
            assert await stub.repeat(b"x" * 1000, timeout=5) == b"x" * 1000
            answered[mine] = True

    async with lab.join(Role.SCHEDULER, "s1") as scheduler:
        stub = EchoStub(scheduler.channel(Role.CELL, "c1"))
        async with asyncio.TaskGroup() as jobs:
            for _ in range(50):
                jobs.create_task(call_until_left(stub))
            while sum(answered) < 500:
                await stub.repeat(b"let them run")
            leaving.set()
            await cell_stack.aclose()
        assert all(answered)
        with pytest.raises(Unreachable):
            await stub.repeat(b"too late", timeout=0.5)


async def test_a_stream_that_is_open_when_the_link_dies_fails_instead_of_ending(lab: Lab) -> None:
    async with lab.echo() as (handler, stub, cell, _):

        async def read() -> None:
            with pytest.raises(Unreachable):
                async for _ in stub.wait():
                    pass

        async with asyncio.TaskGroup() as jobs:
            jobs.create_task(read())
            await handler.started.wait()
            for link in cell.links:
                link.close(errors.Internal("a test ends it"))
        assert await stub.repeat(b"and the next call dials anew") == b"and the next call dials anew"
