"""Who sees what: the owners of instances and images, as the gateway tells them. Pure.

An instance or image is seen, and may be acted on, by its owner, by members of its group when that group
shares things of this kind, and by operators (`directory.Who`). What a person does not see does not exist
for them.
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from services.portal.access import Menu
from services.portal.directory import Who

REMEMBERED = 20_000
"""Owners of what is gone, so that the task that removed it can still be shown to whom it concerns."""

Told: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Thing:
    """What has an owner."""

    kind: str
    """`instance`, `disk` or `media`."""
    user: str
    group: str
    name: str


def sees(who: Who, thing: Thing | None) -> bool:
    """Whether somebody sees a thing; what nobody knows only operators see."""
    if who.is_operator:
        return True
    if thing is None:
        return False
    shared = {
        "instance": who.shares.instances,
        "disk": who.shares.disk_images,
        "media": who.shares.media_images,
    }[thing.kind]
    return thing.user == who.user or (shared and thing.group == who.group)


class Owners:
    """Things by id, from events and from lists."""

    def __init__(self) -> None:
        self._things: dict[str, Thing] = {}
        self._gone: OrderedDict[str, Thing] = OrderedDict()

    def of(self, thing_id: str) -> Thing | None:
        return self._things.get(thing_id) or self._gone.get(thing_id)

    def is_here(self, thing_id: str) -> bool:
        return thing_id in self._things

    def learn(self, thing_id: str, thing: Thing) -> None:
        self._things[thing_id] = thing

    def start_over(self, things: Mapping[str, Thing]) -> None:
        """All that there is now."""
        for thing_id in [each for each in self._things if each not in things]:
            self._forget(thing_id)
        self._things.update(things)

    def apply(self, kind: str, thing_id: str, document: Told | None) -> None:
        """Takes an event in."""
        if kind not in {"instance", "image"}:
            return
        if document is None:
            self._forget(thing_id)
        else:
            self._things[thing_id] = thing_of(kind, document)

    def _forget(self, thing_id: str) -> None:
        thing = self._things.pop(thing_id, None)
        if thing is not None:
            self._gone[thing_id] = thing
            while len(self._gone) > REMEMBERED:
                self._gone.popitem(last=False)

    def shows(self, who: Who, kind: str, thing_id: str, document: Told | None) -> bool:
        """Whether an event is for somebody's eyes."""
        match kind:
            case "instance" | "status" | "image":
                return sees(who, self.of(thing_id))
            case "task":
                return self.shows_task(who, document)
            case "lease":
                return sees(who, self.of(thing_id.partition("/")[0]))
            case _:
                return bool(who.menu & _MENUS.get(kind, _NOBODYS))

    def shows_task(self, who: Who, task: Told | None) -> bool:
        """By its subject; by what the task itself remembers of that, once nobody else does."""
        if who.is_operator or task is None:
            return who.is_operator
        return sees(who, self.of(str(task.get("subject", ""))) or _task_thing(task))


def _task_thing(task: Told) -> Thing | None:
    """The instance that it was about; None where the task does not say whose that was."""
    if not task.get("owner"):
        return None
    return Thing("instance", task["owner"], task["group"], task["name"])


_MENUS: dict[str, frozenset[Menu]] = {
    "pool": frozenset({Menu.DASHBOARD, Menu.COMPUTE_POOL, Menu.INSTANCE}),
    "cell": frozenset({Menu.DASHBOARD, Menu.COMPUTE_POOL}),
    "template": frozenset({Menu.TEMPLATES, Menu.INSTANCE}),
    **dict.fromkeys(
        ("member", "applicant", "join_token", "removal", "authority"), frozenset({Menu.COMPUTE_POOL})
    ),
    "address_pool": frozenset({Menu.ADDRESS_POOL, Menu.COMPUTE_POOL}),
    "reread": frozenset(Menu),
}
"""Kinds that belong to the zone and not to a user."""
_NOBODYS: frozenset[Menu] = frozenset()
"""A kind that is on no row is nobody's."""


def thing_of(kind: str, document: Told) -> Thing:
    """The owner in an event's document: an instance's is in its spec, an image's beside its kind."""
    if kind == "instance":
        spec = document["spec"]
        return Thing("instance", spec["owner"], spec["group"], f"{spec['group']}.{spec['name']}")
    return image_thing(document["kind"], document)


def guest_thing(guest: Told) -> Thing:
    """The owner in a documented answer; its name is the full one."""
    return Thing("instance", guest["owner"], guest["group"], guest["name"])


def image_thing(kind: str, image: Told) -> Thing:
    """The owner of a `disk` or `media` image, as events and lists tell it."""
    return Thing(kind, image["owner"], image["group"], image["name"])
