"""`/system/`: whether the portal has been set up, and its first start (REST document, section 9.2)."""

import msgspec

from nano.model.errors import Conflict, NanoError
from nano.web import envelope
from nano.web.envelope import Answer
from services.portal import passwords
from services.portal.access import MENUS
from services.portal.call import Call, Route
from services.portal.directory import Group, Role, User, menus_of
from services.portal.throttle import code_keys

DISPLAY = "Administrators"


class SystemStatus(msgspec.Struct):
    ready: bool
    max_cores: int
    max_memory: int
    """GiB."""
    max_disk: int
    """GiB."""
    code_required: bool
    """Ours: the first user needs the first-start code."""


class Initial(msgspec.Struct, kw_only=True):
    user: str
    password: str
    menu: tuple[str, ...] = MENUS
    """The document wants one at least; here all of them unless told."""
    group: str = "admin"
    display: str = DISPLAY
    role: str = "super"
    code: str = ""
    """Ours; not asked for when `first_start_code` is off."""


async def read(call: Call[None]) -> Answer:
    portal = call.portal
    config, is_ready = portal.config, portal.directory.is_ready
    return envelope.success(
        SystemStatus(
            ready=is_ready,
            max_cores=config.max_cores,
            max_memory=config.max_memory,
            max_disk=config.max_disk,
            code_required=config.first_start_code and not is_ready,
        )
    )


async def initialise(call: Call[Initial]) -> Answer:
    portal, body = call.portal, call.body
    if portal.directory.is_ready:
        raise Conflict("this portal has been set up already: log in")
    if portal.config.first_start_code:
        keys = code_keys(call.address)
        portal.throttle.attempt(keys, call.now_s)
        portal.first_start.check(body.code)
        portal.throttle.succeeded(keys)
    passwords.check_policy("password", body.password)
    user = User(body.user, await portal.passwords.secret(body.password))
    role = Role(body.role, menus_of(body.menu))
    group = Group(body.group, body.display or DISPLAY)
    portal.directory.initial(user, group, role)  # what cannot be done is not said
    line = f"{body.group}.{body.user}({call.address}) : set the portal up, as its first user"
    await portal.log.write(line)
    try:
        await portal.shelf.durable(portal.shelf.commit(*portal.directory.initial(user, group, role)))
    except NanoError as error:  # somebody was first
        await portal.log.write(f"{line} : failed: {error.message}")
        raise
    portal.first_start.done()
    return envelope.success()


ROUTES = (
    Route("GET", "/system/", read, "Read whether the portal is set up", is_open=True),
    Route("POST", "/system/", initialise, "Create the first user", body=Initial, is_open=True),
)
