"""A fresh network for one test. In a test module: `from tests.support.netns import fresh_network`."""

from collections.abc import Iterator

import pytest

from nano.fleet.network_namespace import own_network


@pytest.fixture
def fresh_network() -> Iterator[None]:
    """The test, and what it starts, sees a network of its own with nothing but `lo`; gone afterwards."""
    with own_network():
        yield
