import pytest

from nano.model.peers import Peer, Role
from nano.saga.targets import same_peer, target_of

CELL = Peer(Role.CELL, "Cell_00163e000001")


@pytest.mark.parametrize("target", [CELL, Role.ADDRESSPOOL, Role.IMAGESTORE])
def test_a_target_is_one_word_in_the_journal(target: Peer | Role) -> None:
    assert target_of(str(target)) == target


def test_an_unknown_role_is_an_error() -> None:
    with pytest.raises(ValueError, match="printer"):
        target_of("printer/1")


def test_a_peer_answers_for_itself_and_for_its_role_only() -> None:
    assert same_peer("cell/Cell_00163e000001", CELL)
    assert same_peer("cell", CELL)
    assert not same_peer("cell/Cell_00163e000002", CELL)
    assert not same_peer("addresspool", CELL)
