"""What may be done with an instance, and when: one table, tested row by row."""

from enum import StrEnum

from nano.model.errors import Conflict
from nano.model.instance import Instance, InstanceStatus, Power


class Verb(StrEnum):
    START = "start"
    STOP = "stop"
    FORCE = "force"
    REBOOT = "reboot"
    RESET = "reset"
    DELETE = "delete"
    FORGET = "forget"
    """Off the record, without a word to its cell."""


ALLOWED: dict[Power, frozenset[Verb]] = {
    Power.STOPPED: frozenset({Verb.START, Verb.DELETE}),
    Power.RUNNING: frozenset({Verb.STOP, Verb.FORCE, Verb.REBOOT, Verb.RESET}),
    # a paused guest hears nothing: it can only be started again or switched off
    Power.PAUSED: frozenset({Verb.START, Verb.FORCE, Verb.RESET}),
}
"""By what the cell last said (REST document, section 7, Allowed states). Forgetting goes by the cell."""

_NEXT = {
    Verb.START: "it runs already",
    Verb.STOP: "start it first",
    Verb.FORCE: "start it first",
    Verb.REBOOT: "start it first",
    Verb.RESET: "start it first",
    Verb.DELETE: "stop it first",
}


def permit(
    verb: Verb, instance: Instance, status: InstanceStatus | None, *, is_cell_removed: bool = False
) -> None:
    """Conflict when the verb does not fit the instance as it is now; the message says what to do.

    `is_cell_removed`: the zone has shut its cell out, so that nobody is there who could do anything.
    """
    name = f"instance {instance.spec.full_name} ({instance.id})"
    if instance.deleting:
        raise Conflict(f"{name} is being deleted", subject=instance.id)
    if not instance.created:
        raise Conflict(f"{name} is not ready: its creation is under way", subject=instance.id)
    if is_cell_removed or verb is Verb.FORGET:
        _permit_forgetting(verb, instance, name, is_cell_removed=is_cell_removed)
        return
    power = Power.STOPPED if status is None else status.power
    if verb not in ALLOWED[power]:
        advice = "force it off, or start it again" if power is Power.PAUSED else _NEXT[verb]
        raise Conflict(f"cannot {verb} {name}: it is {power}; {advice}", subject=instance.id)


def _permit_forgetting(verb: Verb, instance: Instance, name: str, *, is_cell_removed: bool) -> None:
    if not is_cell_removed:
        raise Conflict(
            f"cannot forget {name}: its cell {instance.cell} is in the zone, and would go on holding it; "
            "delete the instance, or, if that server is gone for good, run first: nanoctl cell remove "
            f"{instance.cell}",
            subject=instance.id,
        )
    if verb is not Verb.FORGET:
        raise Conflict(
            f"cannot {verb} {name}: its cell {instance.cell} was removed from the zone; have that server "
            f"join again, or, if it is gone for good, run: nanoctl instance forget {instance.id}",
            subject=instance.id,
        )
