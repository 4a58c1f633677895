"""Who may come in: the rules of users, groups and roles, and that nobody can lock everybody out."""

from collections.abc import Callable
from typing import Any

import pytest

from nano import codec
from nano.model.errors import Conflict, Exists, Forbidden, Invalid, NotFound
from services.portal.access import MENUS, Menu
from services.portal.directory import Changes, Directory, Group, Role, Shares, User, menus_of


def done(book: Directory, changes: Changes) -> Directory:
    for change in changes:
        book.apply(change)
    return book


@pytest.fixture
def book() -> Directory:
    """Ann is the first user; bob is in a group without any menu."""
    made = Directory()
    done(made, made.initial(User("ann", "s1"), Group("admin", "Admins"), Role("super", MENUS)))
    done(made, made.create_role(Role("none")))
    done(made, made.create_group(Group("guests", roles=("none",))))
    done(made, made.create_user(User("bob", "s2")))
    return done(made, made.add_member("guests", "bob"))


def test_the_first_start_makes_one_who_may_everything(book: Directory) -> None:
    who = book.who("ann")
    assert who is not None
    assert (who.group, who.menu, who.is_operator) == ("admin", frozenset(Menu), True)


def test_there_is_one_first_start(book: Directory) -> None:
    with pytest.raises(Conflict):
        book.initial(User("eve", "s"), Group("g"), Role("r", MENUS))


@pytest.mark.parametrize(
    ("user", "group", "role", "field"),
    [
        ("a b", "g", "r", "user"),
        ("", "g", "r", "user"),
        ("a", "g/h", "r", "group"),
        ("a", "g", "ü", "role"),
        ("a" * 65, "g", "r", "user"),
    ],
)
def test_a_name_that_is_none_is_refused_by_its_member(user: str, group: str, role: str, field: str) -> None:
    with pytest.raises(Invalid) as refused:
        Directory().initial(User(user, "s"), Group(group), Role(role, MENUS))
    assert refused.value.field == field


def test_the_first_role_must_be_able_to_add_others() -> None:
    with pytest.raises(Invalid) as refused:
        Directory().initial(User("a", "s"), Group("g"), Role("r", (Menu.LOG,)))
    assert refused.value.field == "menu"


def test_a_user_without_a_group_is_nobody(book: Directory) -> None:
    done(book, book.create_user(User("eve", "s", group="admin")))
    assert book.users["eve"].group == ""
    assert book.who("eve") is None
    assert book.who("nobody") is None


def test_menus_are_the_union_of_the_roles_and_change_with_them(book: Directory) -> None:
    done(book, book.create_role(Role("logs", (Menu.LOG,))))
    done(book, book.modify_group("guests", display="Guests", roles=["none", "logs", "logs"]))
    assert book.groups["guests"].roles == ("none", "logs")
    assert book.who("bob").menu == {Menu.LOG}  # type: ignore[union-attr]
    done(book, book.modify_role(Role("logs", (Menu.LOG, Menu.IMAGE))))
    assert book.who("bob").menu == {Menu.LOG, Menu.IMAGE}  # type: ignore[union-attr]


def test_what_a_group_shares_survives_an_edit_of_the_group(book: Directory) -> None:
    done(book, book.share("guests", Shares(instances=True)))
    done(book, book.modify_group("guests", display="x", roles=["none"]))
    assert book.groups["guests"].shares == Shares(instances=True)


def test_names_are_taken_once(book: Directory) -> None:
    with pytest.raises(Exists):
        book.create_user(User("bob", "s"))
    with pytest.raises(Exists):
        book.create_group(Group("guests"))
    with pytest.raises(Exists):
        book.create_role(Role("none"))


def test_what_is_used_is_not_deleted(book: Directory) -> None:
    with pytest.raises(Conflict, match="guests"):
        book.delete_role("none")
    with pytest.raises(Conflict, match="bob"):
        book.delete_group("guests")


def test_a_group_wants_roles_that_exist(book: Directory) -> None:
    with pytest.raises(NotFound) as missing:
        book.modify_group("guests", display="", roles=["none", "nope"])
    assert missing.value.field == "role[1]"


def test_a_user_is_in_one_group(book: Directory) -> None:
    with pytest.raises(Conflict, match="guests"):
        book.add_member("admin", "bob")
    with pytest.raises(NotFound):
        book.remove_member("admin", "bob")


@pytest.mark.parametrize(
    "change",
    [
        lambda book: book.delete_user("ann"),
        lambda book: book.remove_member("admin", "ann"),
        lambda book: book.modify_role(Role("super", (Menu.LOG,))),
        lambda book: book.modify_group("admin", display="", roles=["none"]),
    ],
)
def test_nobody_locks_everybody_out(book: Directory, change: Callable[[Directory], Changes]) -> None:
    with pytest.raises(Forbidden):
        change(book)
    done(book, book.create_role(Role("second", MENUS)))
    done(book, book.modify_group("guests", display="", roles=["second"]))
    done(book, change(book))
    assert Menu.USER in book.who("bob").menu  # type: ignore[union-attr]


def test_an_edit_keeps_what_is_left_empty(book: Directory) -> None:
    done(book, book.modify_user("bob", nick="Bobby", mail="b@example.org"))
    done(book, book.modify_user("bob", nick="Rob"))
    assert (book.users["bob"].nick, book.users["bob"].mail) == ("Rob", "b@example.org")
    with pytest.raises(Invalid) as refused:
        book.modify_user("bob", nick="two\nlines")
    assert refused.value.field == "nick"


def test_menus_are_named_as_documented() -> None:
    assert menus_of(["log", "dashboard", "log"]) == (Menu.DASHBOARD, Menu.LOG)
    with pytest.raises(Invalid) as refused:
        menus_of(["log", "root"])
    assert refused.value.field == "menu[1]"


def test_a_restored_book_is_the_same(book: Directory) -> None:
    stored = {kind: codec.encode(list(nouns)) for kind, nouns in book.snapshot().items()}
    kinds: dict[str, Any] = {"users": list[User], "groups": list[Group], "roles": list[Role]}
    read = {kind: codec.decode(stored[kind], kinds[kind]) for kind in stored}
    again = Directory.restore(read)
    assert again.snapshot() == book.snapshot()
    assert again.who("bob") == book.who("bob")


def test_a_secret_is_not_printed(book: Directory) -> None:
    assert "s1" not in repr(book.users["ann"])
