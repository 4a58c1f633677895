"""What is so with the instances of this host, each status numbered: the observed part of the cell's book.

Numbers grow through the life of the book, so that nobody believes an outcome that was kept for days before a
newer report. Pure.
"""

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any, ClassVar, TypeAlias

import msgspec

from nano.model.ids import InstanceId
from nano.model.instance import InstanceStatus, Power
from services.cell.hypervisor import Domain

DEFINITION_MISSING = "its definition is missing on this host; starting it makes it anew"
HOST_RESTARTED = "its host was restarted"


class StatusPut(msgspec.Struct, frozen=True, tag="status_put"):
    """The instance was seen like this."""

    status: InstanceStatus


class StatusGone(msgspec.Struct, frozen=True, tag="status_gone"):
    """It is on this host no more."""

    instance: InstanceId


StatusChange: TypeAlias = StatusPut | StatusGone


class Statuses:
    """The newest status of each instance. Methods decide what changes; nothing changes that is no news."""

    kinds: ClassVar[Mapping[str, Any]] = {"statuses": InstanceStatus, "status_numbers": int}

    def __init__(self, statuses: Sequence[InstanceStatus] = (), number: int = 0) -> None:
        self._number = number
        self._newest = {status.instance: status for status in statuses}

    def __iter__(self) -> Iterator[InstanceStatus]:
        return iter(self._newest.values())

    def of(self, instance: InstanceId) -> InstanceStatus | None:
        return self._newest.get(instance)

    def apply(self, change: StatusChange) -> None:
        match change:
            case StatusPut(status):
                self._newest[status.instance] = status
                self._number = max(self._number, status.number)
            case StatusGone(instance):
                self._newest.pop(instance, None)

    def snapshot(self) -> dict[str, Sequence[Any]]:
        return {"statuses": list(self._newest.values()), "status_numbers": [self._number]}

    @classmethod
    def restore(cls, snapshot: Mapping[str, Sequence[Any]]) -> "Statuses":
        numbers = snapshot["status_numbers"]
        return cls(snapshot["statuses"], numbers[0] if numbers else 0)

    def seen(
        self,
        instance: InstanceId,
        epoch: int,
        domain: Domain | None,
        *,
        now_ms: int,
        asked_off: bool,
        otherwise: str = "",
    ) -> list[StatusChange]:
        """The instance as the hypervisor shows it now.

        `asked_off`: that it is off surprises nobody. `otherwise` is the reason when the hypervisor has none.
        A reason stays as long as the machine is off: the hypervisor forgets it with its own restart.
        """
        known = self._newest.get(instance)
        power = domain.power if domain else Power.STOPPED
        said = domain.reason if domain else DEFINITION_MISSING
        if power is Power.STOPPED:
            before = known.reason if known and known.power is Power.STOPPED else ""
            reason = "" if asked_off else said or before or otherwise
        else:
            reason = said
        return self._news(
            InstanceStatus(
                instance,
                epoch,
                number=0,
                power=power,
                agent=domain.agent if domain else False,
                addresses=known.addresses if known and power is not Power.STOPPED else (),
                started_ms=_started_ms(known, power, now_ms),
                reason=reason,
            )
        )

    def addressed(self, instance: InstanceId, addresses: tuple[IPv4Address, ...]) -> list[StatusChange]:
        """What its guest has said; the machine may be off, or gone, by now."""
        known = self._newest.get(instance)
        if known is None or known.power is Power.STOPPED:
            return []
        return self._news(replace(known, addresses=addresses))

    def explained(self, instance: InstanceId, reason: str) -> list[StatusChange]:
        """Why it is off, as we know better than the hypervisor."""
        known = self._newest.get(instance)
        if known is None or known.power is not Power.STOPPED:
            return []
        return self._news(replace(known, reason=reason))

    def gone(self, instance: InstanceId) -> list[StatusChange]:
        return [StatusGone(instance)] if instance in self._newest else []

    def strangers(self, known: AbstractSet[InstanceId]) -> list[InstanceId]:
        """Those with a status that are not among `known`."""
        return [instance for instance in self._newest if instance not in known]

    def _news(self, status: InstanceStatus) -> list[StatusChange]:
        known = self._newest.get(status.instance)
        if known is not None and replace(known, number=0) == replace(status, number=0):
            return []
        return [StatusPut(replace(status, number=self._number + 1))]


def _started_ms(known: InstanceStatus | None, power: Power, now_ms: int) -> int:
    if power is Power.STOPPED:
        return 0
    return known.started_ms if known is not None and known.power is not Power.STOPPED else now_ms
