"""Who sees what: every pairing of a person and a thing."""

from typing import Any

import pytest

from services.portal.access import Menu
from services.portal.directory import Shares, Who
from services.portal.visible import Owners, Thing, sees, thing_of

ALL = Shares(instances=True, disk_images=True, media_images=True)


def person(user: str, group: str, *menu: Menu, shares: Shares = Shares()) -> Who:  # noqa: B008 - frozen
    return Who(user, group, frozenset(menu), shares)


ANN = person("ann", "red", Menu.INSTANCE)
ANNS = {kind: Thing(kind, "ann", "red", "x") for kind in ("instance", "disk", "media")}


@pytest.mark.parametrize("kind", ANNS)
def test_a_thing_is_seen_by_its_owner_its_sharing_group_and_operators(kind: str) -> None:
    thing = ANNS[kind]
    assert sees(ANN, thing)
    assert sees(person("op", "blue", Menu.COMPUTE_POOL), thing)
    assert sees(person("amy", "red", Menu.INSTANCE, shares=ALL), thing)
    assert not sees(person("amy", "red", Menu.INSTANCE), thing)
    assert not sees(person("bob", "blue", Menu.INSTANCE, shares=ALL), thing)


def test_each_kind_is_shared_by_its_own_switch() -> None:
    shares = {
        "instance": Shares(instances=True),
        "disk": Shares(disk_images=True),
        "media": Shares(media_images=True),
    }
    for switch, shared in shares.items():
        amy = person("amy", "red", shares=shared)
        assert {kind for kind, thing in ANNS.items() if sees(amy, thing)} == {switch}


def test_what_nobody_knows_only_operators_see() -> None:
    assert not sees(ANN, None)
    assert sees(person("op", "blue", Menu.COMPUTE_POOL), None)


def instance(user: str, group: str) -> dict[str, Any]:
    return {"id": "vm", "spec": {"owner": user, "group": group, "name": "web"}}


def test_events_are_for_those_who_see_what_they_are_about() -> None:
    owners = Owners()
    owners.apply("instance", "vm", instance("ann", "red"))
    bob = person("bob", "blue", Menu.INSTANCE)
    for kind, key, document in (
        ("instance", "vm", instance("ann", "red")),
        ("status", "vm", {"power": "running"}),
        ("task", "t1", {"subject": "vm"}),
        ("lease", "vm/0", {"address": "10.0.0.1"}),
    ):
        assert owners.shows(ANN, kind, key, document), kind
        assert not owners.shows(bob, kind, key, document), kind


def test_kinds_of_the_zone_are_for_those_with_a_menu_for_them() -> None:
    owners = Owners()
    assert owners.shows(ANN, "pool", "default", {})
    assert not owners.shows(ANN, "cell", "Cell_1", {})
    assert owners.shows(person("d", "g", Menu.DASHBOARD), "cell", "Cell_1", {})
    assert not owners.shows(person("d", "g", Menu.DASHBOARD), "address_pool", "a", {})
    assert not owners.shows(person("op", "g", *Menu), "something new", "x", {})
    assert owners.shows(ANN, "reread", "scheduler", None)


@pytest.mark.parametrize("kind", ["member", "applicant", "join_token", "removal", "authority"])
def test_who_is_let_in_and_shut_out_is_for_operators(kind: str) -> None:
    owners = Owners()
    assert owners.shows(person("op", "g", Menu.COMPUTE_POOL), kind, "x", {})
    assert not owners.shows(person("d", "g", *(set(Menu) - {Menu.COMPUTE_POOL})), kind, "x", {})


def test_the_end_of_a_thing_is_told_to_those_who_saw_it() -> None:
    owners = Owners()
    owners.apply("instance", "vm", instance("ann", "red"))
    owners.apply("instance", "vm", None)
    assert not owners.is_here("vm")
    assert owners.shows(ANN, "instance", "vm", None)
    assert owners.shows(ANN, "task", "t", {"subject": "vm"})
    assert not owners.shows(person("bob", "blue"), "instance", "vm", None)


def test_a_new_owner_counts_at_once() -> None:
    owners = Owners()
    owners.apply("instance", "vm", instance("bob", "blue"))
    owners.apply("instance", "vm", instance("ann", "red"))
    assert owners.shows(ANN, "status", "vm", {})
    owners.start_over({"other": Thing("instance", "ann", "red", "red.o")})
    assert (owners.is_here("vm"), owners.is_here("other")) == (False, True)


def test_an_image_says_its_owner_itself() -> None:
    document = {"kind": "disk", "owner": "ann", "group": "red", "name": "base"}
    assert thing_of("image", document) == Thing("disk", "ann", "red", "base")


def test_a_task_of_what_is_gone_and_forgotten_is_for_whom_it_says_itself() -> None:
    owners = Owners()  # as after a restart: it never heard of the instance
    task = {"subject": "vm", "name": "red.web", "owner": "ann", "group": "red"}
    amy, sharing = person("amy", "red", Menu.INSTANCE), Shares(instances=True)
    assert owners.shows(ANN, "task", "t1", task)
    assert owners.shows(person("amy", "red", shares=sharing), "task", "t1", task)
    assert not owners.shows(amy, "task", "t1", task)
    assert not owners.shows(person("bob", "blue", shares=sharing), "task", "t1", task)
    assert not owners.shows(ANN, "task", "t1", {**task, "owner": "", "group": ""})
    owners.apply("instance", "vm", instance("bob", "blue"))  # who knows the instance is right
    assert not owners.shows(ANN, "task", "t1", task)
