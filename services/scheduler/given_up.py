"""What was given up together with its cell, and may run there all the same: a part of the scheduler's book.

To remove a cell ends no machine. What is forgotten, deleted or taken back after that leaves no record, its
address is free or another's, and the server may come back with it. So its name is kept here until that cell
says that it does not hold it any more; whatever is on meanwhile is to be switched off. That it is off now is
not enough: a server that was off starts by itself what it ran before.

The inventory embeds it as `given_up`, and gives its snapshot along. Pure, and small: each is a deed of a
person.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypeAlias

import msgspec

from nano.model.ids import CellId, InstanceId
from nano.model.instance import InstanceStatus, Power
from nano.model.pool import Cell, Presence
from nano.saga.record import NOBODYS, About

PAUSE_MS = 60_000
"""Before what is still on, or on again, is switched off once more; it doubles each time, so that a cell which
says so for ever does not fill the history of tasks."""
PAUSE_LIMIT_MS = 24 * 3_600_000
_DOUBLINGS = 16
_NOWHERE = CellId("")


class GivenUp(msgspec.Struct, frozen=True, omit_defaults=True):
    """One instance."""

    instance: InstanceId
    cell: CellId
    """Which had it when it was given up: only that one's word takes it off this list."""
    about: About = NOBODYS
    may_come: bool = False
    """That cell was making it, and may be at it still: that it does not name it yet means nothing."""
    at: CellId = _NOWHERE
    """The cell that said last that it is on there; empty when it is off, as far as is known."""
    epoch: int = 0
    """As that cell says."""
    tries: int = 0
    """How often it was switched off, or was to be."""
    next_ms: int = 0
    """Not again before."""


class GivenUpPut(msgspec.Struct, frozen=True, tag="given_up_put"):
    one: GivenUp


class GivenUpGone(msgspec.Struct, frozen=True, tag="given_up_gone"):
    """Its cell does not hold it any more."""

    instance: InstanceId


GivenUpChange: TypeAlias = GivenUpPut | GivenUpGone


class GivenUps:
    """All of them."""

    kinds: ClassVar[Mapping[str, Any]] = {"given_up": GivenUp}

    def __init__(self) -> None:
        self.known: dict[InstanceId, GivenUp] = {}

    # -------------------------------------------------------------- what cells say

    def account(self, cell: CellId, statuses: Mapping[InstanceId, InstanceStatus]) -> list[GivenUpChange]:
        """All that the cell holds."""
        changes: list[GivenUpChange] = []
        for one in self.known.values():
            status = statuses.get(one.instance)
            changes += _missed(one, cell) if status is None else _heard(one, cell, status)
        return changes

    def reported(self, cell: CellId, status: InstanceStatus) -> list[GivenUpChange]:
        one = self.known.get(status.instance)
        return [] if one is None else _heard(one, cell, status)

    def gone(self, cell: CellId, instance: InstanceId) -> list[GivenUpChange]:
        """The cell has just given it away, or thrown it away."""
        one = self.known.get(instance)
        return [] if one is None else _missed(msgspec.structs.replace(one, may_come=False), cell)

    # -------------------------------------------------------------- what is to be done

    def due(self, cells: Mapping[CellId, Cell], now_ms: int) -> list[GivenUp]:
        """Those that are on, on a cell that is there and has given its account, and not tried just now."""
        return [one for one in self.known.values() if one.next_ms <= now_ms and _is_there(cells.get(one.at))]

    def tried(self, instance: InstanceId, now_ms: int) -> list[GivenUpChange]:
        """It is being switched off now; the next time only after a pause."""
        one = self.known.get(instance)
        if one is None:
            return []
        pause_ms = min(PAUSE_LIMIT_MS, PAUSE_MS << min(one.tries, _DOUBLINGS))
        return [GivenUpPut(msgspec.structs.replace(one, tries=one.tries + 1, next_ms=now_ms + pause_ms))]

    # -------------------------------------------------------------- one way in

    def apply(self, change: GivenUpChange) -> None:
        match change:
            case GivenUpPut(one):
                self.known[one.instance] = one
            case GivenUpGone(instance):
                self.known.pop(instance, None)

    def snapshot(self) -> dict[str, Sequence[Any]]:
        return {"given_up": list(self.known.values())}

    @classmethod
    def restore(cls, snapshot: Mapping[str, Sequence[Any]]) -> "GivenUps":
        book = cls()
        book.known = {one.instance: one for one in snapshot["given_up"]}
        return book


def _heard(one: GivenUp, cell: CellId, status: InstanceStatus) -> list[GivenUpChange]:
    after = one if one.cell != cell else msgspec.structs.replace(one, may_come=False)
    if status.power is not Power.STOPPED:
        after = msgspec.structs.replace(after, at=cell, epoch=status.epoch)
    elif one.at == cell:
        after = msgspec.structs.replace(after, at=_NOWHERE)
    return [] if after == one else [GivenUpPut(after)]


def _missed(one: GivenUp, cell: CellId) -> list[GivenUpChange]:
    if one.cell == cell and one.at in {cell, _NOWHERE} and not one.may_come:
        return [GivenUpGone(one.instance)]
    return [GivenUpPut(msgspec.structs.replace(one, at=_NOWHERE))] if one.at == cell else []


def _is_there(cell: Cell | None) -> bool:
    return cell is not None and cell.presence is Presence.ONLINE and cell.confirmed
