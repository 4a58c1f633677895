"""`/roles/`: menus under a name (REST document, section 9.4). A change counts at once, for open sessions
too."""

import msgspec

from nano.web import envelope
from nano.web.envelope import Answer
from services.portal.access import Menu
from services.portal.call import Call, Route, menus
from services.portal.directory import Role, menus_of
from services.portal.routes.users import committed


class RoleBody(msgspec.Struct, kw_only=True, omit_defaults=True):
    menu: list[str] = []


async def query(call: Call[None]) -> Answer:
    return envelope.success(sorted(call.portal.directory.roles))


async def read(call: Call[None]) -> Answer:
    return envelope.success(RoleBody(menu=list(call.portal.directory.role(call.params["role"]).menu)))


async def create(call: Call[RoleBody]) -> Answer:
    role = Role(call.params["role"], menus_of(call.body.menu))
    return await committed(call, call.portal.directory.create_role(role))


async def modify(call: Call[RoleBody]) -> Answer:
    role = Role(call.params["role"], menus_of(call.body.menu))
    return await committed(call, call.portal.directory.modify_role(role))


async def delete(call: Call[None]) -> Answer:
    return await committed(call, call.portal.directory.delete_role(call.params["role"]))


_MANAGES = menus(Menu.USER)
_ONE = "/roles/{role}"

ROUTES = (
    Route("GET", "/roles/", query, "List roles", _MANAGES),
    Route("GET", _ONE, read, "Read a role", _MANAGES),
    Route(
        "POST",
        _ONE,
        create,
        "Create a role",
        _MANAGES,
        RoleBody,
        lambda call: f"create role {call.params['role']} with menus {', '.join(call.body.menu) or '-'}",
    ),
    Route(
        "PUT",
        _ONE,
        modify,
        "Edit a role",
        _MANAGES,
        RoleBody,
        lambda call: f"set role {call.params['role']} to menus {', '.join(call.body.menu) or '-'}",
    ),
    Route(
        "DELETE",
        _ONE,
        delete,
        "Delete a role",
        _MANAGES,
        said=lambda call: f"delete role {call.params['role']}",
    ),
)
