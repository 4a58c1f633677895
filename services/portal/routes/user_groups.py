"""`/user_groups/`: who belongs together, and with which roles (REST document, section 9.4)."""

import msgspec

from nano.web import envelope
from nano.web.envelope import Answer
from services.portal.access import Menu
from services.portal.call import Call, Route, menus
from services.portal.directory import Group
from services.portal.routes.users import committed


class GroupItem(msgspec.Struct):
    name: str
    display: str
    member: int
    """How many."""


class GroupView(msgspec.Struct, omit_defaults=True):
    name: str
    display: str
    role: list[str] = []
    member: list[str] = []


class GroupBody(msgspec.Struct, kw_only=True):
    """Replaces both, as documented: what is left out is cleared."""

    display: str = ""
    role: list[str] = []


async def query(call: Call[None]) -> Answer:
    directory = call.portal.directory
    return envelope.success(
        [
            GroupItem(group.name, group.display, len(directory.members(group.name)))
            for _, group in sorted(directory.groups.items())
        ]
    )


async def read(call: Call[None]) -> Answer:
    directory = call.portal.directory
    group = directory.group(call.params["group"])
    members = directory.members(group.name)
    return envelope.success(GroupView(group.name, group.display, sorted(group.roles), members))


async def create(call: Call[GroupBody]) -> Answer:
    body = call.body
    group = Group(call.params["group"], body.display, tuple(dict.fromkeys(body.role)))
    return await committed(call, call.portal.directory.create_group(group))


async def modify(call: Call[GroupBody]) -> Answer:
    body, directory = call.body, call.portal.directory
    changes = directory.modify_group(call.params["group"], display=body.display, roles=body.role)
    return await committed(call, changes)


async def delete(call: Call[None]) -> Answer:
    return await committed(call, call.portal.directory.delete_group(call.params["group"]))


async def members(call: Call[None]) -> Answer:
    directory = call.portal.directory
    return envelope.success(directory.members(directory.group(call.params["group"]).name))


async def add_member(call: Call[None]) -> Answer:
    changes = call.portal.directory.add_member(call.params["group"], call.params["user"])
    return await committed(call, changes)


async def remove_member(call: Call[None]) -> Answer:
    """Who is in no group cannot stay: their sessions end."""
    changes = call.portal.directory.remove_member(call.params["group"], call.params["user"])
    answer = await committed(call, changes)
    call.portal.sessions.close_user(call.params["user"])
    await call.portal.session_file.write()
    return answer


_MANAGES = menus(Menu.USER)
_ONE = "/user_groups/{group}"
_MEMBER = "/user_groups/{group}/members/{user}"

ROUTES = (
    Route("GET", "/user_groups/", query, "List user groups", _MANAGES),
    Route("GET", _ONE, read, "Read a user group", _MANAGES),
    Route(
        "POST",
        _ONE,
        create,
        "Create a user group",
        _MANAGES,
        GroupBody,
        lambda call: f"create group {call.params['group']} with roles {', '.join(call.body.role) or '-'}",
        may_be_empty=True,
    ),
    Route(
        "PUT",
        _ONE,
        modify,
        "Edit a user group",
        _MANAGES,
        GroupBody,
        lambda call: f"set group {call.params['group']} to roles {', '.join(call.body.role) or '-'}",
    ),
    Route(
        "DELETE",
        _ONE,
        delete,
        "Delete a user group",
        _MANAGES,
        said=lambda call: f"delete group {call.params['group']}",
    ),
    Route("GET", "/user_groups/{group}/members/", members, "List the members of a group", _MANAGES),
    Route(
        "POST",
        _MEMBER,
        add_member,
        "Put a user into a group",
        _MANAGES,
        said=lambda call: f"put user {call.params['user']} into group {call.params['group']}",
    ),
    Route(
        "DELETE",
        _MEMBER,
        remove_member,
        "Take a user out of a group",
        _MANAGES,
        said=lambda call: f"take user {call.params['user']} out of group {call.params['group']}",
    ),
)
