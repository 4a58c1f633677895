"""Who may come in: users, their group, its roles, their menus; and what a group shares. The portal's book.

    user (nick, mail, secret) -> at most one group (label, shared kinds) -> roles -> menus

Plain and synchronous: a method decides and returns what changes, the shelf commits it, `apply` makes it so.
No change may leave the zone without anybody who can change it back (REST document, section 9.4, has no such
care).
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self, TypeAlias, TypeVar

import msgspec

from nano.model.errors import Conflict, Exists, Forbidden, Invalid, NotFound
from services.portal.access import MENUS, Menu

T = TypeVar("T")

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_TEXT = re.compile(r"[^\x00-\x1f\x7f]{0,128}")


@dataclass(frozen=True, slots=True)
class Shares:
    """What members of a group see and use of each other's (REST document, `/resource_visibilities/`)."""

    instances: bool = False
    disk_images: bool = False
    media_images: bool = False


@dataclass(frozen=True, slots=True)
class Role:
    name: str
    menu: tuple[Menu, ...] = ()


@dataclass(frozen=True, slots=True)
class Group:
    name: str
    display: str = ""
    roles: tuple[str, ...] = ()
    shares: Shares = Shares()


@dataclass(frozen=True, slots=True)
class User:
    name: str
    secret: str = field(repr=False)
    """As `passwords.py` makes it; the password itself is nowhere."""
    nick: str = ""
    mail: str = ""
    group: str = ""
    """Empty: none, and then they cannot log in."""


@dataclass(frozen=True, slots=True)
class Who:
    """A user at the moment of a request: what they may and what they see."""

    user: str
    group: str
    menu: frozenset[Menu]
    shares: Shares

    @property
    def is_operator(self) -> bool:
        """Whoever runs the servers sees what runs on them, whoever owns it."""
        return Menu.COMPUTE_POOL in self.menu


class UserPut(msgspec.Struct, frozen=True, tag="user_put"):
    user: User


class UserGone(msgspec.Struct, frozen=True, tag="user_gone"):
    name: str


class GroupPut(msgspec.Struct, frozen=True, tag="group_put"):
    group: Group


class GroupGone(msgspec.Struct, frozen=True, tag="group_gone"):
    name: str


class RolePut(msgspec.Struct, frozen=True, tag="role_put"):
    role: Role


class RoleGone(msgspec.Struct, frozen=True, tag="role_gone"):
    name: str


DirectoryChange: TypeAlias = UserPut | UserGone | GroupPut | GroupGone | RolePut | RoleGone
Changes: TypeAlias = tuple[DirectoryChange, ...]


class Directory:
    """Users, groups and roles by name."""

    changes: ClassVar[Any] = DirectoryChange
    kinds: ClassVar[Mapping[str, Any]] = {"users": User, "groups": Group, "roles": Role}
    schema: ClassVar[int] = 1

    def __init__(self) -> None:
        self.users: dict[str, User] = {}
        self.groups: dict[str, Group] = {}
        self.roles: dict[str, Role] = {}

    # -- reading -----------------------------------------------------------------------------------

    @property
    def is_ready(self) -> bool:
        """Somebody can log in."""
        return bool(self.users)

    def who(self, user: str) -> Who | None:
        """What a user may and sees now; None when they are gone or in no group."""
        found = self.users.get(user)
        group = self.groups.get(found.group) if found is not None else None
        if group is None:
            return None
        menu = frozenset(menu for role in group.roles for menu in self.roles[role].menu)
        return Who(user, group.name, menu, group.shares)

    def user(self, name: str) -> User:
        return _found(self.users, name, "user")

    def group(self, name: str) -> Group:
        return _found(self.groups, name, "group")

    def role(self, name: str) -> Role:
        return _found(self.roles, name, "role")

    def members(self, group: str) -> list[str]:
        """Of a group, or of none where it is empty; by name."""
        return sorted(user.name for user in self.users.values() if user.group == group)

    # -- first start -------------------------------------------------------------------------------

    def initial(self, user: User, group: Group, role: Role) -> Changes:
        """The first user with a group and a role; `Conflict` when there is a user already."""
        if self.is_ready:
            raise Conflict("this portal has been set up already: log in")
        for name, kind in ((user.name, "user"), (group.name, "group"), (role.name, "role")):
            _checked_name(kind, name)
        if Menu.USER not in role.menu:
            raise Invalid("menu", "the first role needs the menu user: else nobody could ever add anybody")
        _checked_text("display", group.display)
        made = replace(group, roles=(role.name,))
        return (RolePut(role), GroupPut(made), UserPut(replace(user, group=group.name)))

    # -- users -------------------------------------------------------------------------------------

    def create_user(self, user: User) -> Changes:
        """A user without a group, who cannot log in before they are put into one."""
        _checked_name("user", user.name)
        if user.name in self.users:
            raise Exists(f"there is a user {user.name} already", field="user", subject=user.name)
        _checked_user(user)
        return (UserPut(replace(user, group="")),)

    def modify_user(self, name: str, *, nick: str = "", mail: str = "") -> Changes:
        """What is empty stays as it is, as documented."""
        before = self.user(name)
        after = replace(before, nick=nick or before.nick, mail=mail or before.mail)
        _checked_user(after)
        return (UserPut(after),)

    def change_secret(self, name: str, secret: str) -> Changes:
        return (UserPut(replace(self.user(name), secret=secret)),)

    def delete_user(self, name: str) -> Changes:
        user = self.user(name)
        self._keeps_a_way_in(users=[one for one in self.users.values() if one is not user])
        return (UserGone(name),)

    # -- groups ------------------------------------------------------------------------------------

    def create_group(self, group: Group) -> Changes:
        _checked_name("group", group.name)
        if group.name in self.groups:
            raise Exists(f"there is a group {group.name} already", field="group", subject=group.name)
        self._check_group(group)
        return (GroupPut(group),)

    def modify_group(self, name: str, *, display: str, roles: Sequence[str]) -> Changes:
        """Label and roles are replaced whole; what the group shares stays."""
        after = replace(self.group(name), display=display, roles=tuple(dict.fromkeys(roles)))
        self._check_group(after)
        self._keeps_a_way_in(groups=self.groups | {name: after})
        return (GroupPut(after),)

    def share(self, name: str, shares: Shares) -> Changes:
        return (GroupPut(replace(self.group(name), shares=shares)),)

    def delete_group(self, name: str) -> Changes:
        """`Conflict` while somebody is in it."""
        members = self.members(self.group(name).name)
        if members:
            raise Conflict(
                f"group {name} has {len(members)} members, {members[0]} among them: take them out first",
                field="group",
                subject=name,
            )
        return (GroupGone(name),)

    def add_member(self, group: str, user: str) -> Changes:
        """Of a user who is in no group yet."""
        found = self.user(user)
        self.group(group)
        if found.group:
            raise Conflict(
                f"user {user} is in group {found.group}: take them out there first",
                field="user",
                subject=user,
            )
        return (UserPut(replace(found, group=group)),)

    def remove_member(self, group: str, user: str) -> Changes:
        found = self.user(user)
        self.group(group)
        if found.group != group:
            raise NotFound(f"user {user} is not in group {group}", field="user", subject=user)
        after = replace(found, group="")
        self._keeps_a_way_in(users=[after if one is found else one for one in self.users.values()])
        return (UserPut(after),)

    # -- roles -------------------------------------------------------------------------------------

    def create_role(self, role: Role) -> Changes:
        _checked_name("role", role.name)
        if role.name in self.roles:
            raise Exists(f"there is a role {role.name} already", field="role", subject=role.name)
        return (RolePut(role),)

    def modify_role(self, role: Role) -> Changes:
        self.role(role.name)
        self._keeps_a_way_in(roles=self.roles | {role.name: role})
        return (RolePut(role),)

    def delete_role(self, name: str) -> Changes:
        """`Conflict` while a group has it."""
        self.role(name)
        holder = next((group.name for group in self.groups.values() if name in group.roles), None)
        if holder is not None:
            raise Conflict(
                f"role {name} is used by group {holder}: take it from the group first",
                field="role",
                subject=name,
            )
        return (RoleGone(name),)

    # -- what no change may break ------------------------------------------------------------------

    def _check_group(self, group: Group) -> None:
        _checked_text("display", group.display)
        for index, role in enumerate(group.roles):
            if role not in self.roles:
                raise NotFound(f"there is no role {role!r:.80}", field=f"role[{index}]", subject=role)

    def _keeps_a_way_in(
        self,
        *,
        users: Iterable[User] | None = None,
        groups: Mapping[str, Group] | None = None,
        roles: Mapping[str, Role] | None = None,
    ) -> None:
        groups = self.groups if groups is None else groups
        roles = self.roles if roles is None else roles
        for user in self.users.values() if users is None else users:
            group = groups.get(user.group)
            if group is not None and any(Menu.USER in roles[role].menu for role in group.roles):
                return
        raise Forbidden("nobody could manage users any more: give the menu user to somebody else first")

    # -- the shelf's side --------------------------------------------------------------------------

    def apply(self, change: DirectoryChange, /) -> None:
        match change:
            case UserPut(user):
                self.users[user.name] = user
            case UserGone(name):
                del self.users[name]
            case GroupPut(group):
                self.groups[group.name] = group
            case GroupGone(name):
                del self.groups[name]
            case RolePut(role):
                self.roles[role.name] = role
            case RoleGone(name):
                del self.roles[name]

    def snapshot(self) -> Mapping[str, Sequence[Any]]:
        return {
            "users": tuple(self.users.values()),
            "groups": tuple(self.groups.values()),
            "roles": tuple(self.roles.values()),
        }

    @classmethod
    def restore(cls, snapshot: Mapping[str, Sequence[Any]], /) -> Self:
        book = cls()
        book.users = {user.name: user for user in snapshot["users"]}
        book.groups = {group.name: group for group in snapshot["groups"]}
        book.roles = {role.name: role for role in snapshot["roles"]}
        return book


def menus_of(names: Iterable[str], field: str = "menu") -> tuple[Menu, ...]:
    """Menus in their documented order, each once; Invalid names one that is unknown."""
    known = set()
    for index, name in enumerate(names):
        try:
            known.add(Menu(name))
        except ValueError:
            raise Invalid(
                f"{field}[{index}]", f"menu {name!r:.40} is unknown: give some of {', '.join(MENUS)}"
            ) from None
    return tuple(menu for menu in MENUS if menu in known)


def _found(table: Mapping[str, T], name: str, kind: str) -> T:
    if name not in table:
        raise NotFound(f"there is no {kind} {name!r:.80}", field=kind, subject=name)
    return table[name]


def _checked_name(field: str, name: str) -> None:
    if _NAME.fullmatch(name) is None:
        raise Invalid(field, f"{field} {name!r:.80} is not allowed: give 1 to 64 of A-Z a-z 0-9 - _ .")


def _checked_text(field: str, text: str) -> None:
    if _TEXT.fullmatch(text) is None:
        raise Invalid(field, f"{field} {text!r:.80} is not one line of up to 128 characters")


def _checked_user(user: User) -> None:
    _checked_text("nick", user.nick)
    _checked_text("mail", user.mail)
