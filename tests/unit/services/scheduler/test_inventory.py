"""The scheduler's book: what is recorded, what is reported, and which of them wins."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, ClassVar, Self

import msgspec
import pytest

from nano import codec
from nano.model.errors import Conflict, Exists, Forbidden, Invalid, NotFound
from nano.model.ids import CellId, InstanceId, PoolName
from nano.model.instance import Instance, InstanceStatus, Power
from nano.model.membership import Applicant, How
from nano.model.peers import Peer, Role
from nano.model.pool import Capabilities, Pool, Presence, VirtType
from nano.saga.record import PeerDeclaredDead
from nano.shelf import Shelf
from services.scheduler.inventory import (
    CellGone,
    CellPut,
    Change,
    InstanceGone,
    InstancePut,
    Inventory,
    PoolPut,
    StatusPut,
    TemplatePut,
)
from services.scheduler.lifecycle import Verb, permit
from services.scheduler.membership import Membership
from services.scheduler.placement import Load
from services.scheduler.templates import defaults
from tests.support.disk import SimDisk
from tests.support.nouns import CELL, GIB, INSTANCE, SPEC

FOLDER = Path("/data/shelf")
TEMPLATE = defaults(0)[0]
KNOWN = replace(SPEC, template=TEMPLATE.id)
CAPABILITIES = Capabilities(VirtType.QEMU, 2, 4 * GIB, 50 * GIB)


def book(*changes: Change) -> Inventory:
    made = Inventory()
    for change in (PoolPut(Pool(PoolName("default"))), TemplatePut(TEMPLATE), CellPut(CELL), *changes):
        made.apply(change)
    return made


def applied(made: Inventory, changes: Sequence[Change]) -> Inventory:
    for change in changes:
        made.apply(change)
    return made


def status(number: int, power: Power = Power.RUNNING, epoch: int = 1) -> InstanceStatus:
    return InstanceStatus(INSTANCE.id, epoch, number, power, addresses=(IPv4Address("10.57.0.9"),))


# ------------------------------------------------------------------ what may be created


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": "no blanks"}, "name"),
        ({"owner": ""}, "owner"),
        ({"group": "ö"}, "group"),
        ({"cores": 0}, "cores"),
        ({"cores": 3}, "cores"),
        ({"cores": 258}, "cores"),
        ({"memory_bytes": 1024}, "memory"),
        ({"disks_bytes": ()}, "disks"),
        ({"disks_bytes": (GIB, 5)}, "disks[1]"),
        ({"disks_bytes": (GIB,) * 17}, "disks"),
    ],
)
def test_a_spec_that_cannot_be_is_refused_by_its_field(changes: dict[str, object], field: str) -> None:
    with pytest.raises(Invalid) as refused:
        book().check_spec(replace(KNOWN, **changes))  # type: ignore[arg-type]
    assert refused.value.field == field


@pytest.mark.parametrize(
    ("changes", "field"),
    [({"pool": "nowhere"}, "pool"), ({"template": "none"}, "template")],
)
def test_a_spec_that_names_what_is_not_there_is_refused(changes: dict[str, object], field: str) -> None:
    with pytest.raises(NotFound) as refused:
        book().check_spec(replace(KNOWN, **changes))  # type: ignore[arg-type]
    assert refused.value.field == field


def test_a_full_name_is_unique_in_its_pool_until_its_instance_is_gone() -> None:
    made = book(InstancePut(replace(INSTANCE, spec=KNOWN)))
    with pytest.raises(Exists) as refused:
        made.check_spec(KNOWN)
    assert refused.value.subject == INSTANCE.id
    made.check_spec(replace(KNOWN, group="other"))
    made.apply(InstanceGone(INSTANCE.id))
    made.check_spec(KNOWN)


def test_a_disabled_pool_takes_nothing() -> None:
    with pytest.raises(Conflict, match="disabled"):
        book(PoolPut(Pool(PoolName("default"), enabled=False))).check_spec(KNOWN)


# ------------------------------------------------------------------ loads


def test_a_cell_carries_what_is_recorded_on_it_from_the_reservation_on() -> None:
    reserved = replace(INSTANCE, created=False)
    made = book(InstancePut(reserved))
    assert made.load(CELL.id) == Load(1, 2, GIB, 10 * GIB)
    made.apply(InstancePut(replace(reserved, created=True)))
    assert made.load(CELL.id) == Load(1, 2, GIB, 10 * GIB)
    made.apply(InstancePut(replace(reserved, cell=CellId("other"))))
    assert made.load(CELL.id) == Load()
    assert made.load(CellId("other")) == Load(1, 2, GIB, 10 * GIB)
    made.apply(InstanceGone(INSTANCE.id))
    assert made.load(CellId("other")) == Load()
    assert made.on_cell(CellId("other")) == []


# ------------------------------------------------------------------ reports


def test_a_later_report_wins_and_an_earlier_one_changes_nothing() -> None:
    made = applied(book(InstancePut(INSTANCE)), [StatusPut(status(5))])
    assert made.reported(CELL.id, status(5, Power.STOPPED)) == []
    assert made.reported(CELL.id, status(4, Power.STOPPED)) == []
    assert made.reported(CELL.id, status(6, Power.STOPPED)) == [StatusPut(status(6, Power.STOPPED))]


def test_a_report_of_a_lower_epoch_or_from_another_cell_overwrites_nothing() -> None:
    made = book(InstancePut(replace(INSTANCE, epoch=2)))
    assert made.reported(CELL.id, status(9, epoch=1)) == []
    assert made.reported(CellId("other"), status(9, epoch=2)) == []
    assert made.reported(CELL.id, status(9, epoch=2)) == [StatusPut(status(9, epoch=2))]


def test_an_account_of_a_new_life_counts_whatever_its_numbers() -> None:
    made = applied(book(InstancePut(INSTANCE)), [StatusPut(status(50))])
    made = applied(made, made.account(CELL.id, "life-2", CAPABILITIES, [status(1, Power.STOPPED)], 7))
    assert made.status(INSTANCE.id) == status(1, Power.STOPPED)
    assert made.reported(CELL.id, status(1)) == []
    assert made.reported(CELL.id, status(2)) == [StatusPut(status(2))]


def test_what_an_account_does_not_name_is_off_and_says_why() -> None:
    made = applied(book(InstancePut(INSTANCE)), [StatusPut(status(5))])
    made = applied(made, made.account(CELL.id, "life", CAPABILITIES, [], 7))
    found = made.status(INSTANCE.id)
    assert found is not None
    assert found.power is Power.STOPPED
    assert "does not hold it" in found.reason


def test_a_cell_is_confirmed_by_its_account_and_by_nothing_else() -> None:
    made = applied(Inventory(), [PoolPut(Pool(PoolName("default")))])
    made = applied(made, made.cell_seen(CELL.id, "10.0.0.5", 1, PoolName("default")))
    assert (made.cell(CELL.id).presence, made.cell(CELL.id).confirmed) == (Presence.ONLINE, False)
    made = applied(made, made.account(CELL.id, "life", CAPABILITIES, [], 2))
    assert made.cell(CELL.id).confirmed
    made = applied(made, made.cell_silent(CELL.id, Presence.LOST, 9))
    assert (made.cell(CELL.id).presence, made.cell(CELL.id).confirmed) == (Presence.LOST, False)
    assert made.cell(CELL.id).seen_ms == 9  # since when nothing was heard of it
    assert made.cell_silent(CELL.id, Presence.LOST, 9) == []


def test_a_known_cell_keeps_its_pool_when_it_is_seen_again() -> None:
    made = applied(book(), book().remove_cell(PoolName("default"), CELL.id))
    made = applied(made, made.cell_seen(CELL.id, "a", 1, PoolName("default")))
    assert made.cell(CELL.id).pool is None


def test_after_our_restart_no_cell_is_confirmed_and_nothing_is_forgotten() -> None:
    made = applied(book(InstancePut(INSTANCE)), [StatusPut(status(5))])
    made = applied(made, made.nobody_is_confirmed(9))
    assert not made.cell(CELL.id).confirmed
    assert made.status(INSTANCE.id) == status(5)
    assert made.nobody_is_confirmed(9) == []


# ------------------------------------------------------------------ pools and cells


def test_a_pool_with_cells_and_a_cell_with_instances_stay() -> None:
    made = book(InstancePut(INSTANCE))
    with pytest.raises(Conflict, match=CELL.id):
        made.delete_pool(PoolName("default"))
    with pytest.raises(Conflict, match="holds 1 instance"):
        made.remove_cell(PoolName("default"), CELL.id)
    made.apply(InstanceGone(INSTANCE.id))
    made = applied(made, made.remove_cell(PoolName("default"), CELL.id))
    made = applied(made, made.delete_pool(PoolName("default")))
    with pytest.raises(NotFound):
        made.pool(PoolName("default"))


def test_a_cell_enters_one_pool_and_not_a_second() -> None:
    made = book(PoolPut(Pool(PoolName("two"))))
    with pytest.raises(Conflict, match="in pool default already"):
        made.add_cell(PoolName("two"), CELL.id)
    with pytest.raises(NotFound):
        made.add_cell(PoolName("two"), CellId("nobody"))
    made = applied(made, made.remove_cell(PoolName("default"), CELL.id))
    made = applied(made, made.add_cell(PoolName("two"), CELL.id))
    assert made.cell(CELL.id).pool == "two"


def test_a_cell_that_a_person_let_in_enters_no_pool_before_it_is_told_to() -> None:
    made = applied(Inventory(), [PoolPut(Pool(PoolName("default")))])
    peer = Peer(Role.CELL, CELL.id)
    applied(made, made.membership.enrolled(peer, "a1" * 32, How.ADMITTED, 1))
    assert applied(made, made.cell_seen(CELL.id, "a", 2, PoolName("default"))).cell(CELL.id).pool is None


def test_a_member_may_be_put_into_a_pool_before_it_was_ever_seen() -> None:
    made = applied(Inventory(), [PoolPut(Pool(PoolName("default")))])
    with pytest.raises(NotFound):
        made.add_cell(PoolName("default"), CELL.id)
    applied(made, made.membership.enrolled(Peer(Role.CELL, CELL.id), "a1" * 32, How.ADMITTED, 1))
    applied(made, made.add_cell(PoolName("default"), CELL.id))
    assert (made.cell(CELL.id).pool, made.cell(CELL.id).presence) == ("default", Presence.LEFT)
    applied(made, made.cell_seen(CELL.id, "a", 2, PoolName("default")))
    assert (made.cell(CELL.id).pool, made.cell(CELL.id).presence) == ("default", Presence.ONLINE)


def test_a_stranger_that_claims_a_members_name_does_not_keep_it_out_of_its_pool() -> None:
    made = applied(Inventory(), [PoolPut(Pool(PoolName("default")))])
    applied(made, made.membership.enrolled(Peer(Role.CELL, CELL.id), "a1" * 32, How.ADMITTED, 1))
    stranger = Applicant("b2" * 32, Role.CELL, CELL.id, "10.0.0.66", "ABCD-EFGH", 2, present=True)
    applied(made, made.membership.applied(stranger))
    applied(made, made.add_first(PoolName("default"), CELL.id, 3))
    assert made.cell(CELL.id).pool == "default"
    assert made.membership.member(Peer(Role.CELL, CELL.id)).fingerprint == "a1" * 32


def test_a_removed_cell_that_speaks_on_is_not_on_record_again() -> None:
    made = applied(Inventory(), [PoolPut(Pool(PoolName("default")))])
    peer = Peer(Role.CELL, CELL.id)
    applied(made, made.membership.enrolled(peer, "a1" * 32, How.TOKEN, 1))
    applied(made, made.cell_seen(CELL.id, "a", 2, PoolName("default")))
    applied(made, made.remove_member(peer, 3))
    with pytest.raises(Forbidden, match="was removed"):
        made.cell_seen(CELL.id, "a", 4, PoolName("default"))
    applied(made, made.membership.enrolled(peer, "b2" * 32, How.TOKEN, 5))
    assert applied(made, made.cell_seen(CELL.id, "a", 6, PoolName("default"))).cell(CELL.id).pool == "default"


def test_a_cell_on_record_that_is_no_member_can_be_given_up_once_it_is_not_there() -> None:
    made = applied(book(), [InstancePut(INSTANCE)])
    peer = Peer(Role.CELL, CELL.id)
    with pytest.raises(Conflict, match="stop that server first"):
        made.remove_member(peer, 2)
    applied(made, made.cell_silent(CELL.id, Presence.LOST, 2))
    applied(made, [*made.remove_member(peer, 3), PeerDeclaredDead(str(peer))])
    permit(Verb.FORGET, INSTANCE, None, is_cell_removed=made.cell(CELL.id).presence is Presence.REMOVED)
    with pytest.raises(NotFound, match="no member"):
        made.remove_member(peer, 4)
    # Its key was never shut out: had it only been away, it is back with what it holds.
    applied(made, made.cell_seen(CELL.id, "a", 5, None))
    assert (made.cell(CELL.id).presence, made.tasks.dead) == (Presence.ONLINE, set())

    empty = applied(book(), made.cell_silent(CELL.id, Presence.LOST, 2))
    assert empty.remove_member(peer, 3) == [CellGone(CELL.id)]
    for stranger in (Peer(Role.CELL, "Cell_2"), Peer(Role.GATEWAY, CELL.id)):
        with pytest.raises(NotFound, match="no member"):
            empty.remove_member(stranger, 4)


def test_a_removed_cell_with_instances_is_shown_so_until_it_is_let_in_again_or_holds_nothing() -> None:
    made = applied(book(), [InstancePut(INSTANCE)])
    peer = Peer(Role.CELL, CELL.id)
    applied(made, made.membership.enrolled(peer, "a1" * 32, How.TOKEN, 1))
    applied(made, [*made.remove_member(peer, 3), PeerDeclaredDead(str(peer))])
    assert (made.cell(CELL.id).presence, made.cell(CELL.id).confirmed) == (Presence.REMOVED, False)
    assert made.cell_silent(CELL.id, Presence.LOST, 4) == []  # as its link is closed
    with pytest.raises(Forbidden, match="was removed"):
        made.cell_seen(CELL.id, "a", 5, None)
    with pytest.raises(Conflict, match="have them forgotten first"):
        made.remove_cell(PoolName("default"), CELL.id)

    back = Inventory.restore(made.snapshot())
    applied(back, back.membership.enrolled(peer, "b2" * 32, How.TOKEN, 6))
    applied(back, back.cell_seen(CELL.id, "a", 7, None))
    assert (back.cell(CELL.id).presence, back.tasks.dead) == (Presence.ONLINE, set())
    assert back.forgotten(INSTANCE.id) == [InstanceGone(INSTANCE.id)]

    assert made.forgotten(INSTANCE.id) == [InstanceGone(INSTANCE.id), CellGone(CELL.id)]
    other = replace(INSTANCE, id=InstanceId("other"), spec=replace(SPEC, name="other"))
    applied(made, [InstancePut(other)])
    assert made.forgotten(INSTANCE.id) == [InstanceGone(INSTANCE.id)]


def test_a_cell_speaks_for_itself_and_its_own_also_when_it_is_called_like_an_instance() -> None:
    made = applied(book(), [InstancePut(INSTANCE)])
    assert made.speaks_for(INSTANCE.cell, INSTANCE.cell)
    assert made.speaks_for(INSTANCE.cell, INSTANCE.id)
    assert not made.speaks_for(CellId("other"), INSTANCE.id)
    assert not made.speaks_for(CellId(INSTANCE.id), INSTANCE.id)
    assert not made.speaks_for(CellId("other"), INSTANCE.cell)


def test_repeating_a_state_is_an_error_that_says_so() -> None:
    made = book()
    with pytest.raises(Conflict, match="enabled already"):
        made.enable_cell(PoolName("default"), CELL.id, enabled=True)
    with pytest.raises(Conflict, match="like that already"):
        made.put_pool(Pool(PoolName("default")))


# ------------------------------------------------------------------ on disk


def test_a_snapshot_brings_back_the_same_book() -> None:
    made = book(InstancePut(INSTANCE), StatusPut(status(3)))
    applied(made, made.membership.enrolled(Peer(Role.CELL, CELL.id), "a1" * 32, How.LOCAL, 1))
    stored = {kind: codec.encode(nouns) for kind, nouns in made.snapshot().items()}
    read = {kind: codec.decode(stored[kind], list[noun]) for kind, noun in Inventory.kinds.items()}  # type: ignore[valid-type]
    again = Inventory.restore(read)
    assert {kind: codec.encode(nouns) for kind, nouns in again.snapshot().items()} == stored
    assert again.load(CELL.id) == made.load(CELL.id)
    with pytest.raises(Exists):
        again.check_spec(replace(SPEC, template=TEMPLATE.id))


def test_each_change_is_read_back_from_the_journal_as_it_was_written() -> None:
    changes: list[Change] = [
        PoolPut(Pool(PoolName("p"))),
        CellPut(CELL),
        TemplatePut(TEMPLATE),
        InstancePut(Instance(InstanceId("i"), SPEC, CELL.id, 1, "00:16:3e:00:00:02", 5)),
        InstanceGone(InstanceId("i")),
        StatusPut(status(3)),
        *Inventory().membership.enrolled(Peer(Role.CELL, CELL.id), "a1" * 32, How.LOCAL, 1),
    ]
    written = codec.encode(changes)
    assert codec.decode(written, list[Inventory.changes]) == changes
    assert msgspec.json.decode(written)[0]["type"] == "pool_put"


class InventoryOfOne(Inventory):
    """As a zone was kept before it had members."""

    schema: ClassVar[int] = 1
    kinds: ClassVar[Mapping[str, Any]] = {
        kind: noun for kind, noun in Inventory.kinds.items() if kind not in Membership.kinds
    }

    def snapshot(self) -> Mapping[str, Sequence[Any]]:
        return {kind: nouns for kind, nouns in super().snapshot().items() if kind in self.kinds}

    @classmethod
    def restore(cls, snapshot: Mapping[str, Sequence[Any]]) -> Self:
        return super().restore({kind: snapshot.get(kind, []) for kind in Inventory.kinds})


async def test_a_book_of_schema_1_is_read_and_its_cells_become_members_when_they_enrol() -> None:
    disk = SimDisk()
    async with Shelf.open(FOLDER, InventoryOfOne, disk=disk) as shelf:
        shelf.commit(PoolPut(Pool(PoolName("default"))), InstancePut(INSTANCE))
    async with Shelf.open(FOLDER, InventoryOfOne, disk=disk) as shelf:
        await shelf.durable(shelf.commit(CellPut(CELL)))
        disk = disk.after_kill(len(disk.trace))
    async with Shelf.open(FOLDER, Inventory, disk=disk) as shelf:
        upgraded = shelf.book
        assert (upgraded.cell(CELL.id), upgraded.instance(INSTANCE.id)) == (CELL, INSTANCE)
        assert not upgraded.membership.members
        shelf.commit(*upgraded.membership.enrolled(Peer(Role.CELL, CELL.id), "a1" * 32, How.LOCAL, 9))
    async with Shelf.open(FOLDER, Inventory, disk=disk) as shelf:
        assert list(shelf.book.membership.members) == [Peer(Role.CELL, CELL.id)]
