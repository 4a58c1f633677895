"""`/users/` and `/user_search/`: who may come in (REST document, section 9.4)."""

from typing import Any

import msgspec

from nano.model.errors import Conflict, Forbidden, Invalid
from nano.web import envelope
from nano.web.envelope import Answer
from services.portal import passwords
from services.portal.access import Menu
from services.portal.call import Call, Route, menus
from services.portal.directory import Changes, User
from services.portal.throttle import login_keys


class UserView(msgspec.Struct, omit_defaults=True):
    name: str
    nick: str = ""
    mail: str = ""
    group: str = ""
    """Ours: the document leaves it out."""


class NewUser(msgspec.Struct, kw_only=True):
    password: str
    nick: str = ""
    mail: str = ""


class UserChange(msgspec.Struct, kw_only=True):
    """What is empty stays as it is, as documented."""

    nick: str = ""
    mail: str = ""


class PasswordChange(msgspec.Struct, kw_only=True):
    new: str
    old: str = ""
    """Whoever manages users need not know the old password of somebody else."""


async def query(call: Call[None]) -> Answer:
    return envelope.success(sorted(call.portal.directory.users))


async def search(call: Call[None]) -> Answer:
    """Of a group; of none where it is empty."""
    return envelope.success(call.portal.directory.members(call.query.text("group")))


async def read(call: Call[None]) -> Answer:
    user = call.portal.directory.user(call.params["user"])
    return envelope.success(UserView(user.name, user.nick, user.mail, user.group))


async def create(call: Call[NewUser]) -> Answer:
    body, portal = call.body, call.portal
    passwords.check_policy("password", body.password)
    portal.directory.create_user(User(call.params["user"], "", body.nick, body.mail))  # before the dear part
    secret = await portal.passwords.secret(body.password)
    user = User(call.params["user"], secret, body.nick, body.mail)
    return await committed(call, portal.directory.create_user(user))


async def modify(call: Call[UserChange]) -> Answer:
    body = call.body
    changes = call.portal.directory.modify_user(call.params["user"], nick=body.nick, mail=body.mail)
    return await committed(call, changes)


async def delete(call: Call[None]) -> Answer:
    """Their sessions end with them."""
    answer = await committed(call, call.portal.directory.delete_user(call.params["user"]))
    call.portal.sessions.close_user(call.params["user"])
    await call.portal.session_file.write()
    return answer


async def change_password(call: Call[PasswordChange]) -> Answer:
    """One's own with the old one; somebody else's for whoever manages users. All their other sessions end."""
    portal, body, wanted = call.portal, call.body, call.params["user"]
    is_own = wanted == call.who.user
    if not is_own and Menu.USER not in call.who.menu:
        raise Forbidden("the password of somebody else is changed by whoever has the menu user", field="user")
    user = portal.directory.user(wanted)
    passwords.check_policy("new", body.new)
    if is_own:
        keys = login_keys(wanted, call.address)
        portal.throttle.attempt(keys, call.now_s)
        if not await portal.passwords.fits(body.old, user.secret):
            raise Invalid("old", "the old password is wrong")
        portal.throttle.succeeded(keys)
    secret = await portal.passwords.secret(body.new)
    if portal.directory.user(wanted).secret != user.secret:
        raise Conflict(f"the password of user {wanted} was changed meanwhile: log in anew", field="user")
    revision = portal.shelf.commit(*portal.directory.change_secret(wanted, secret))
    portal.sessions.close_user(wanted, but=call.by.session.key)
    await portal.session_file.write()  # first: no session of the old password outlives a kill right here
    await portal.shelf.durable(revision)
    return envelope.success()


async def committed(call: Call[Any], changes: Changes) -> Answer:
    """Durable before the answer."""
    await call.portal.shelf.durable(call.portal.shelf.commit(*changes))
    return envelope.success()


_MANAGES = menus(Menu.USER)
_ONE = "/users/{user}"

ROUTES = (
    Route("GET", "/users/", query, "List users", _MANAGES),
    Route("GET", "/user_search/*", search, "List the users of a group", _MANAGES),
    Route("GET", _ONE, read, "Read a user", _MANAGES),
    Route(
        "POST",
        _ONE,
        create,
        "Create a user",
        _MANAGES,
        NewUser,
        lambda call: f"create user {call.params['user']}",
    ),
    Route(
        "PUT",
        _ONE,
        modify,
        "Edit a user",
        _MANAGES,
        UserChange,
        lambda call: f"edit user {call.params['user']}",
    ),
    Route(
        "DELETE",
        _ONE,
        delete,
        "Delete a user",
        _MANAGES,
        said=lambda call: f"delete user {call.params['user']}",
    ),
    Route(
        "PUT",
        "/users/{user}/password/",
        change_password,
        "Change a password",
        body=PasswordChange,
        said=lambda call: f"change the password of user {call.params['user']}",
    ),
)
