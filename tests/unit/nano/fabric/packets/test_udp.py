"""A socket that is drained at once."""

import asyncio
import socket

import pytest

from nano.fabric.packets.udp import Datagram, Endpoint, Train, bind, listen
from nano.model.errors import Conflict


class _Heard:
    def __init__(self) -> None:
        self.batches: list[list[bytes]] = [[]]
        self.changed = asyncio.Event()

    def receive(self, train: Train) -> None:
        data, size, _ = train
        self.batches[-1] += [data[at : at + size] for at in range(0, len(data), size)]

    def drained(self) -> None:
        self.batches.append([])
        self.changed.set()


async def test_what_came_together_is_handed_over_together() -> None:
    heard = _Heard()
    endpoint = Endpoint(bind("127.0.0.1", 0), heard)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for number in range(20):
            sender.sendto(bytes([number]), endpoint.address)
        await asyncio.wait_for(heard.changed.wait(), 5)
    endpoint.close()
    assert heard.batches[0] == [bytes([number]) for number in range(20)]


async def test_a_burst_larger_than_the_kernels_buffer_is_sent_in_order() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        receiver.setblocking(False)
        sock = bind("127.0.0.1", 0)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4608)
        endpoint = Endpoint(sock, _Heard())
        address = receiver.getsockname()
        datagrams: list[Datagram] = [(number.to_bytes(2, "big") * 500, address) for number in range(200)]
        endpoint.send(datagrams)
        loop = asyncio.get_running_loop()
        got = [await asyncio.wait_for(loop.sock_recv(receiver, 2000), 5) for _ in datagrams]
        assert got == [data for data, _ in datagrams]
        endpoint.close()


async def test_a_datagram_without_a_route_is_lost_and_nothing_else() -> None:
    heard = _Heard()
    endpoint = Endpoint(bind("127.0.0.1", 0), heard)
    endpoint.send([(b"x", ("240.0.0.1", 9)), (b"y", endpoint.address)])
    await asyncio.wait_for(heard.changed.wait(), 5)
    endpoint.close()
    endpoint.send([(b"after the end", endpoint.address)])
    assert heard.batches[0] == [b"y"]


def test_a_port_that_somebody_has_is_refused_with_advice() -> None:
    with bind("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Conflict, match=f"UDP 127.0.0.1:{port} cannot be bound: .*listen and port of"):
            listen("127.0.0.1", port)
