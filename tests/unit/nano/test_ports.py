"""An address that cannot be had: one line says which, and what to do."""

import errno

import pytest

from nano.model.errors import Conflict
from nano.ports import cannot_bind


@pytest.mark.parametrize(
    ("number", "host", "said"),
    [
        (errno.EADDRINUSE, "0.0.0.0", "UDP 0.0.0.0:5600 cannot be bound: no; stop who has it, another Nano"),
        (errno.EADDRINUSE, "::", "UDP [::]:5600 cannot be bound"),
        (errno.EADDRNOTAVAIL, "192.0.2.1", "no interface of this host has that address, set listen"),
        (errno.EACCES, "0.0.0.0", "this user may not have it, set listen"),
        (errno.ENOBUFS, "0.0.0.0", "cannot be bound: no; set listen"),
    ],
)
def test_each_reason_has_its_advice(number: int, host: str, said: str) -> None:
    error = cannot_bind("UDP", host, 5600, OSError(number, "no"), settings="listen")
    assert isinstance(error, Conflict)
    assert said in error.message


def test_who_has_it_is_found_by_the_command_that_is_named() -> None:
    """`ss` takes u for UDP and t for TCP."""
    in_use = OSError(errno.EADDRINUSE, "no")
    for transport, letter in (("UDP", "u"), ("TCP", "t")):
        said = cannot_bind(transport, "0.0.0.0", 5600, in_use, settings="port").message
        assert f"`ss -{letter}lnp 'sport = :5600'`" in said
