"""What an applicant writes down of those who answer it."""

from pathlib import Path

import pytest

from nano.applying import Applicant
from nano.fabric.identity.folder import IdentityFolder
from nano.fabric.joining.join_token import TokenText
from nano.fabric.joining.schedulers import Schedulers
from nano.fabric.joining.standing import Note, State
from nano.model.errors import Corrupt, NanoError, Unreachable, Untrusted
from nano.model.peers import Peer, Role
from tests.support.certificates import utc_now

CELL = Peer(Role.CELL, "c1")
BRIDGE, SCHEDULER, HEARD = ("172.17.0.1", 5600), ("10.0.0.5", 5600), ("10.0.0.66", 5600)
STRANGE, SILENT = Untrusted("another authority"), Unreachable("did not answer")


class Asked:
    """One that asks with a token that names two addresses."""

    def __init__(self, folder: Path) -> None:
        token = TokenText(1, "0011", (bytes(32),), bytes(16), Role.CELL, "", 2**42, ())
        self.note = Note(folder, lambda: 1)
        self.note.says(State.ASKS)
        self._applicant = Applicant(CELL, IdentityFolder(folder, CELL), token, utc_now, self.note)
        self._schedulers = Schedulers((BRIDGE, SCHEDULER), None, domain="lab", fingerprint="a1" * 32)

    def finds(self, found: NanoError, address: tuple[str, int]) -> str:
        """The doubt that there is after this."""
        self._applicant._take_down(found, address, self._schedulers)
        known = self.note.kept
        assert known is not None
        return known.doubt


@pytest.fixture
def asked(tmp_path: Path) -> Asked:
    return Asked(tmp_path)


@pytest.mark.parametrize("later", [SILENT, Corrupt("says nothing more"), Untrusted("a third zone")])
def test_a_stranger_makes_a_doubt_until_something_else_is_found_at_his_address(
    asked: Asked, later: NanoError
) -> None:
    assert asked.finds(SILENT, BRIDGE) == ""
    assert asked.finds(STRANGE, BRIDGE) == "another authority"
    assert asked.finds(SILENT, SCHEDULER) == "another authority"  # of another address it says nothing
    assert asked.finds(later, BRIDGE) == (later.message if isinstance(later, Untrusted) else "")


def test_one_doubt_less_leaves_the_other(asked: Asked) -> None:
    asked.finds(STRANGE, BRIDGE)
    assert asked.finds(Untrusted("a third zone"), SCHEDULER) == "a third zone"
    assert asked.finds(SILENT, SCHEDULER) == "another authority"
    assert asked.finds(SILENT, BRIDGE) == ""


def test_whoever_was_only_heard_makes_no_doubt(asked: Asked) -> None:
    assert asked.finds(STRANGE, HEARD) == ""
