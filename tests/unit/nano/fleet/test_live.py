import asyncio
import contextlib

import pytest

from nano.fleet.__main__ import reasons
from nano.fleet.host import wait_until
from nano.fleet.live import unless
from nano.fleet.stages import Stages
from nano.model.errors import Cancelled, Conflict, TimedOut


async def test_work_that_ends_gives_its_result() -> None:
    async def work() -> int:
        return 7

    assert await unless(asyncio.Event(), work()) == 7


async def test_work_that_fails_raises_its_own_error() -> None:
    async def work() -> None:
        raise Conflict("taken")

    with pytest.raises(Conflict, match="taken"):
        await unless(asyncio.Event(), work())


async def test_an_interrupt_lets_the_work_clean_up_before_it_is_told() -> None:
    cleaned = asyncio.Event()
    interrupted = asyncio.Event()

    async def work() -> None:
        try:
            interrupted.set()
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.set()

    with pytest.raises(Cancelled):
        await unless(interrupted, work())
    assert cleaned.is_set()


def test_each_reason_is_told_once_however_deep() -> None:
    inner = ExceptionGroup("", [Conflict("taken"), TimedOut("slow")])
    assert reasons(ExceptionGroup("", [inner, Conflict("taken")])) == ["taken", "slow"]


def test_a_stage_is_timed_and_said(capsys: pytest.CaptureFixture[str]) -> None:
    stages = Stages()
    with stages.stage("upload", "uploading 24 MiB"):
        assert "uploading 24 MiB" in capsys.readouterr().out
    assert list(stages.seconds) == ["upload"]


def test_a_stage_that_fails_has_no_time() -> None:
    stages = Stages()
    with contextlib.suppress(Conflict), stages.stage("upload", "uploading"):
        raise Conflict("taken")
    assert stages.seconds == {}


def test_waiting_has_a_limit() -> None:
    assert wait_until(lambda: True, 0)
    assert not wait_until(lambda: False, 0)
