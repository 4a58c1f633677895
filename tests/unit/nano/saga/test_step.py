from typing import Any

import msgspec
import pytest

from nano.model.action import LeaseAddress
from nano.model.ids import AddressPoolName, InstanceId
from nano.model.peers import Peer, Role
from nano.saga.step import Changes, Moved, Saga, remote, step


class Notes(msgspec.Struct, frozen=True):
    instance: InstanceId
    cell: str
    wants_address: bool = True


NOTES = Notes(InstanceId("vm"), "a")


@step
def reserve(notes: Notes, _book: Any) -> Moved[Notes]:
    return notes, ()


@reserve.undo
def unreserve(_notes: Notes, _book: Any) -> Changes:
    return ()


@step
def forgetful(notes: Notes, _book: Any) -> Moved[Notes]:
    return notes, ()


@remote(Role.ADDRESSPOOL)
def lease(notes: Notes) -> LeaseAddress:
    return LeaseAddress(AddressPoolName("lan"), f"{notes.instance}/0", notes.instance)


@lease.when
def wants_address(notes: Notes) -> bool:
    return notes.wants_address


def cell_of(notes: Notes) -> Peer:
    return Peer(Role.CELL, notes.cell)


@remote(cell_of, no_undo="a read")
def look(notes: Notes) -> LeaseAddress:
    return LeaseAddress(AddressPoolName("lan"), "nobody", notes.instance)


def test_a_step_is_named_as_its_function_and_knows_its_way_back() -> None:
    assert reserve.name == "reserve"
    assert reserve.take_back is unreserve
    assert reserve.can_undo
    assert lease.can_undo
    assert not look.can_undo


def test_a_remote_step_goes_to_a_role_or_to_the_peer_that_the_notes_name() -> None:
    assert lease.target(NOTES) == Role.ADDRESSPOOL
    assert look.target(NOTES) == Peer(Role.CELL, "a")


def test_a_step_may_be_of_no_use_to_some_notes() -> None:
    assert lease.wanted(NOTES)
    assert not lease.wanted(msgspec.structs.replace(NOTES, wants_address=False))
    assert reserve.wanted(NOTES)


def test_a_remote_step_without_a_done_keeps_the_notes() -> None:
    assert lease.fold(NOTES, None, None) == (NOTES, ())


def test_without_a_pivot_the_last_step_is_it() -> None:
    assert Saga("s", Notes, (reserve, lease)).pivot == 1
    assert Saga("s", Notes, (reserve, lease), pivot=reserve).pivot == 0


def test_a_saga_refuses_a_step_that_has_no_way_back_and_does_not_say_why() -> None:
    with pytest.raises(ValueError, match="step forgetful has no undo"):
        Saga("s", Notes, (forgetful, lease))
    with pytest.raises(ValueError, match="step forgetful has no undo"):
        Saga("s", Notes, (reserve, forgetful), pivot=forgetful)


def test_behind_the_pivot_nothing_need_be_undone() -> None:
    assert len(Saga("s", Notes, (reserve, forgetful), pivot=reserve)) == 2


def test_a_saga_refuses_two_steps_of_one_name() -> None:
    with pytest.raises(ValueError, match="a name of its own"):
        Saga("s", Notes, (reserve, reserve))
    with pytest.raises(ValueError, match="it needs steps"):
        Saga("s", Notes, ())


def test_notes_come_back_from_the_journal_as_they_were() -> None:
    saga = Saga("s", Notes, (reserve, look, lease))
    assert saga.decode(saga.encode(NOTES)) == NOTES
    assert saga.index("look") == 1
    assert saga.index("nowhere") is None
