"""What every test stands on."""

import asyncio

import pytest


@pytest.fixture(scope="session", autouse=True)
def _no_loop_left_by_looptime() -> None:
    """looptime 0.9 leaks a loop when a synchronous test comes before an asynchronous one."""
    asyncio.set_event_loop(None)
