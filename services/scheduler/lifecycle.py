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


ALLOWED: dict[Power, frozenset[Verb]] = {
    Power.STOPPED: frozenset({Verb.START, Verb.DELETE}),
    Power.RUNNING: frozenset({Verb.STOP, Verb.FORCE, Verb.REBOOT, Verb.RESET}),
    # a paused guest hears nothing: it can only be started again or switched off
    Power.PAUSED: frozenset({Verb.START, Verb.FORCE, Verb.RESET}),
}
"""By what the cell last said (REST document, section 7, Allowed states)."""

_NEXT = {
    Verb.START: "it runs already",
    Verb.STOP: "start it first",
    Verb.FORCE: "start it first",
    Verb.REBOOT: "start it first",
    Verb.RESET: "start it first",
    Verb.DELETE: "stop it first",
}


def permit(verb: Verb, instance: Instance, status: InstanceStatus | None) -> None:
    """Conflict when the verb does not fit the instance as it is now; the message says what to do."""
    name = f"instance {instance.spec.full_name} ({instance.id})"
    if instance.deleting:
        raise Conflict(f"{name} is being deleted", subject=instance.id)
    if not instance.created:
        raise Conflict(f"{name} is not ready: its creation is under way", subject=instance.id)
    power = Power.STOPPED if status is None else status.power
    if verb not in ALLOWED[power]:
        advice = "force it off, or start it again" if power is Power.PAUSED else _NEXT[verb]
        raise Conflict(f"cannot {verb} {name}: it is {power}; {advice}", subject=instance.id)
