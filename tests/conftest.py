"""What every test stands on."""

import asyncio

import pytest
from hypothesis import HealthCheck, settings

# No test asserts a time: hypothesis would, on a machine that is busy with something else.
settings.register_profile("nano", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("nano")


@pytest.fixture(scope="session", autouse=True)
def _no_loop_left_by_looptime() -> None:
    """looptime 0.9 leaks a loop when a synchronous test comes before an asynchronous one."""
    asyncio.set_event_loop(None)
