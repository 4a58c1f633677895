"""Pretended displays on real sockets: nonsense ends one, a client that does not read holds up nobody."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import closing

import pytest

from nano.model.ids import InstanceId
from services.cell.sim_screens import Screens
from tests.support.rfb import Ended, RfbClient

VM = InstanceId("7c9e6679-7425-40de-944b-e07fc1f90ae7")


@pytest.fixture
async def screens() -> AsyncIterator[Screens]:
    made = Screens()
    yield made
    made.close_all()
    await asyncio.sleep(0)  # transports end in the next turn of the loop


async def test_typed_keys_are_seen_by_all_who_look(screens: Screens) -> None:
    with closing(await screens.open(VM, "web1")) as one, closing(await screens.open(VM, "web1")) as other:
        clients = [RfbClient(end.receive, end.send) for end in (one, other)]
        for client in clients:
            await client.shake_hands()
            await client.ask()
            await client.update()
            await client.ask(incremental=True)
        await clients[0].press("x")
        assert await clients[0].update() == await clients[1].update()


async def test_a_restart_clears_what_was_typed(screens: Screens) -> None:
    with closing(await screens.open(VM, "web1")) as display:
        client = RfbClient(display.receive, display.send)
        await client.shake_hands()
        await client.ask()
        fresh = await client.update()
        await client.ask(incremental=True)
        await client.press("x")
        await client.update()
        await client.ask(incremental=True)
        screens.restart(VM)
        await client.update()
        await client.ask()
        assert await client.update() == fresh


async def test_nonsense_ends_the_connection_and_no_other(screens: Screens) -> None:
    with closing(await screens.open(VM, "web1")) as bad, closing(await screens.open(VM, "web1")) as good:
        await bad.send(b"GET / HTTP/1.1\r\n\r\n")
        while await bad.receive():
            pass
        client = RfbClient(good.receive, good.send)
        await client.shake_hands()
        screens.close(VM)
        with pytest.raises(Ended):
            await client.update()


async def test_a_client_that_asks_and_does_not_read_is_not_heard_any_more(screens: Screens) -> None:
    with closing(await screens.open(VM, "web1")) as display:
        client = RfbClient(display.receive, display.send)
        await client.shake_hands()
        (served,) = screens._looking[VM]
        transport = served._transport
        assert transport is not None
        async with asyncio.TaskGroup() as jobs:
            asking = jobs.create_task(_ask_on(client))
            for _ in range(2000):  # turns of the loop: more than the sockets between could take
                await asyncio.sleep(0)
            assert not transport.is_reading()
            assert transport.get_write_buffer_size() <= 4 * client.width * client.height + 1000
            asking.cancel()
        assert await client.update()  # it goes on where it was


async def _ask_on(client: RfbClient) -> None:
    while True:
        await client.ask()
