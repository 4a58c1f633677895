"""The socket that REST is spoken on."""

import socket

import pytest

from nano.model.errors import Conflict
from services.gateway.server import bound


def test_a_port_that_somebody_has_is_refused_with_advice() -> None:
    with bound("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(Conflict, match=f"127.0.0.1:{port}"):
            bound("127.0.0.1", port)


def test_the_protocol_is_named_so_that_answers_are_not_held_back() -> None:
    with bound("127.0.0.1", 0) as listener:
        assert listener.proto == socket.IPPROTO_TCP


def test_ipv6_is_spoken_where_it_is_asked_for() -> None:
    if not socket.has_ipv6:
        pytest.skip("this host has no IPv6")
    with bound("::1", 0) as listener:
        assert listener.family == socket.AF_INET6
