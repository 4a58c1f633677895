"""What is said of a join token."""

from nano.cli.admission import unreachable_from_elsewhere
from nano.fabric.joining.join_token import TokenText, encode
from nano.model.peers import Role


def _token(*schedulers: str) -> str:
    return encode(TokenText(1, "nano", (bytes(32),), bytes(16), Role.CELL, "", 2**42, schedulers))


def test_a_token_of_a_closed_zone_is_said_to_be_of_no_use_elsewhere() -> None:
    assert "./dev up --open" in unreachable_from_elsewhere(_token("127.0.0.1:5600", "[::1]:5600"))
    assert unreachable_from_elsewhere(_token("127.0.0.1:5600", "10.0.0.1:5600")) == ""
    assert unreachable_from_elsewhere(_token("nano.example:5600")) == ""
    assert unreachable_from_elsewhere(_token()) == ""
