"""The gateway's routes behind a session: who may call each, and what of it they see.

Each row names the menus that open it and what its scope is: the zone, one instance, one image, a search. The
scope is judged here, on the server; only then is the call signed anew and passed on (REST document, section
9.5, where any session may do anything).
"""

from collections.abc import Iterable
from functools import partial
from typing import Any

from fastapi import Response

from nano.model.errors import Forbidden, Invalid, NanoError, NotFound
from nano.web import envelope
from nano.web.envelope import Answer
from services.portal.access import Menu
from services.portal.call import Call, Handler, Route, menus
from services.portal.forwarding import (
    FAILURE,
    Members,
    forward,
    forward_stream,
    is_name,
    members,
    path_of,
    written,
)
from services.portal.upstream import Request
from services.portal.visible import Thing, guest_thing, image_thing, sees

__all__ = ["FAILURE", "ROUTES", "named", "seen_guest"]

_TASKS_PAGE = 1000
_SHOWN = 50
_OWNERS = ("owner", "group", "all")


# ------------------------------------------------------------------ what somebody sees


async def seen_guest(call: Call[Any], guest_id: str) -> Thing:
    """An instance that the caller sees; `NotFound` where there is none for them."""
    thing = call.portal.owners.of(guest_id)
    try:
        if thing is None and is_name(guest_id):  # made a moment ago, or never
            guest = await call.portal.upstream.data(Request("GET", f"/guests/{guest_id}"))
            thing = guest_thing(guest)
            call.portal.owners.learn(guest_id, thing)
    except NanoError:
        if call.who.is_operator:
            raise
    if thing is None or thing.kind != "instance" or not sees(call.who, thing):
        raise NotFound(f"there is no guest {guest_id!r:.80}", field="id", subject=guest_id)
    return thing


async def seen_image(call: Call[Any], kind: str, image_id: str, field: str = "id") -> Thing:
    """An image that the caller sees; `NotFound` where there is none for them."""
    owners = call.portal.owners
    if owners.of(image_id) is None:
        for image in await call.portal.upstream.images(kind):
            owners.learn(image["id"], image_thing(kind, image))
    thing = owners.of(image_id)
    if thing is None or thing.kind != kind or not sees(call.who, thing):
        raise NotFound(f"there is no {kind} image {image_id!r:.80}", field=field, subject=image_id)
    return thing


def named(call: Call[Any], thing_id: str) -> str:
    """The name of an instance or image, where the caller sees it; what they wrote where not."""
    thing = call.portal.owners.of(thing_id)
    return thing.name if thing is not None and sees(call.who, thing) else thing_id


def _named(call: Call[Any]) -> str:
    """The name of what the path means."""
    return named(call, call.params["id"])


def _own(call: Call[Any], asked: Members, *, fill: bool) -> Members:
    """A body whose owner and group are the caller's. Operators may give them to others."""
    who = call.who
    for member, own in (("owner", who.user), ("group", who.group)):
        given = asked.get(member)
        if given is None or given == "":
            if fill:
                asked[member] = own
        elif given != own and not who.is_operator:
            raise Forbidden(f"{member} {given!r:.80} is not yours: leave it out, or give {own}", field=member)
    return asked


# ------------------------------------------------------------------ scopes


async def zone(call: Call[None]) -> Response:
    """Belongs to nobody in particular: the menu was all that is asked."""
    return await forward(call)


async def guest(call: Call[None]) -> Response:
    await seen_guest(call, call.params["id"])
    return await forward(call)


async def start(call: Call[None]) -> Response:
    """Whoever boots an instance from a medium must see that too."""
    await seen_guest(call, call.params["id"])
    body = members(call.raw_body, ("source",)) if call.raw_body.strip() else {}
    if body.get("source"):
        await seen_image(call, "media", str(body["source"]), "source")
    return await forward(call, body=written(body))


async def delete_guest(call: Call[None]) -> Response:
    """Whoever has an instance forgotten says that its server stays off, and frees its address: operators."""
    await seen_guest(call, call.params["id"])
    body = members(call.raw_body, ("forget",)) if call.raw_body.strip() else {}
    if body.get("forget") and not call.who.is_operator:
        raise Forbidden(
            "only operators (menu compute_pool) have an instance forgotten: they know whether its server "
            "stays off; ask one of them",
            field="forget",
        )
    return await forward(call, body=written(body))


async def create_guest(call: Call[None]) -> Response:
    """Owner and group are the caller's, and the image is one that they see."""
    body = _own(call, members(call.raw_body, ("owner", "group", "from_image")), fill=True)
    if body.get("from_image"):
        await seen_image(call, "disk", str(body["from_image"]), "from_image")
    return await forward(call, body=written(body))


async def search_guests(call: Call[None]) -> Response:
    """Owner and group are what the caller sees, whatever they ask for; operators may ask for all."""
    who = call.who
    body = members(call.raw_body, _OWNERS)
    asks_all = body.pop("all", False)
    if asks_all and not who.is_operator:
        raise Forbidden("only operators (menu compute_pool) list the instances of others", field="all")
    body["owner"] = who.user
    body["group"] = who.group if who.shares.instances else ""
    if asks_all:
        body["all"] = True
    return await forward(call, body=written(body))


async def query_owned(call: Call[None], shared: str) -> Response:
    """A search by query: owner and group are replaced, as documented; here a group never slips through."""
    who = call.who
    query = [(name, value) for name, value in call.query.pairs if name.casefold() not in _OWNERS]
    asks_all = call.query.flag("all")
    if asks_all and not who.is_operator:
        raise Forbidden("only operators (menu compute_pool) list what belongs to others", field="all")
    if asks_all:
        query.append(("all", "true"))
    query.append(("owner", who.user))
    if getattr(who.shares, shared):
        query.append(("group", who.group))
    return await forward(call, query=query)


async def guests_of(call: Call[None]) -> Answer:
    """A whole list of the gateway, of which the caller gets what they see."""
    found = await call.portal.upstream.data(Request("GET", path_of(call), call.by.session.label)) or []
    return envelope.success([each for each in found if sees(call.who, guest_thing(each))])


async def image(call: Call[None], kind: str) -> Response:
    await seen_image(call, kind, call.params["id"])
    return await forward(call)


async def image_file(call: Call[None], kind: str) -> Response:
    await seen_image(call, kind, call.params["id"])
    return await forward_stream(call)


async def images(call: Call[None], kind: str) -> Answer:
    """Every image, of which the caller gets what they see."""
    found = await call.portal.upstream.images(kind, call.by.session.label)
    return envelope.success([each for each in found if sees(call.who, image_thing(kind, each))])


async def create_image(call: Call[None]) -> Response:
    body = _own(call, members(call.raw_body, ("owner", "group", "guest")), fill=True)
    if body.get("guest"):
        await seen_guest(call, str(body["guest"]))
    return await forward(call, body=written(body))


async def modify_image(call: Call[None], kind: str) -> Response:
    await seen_image(call, kind, call.params["id"])
    body = _own(call, members(call.raw_body, ("owner", "group")), fill=False)
    return await forward(call, body=written(body))


async def tasks(call: Call[None]) -> Answer | Response:
    """Tasks of what the caller sees. Those are picked here, so the pages are cut here as well."""
    if call.who.is_operator:
        return await forward(call)
    asked = call.query
    kept = [(name, value) for name, value in asked.pairs if name in {"state", "subject"}]
    shown = [task for task in await _all_tasks(call, kept) if call.portal.owners.shows_task(call.who, task)]
    offset, limit = asked.number("offset", 0), asked.number("limit", _SHOWN)
    return envelope.success({"tasks": shown[offset : offset + limit], "total": len(shown)})


async def _all_tasks(call: Call[None], query: Iterable[tuple[str, str]]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while True:
        page = [*query, ("offset", str(len(found))), ("limit", str(_TASKS_PAGE))]
        answer = await call.portal.upstream.data(Request("GET", "/tasks/", call.by.session.label, page))
        found += answer["tasks"]
        if len(found) >= answer["total"] or not answer["tasks"]:
            return found


async def task(call: Call[None]) -> Response:
    wanted = call.params["id"]
    found = await call.portal.upstream.data(Request("GET", path_of(call), call.by.session.label))
    if not call.portal.owners.shows_task(call.who, found):
        raise NotFound(f"there is no task {wanted!r:.80}", field="id", subject=wanted)
    return await forward(call)


# ------------------------------------------------------------------ the table


def _power(call: Call[None]) -> str:
    try:
        asked = members(call.raw_body, ("reboot", "force")) if call.raw_body.strip() else {}
    except Invalid:
        asked = {}
    verb = {
        (False, False): "stop",
        (False, True): "switch off",
        (True, False): "reboot",
        (True, True): "reset",
    }[bool(asked.get("reboot")), bool(asked.get("force"))]
    return f"{verb} instance {_named(call)}"


def _deletion(call: Call[None]) -> str:
    verb = "delete" if _asked(call, "forget") in {"", str(False)} else "forget"
    return f"{verb} instance {_named(call)}"


def _creation(call: Call[None]) -> str:
    return _asked(call, "name")


def _asked(call: Call[None], member: str) -> str:
    """A member of a body, for the log; empty where there is none to be read."""
    try:
        value = members(call.raw_body, (member,)).get(member, "")
    except Invalid:
        value = ""
    return str(value)[:128]


def _invitation(call: Call[None]) -> str:
    """Whom it lets in: a gateway may do far more than a cell."""
    return f"make a join token for {_asked(call, 'role') or 'cell'}/{_asked(call, 'id') or '*'}"


def _rotation(call: Call[None]) -> str:
    behind = ", leaving behind who is away" if _asked(call, "leave_behind") == str(True) else ""
    return f"rotate the authority of the zone{behind}"


_SEES_POOLS = menus(Menu.COMPUTE_POOL, Menu.DASHBOARD, Menu.INSTANCE)
_SEES_CELLS = menus(Menu.COMPUTE_POOL, Menu.DASHBOARD)
_RUNS_POOLS = menus(Menu.COMPUTE_POOL)
_RUNS_ADDRESSES = menus(Menu.ADDRESS_POOL)
_SEES_ADDRESSES = menus(Menu.ADDRESS_POOL, Menu.COMPUTE_POOL)
_INSTANCES = menus(Menu.INSTANCE)
_SEES_INSTANCES = menus(Menu.INSTANCE, Menu.COMPUTE_POOL, Menu.DASHBOARD)
_SEES_TASKS = menus(Menu.INSTANCE, Menu.IMAGE, Menu.MEDIA, Menu.COMPUTE_POOL, Menu.DASHBOARD)
_SEES_IMAGES = {"disk": menus(Menu.IMAGE, Menu.INSTANCE), "media": menus(Menu.MEDIA, Menu.INSTANCE)}
_MAKES_IMAGES = {"disk": menus(Menu.IMAGE), "media": menus(Menu.MEDIA)}


def _image_routes(kind: str, shared: str) -> tuple[Route, ...]:
    """The two kinds are alike but for their names."""
    sees_them, makes_them = _SEES_IMAGES[kind], _MAKES_IMAGES[kind]
    all_, one, file = f"/{kind}_images/", f"/{kind}_images/{{id}}", f"/{kind}_images/{{id}}/file/"

    def of_kind(handler: Any) -> Handler:
        return partial(handler, kind=kind)

    return (
        Route(
            "GET",
            f"/{kind}_image_search/*",
            partial(query_owned, shared=shared),
            f"Find {kind} images",
            sees_them,
        ),
        Route("GET", one, of_kind(image), f"Read a {kind} image", sees_them),
        Route(
            "POST",
            all_,
            create_image,
            f"Register a {kind} image",
            makes_them,
            said=lambda call: f"register {kind} image {_creation(call)}",
        ),
        Route(
            "PUT",
            one,
            of_kind(modify_image),
            f"Edit a {kind} image",
            makes_them,
            said=lambda call: f"edit {kind} image {_named(call)}",
        ),
        Route(
            "DELETE",
            one,
            of_kind(image),
            f"Delete a {kind} image",
            makes_them,
            said=lambda call: f"delete {kind} image {_named(call)}",
        ),
        Route(
            "POST",
            file,
            of_kind(image_file),
            f"Upload a {kind} image",
            makes_them,
            said=lambda call: f"upload {kind} image {_named(call)}",
            is_upload=True,
        ),
    )


def _changes(
    path: str, named: str, menus_: frozenset[Menu], *, post: str, put: str = "", delete: str = "delete"
) -> tuple[Route, ...]:
    """Rows that make, edit and remove what belongs to the zone; `named` is how the log calls it."""
    verbs = {"POST": post, "PUT": put, "DELETE": delete}

    def row(method: str, verb: str) -> Route:
        summary = f"{verb} {named}".replace("{", "").replace("}", "").capitalize()
        return Route(
            method, path, zone, summary, menus_, said=lambda call: f"{verb} {named.format_map(call.params)}"
        )

    return tuple(row(method, verb) for method, verb in verbs.items() if verb)


ROUTES: tuple[Route, ...] = (
    # the zone, its pools and cells
    Route("GET", "/compute_zone_status/", zone, "Read the usage of the zone", menus(Menu.DASHBOARD)),
    Route("GET", "/compute_pool_status/", zone, "Read the usage of the pools", _SEES_CELLS),
    Route("GET", "/compute_pool_status/{pool}", zone, "Read the usage of a pool", _SEES_CELLS),
    Route("GET", "/compute_cell_status/{pool}", zone, "Read the usage of the cells", _SEES_CELLS),
    Route("GET", "/compute_cell_status/{pool}/{cell}", zone, "Read the usage of a cell", _SEES_CELLS),
    Route("GET", "/compute_pools/", zone, "List compute pools", _SEES_POOLS),
    Route("GET", "/compute_pools/{pool}", zone, "Read a compute pool", _SEES_POOLS),
    *_changes("/compute_pools/{pool}", "compute pool {pool}", _RUNS_POOLS, post="create", put="edit"),
    Route("GET", "/compute_pool_cells/", zone, "List free cells", _RUNS_POOLS),
    Route("GET", "/compute_pool_cells/{pool}", zone, "List the cells of a pool", _SEES_CELLS),
    Route("GET", "/compute_pool_cells/{pool}/{cell}", zone, "Read a cell", _SEES_CELLS),
    *_changes(
        "/compute_pool_cells/{pool}/{cell}",
        "cell {cell} of pool {pool}",
        _RUNS_POOLS,
        post="add",
        put="switch",
        delete="remove",
    ),
    # who is let in, and shut out
    Route("GET", "/join_tokens/", zone, "List join tokens", _RUNS_POOLS),
    Route(
        "POST",
        "/join_tokens/",
        zone,
        "Make a join token",
        _RUNS_POOLS,
        said=_invitation,
        may_be_empty=True,
    ),
    Route(
        "DELETE",
        "/join_tokens/{id}",
        zone,
        "Revoke a join token",
        _RUNS_POOLS,
        said=lambda call: f"revoke join token {call.params['id']}",
    ),
    Route("GET", "/applicants/", zone, "List servers that wait to be let in", _RUNS_POOLS),
    *_changes(
        "/applicants/{fingerprint}",
        "server with the key {fingerprint}",
        _RUNS_POOLS,
        post="admit",
        delete="refuse",
    ),
    Route("GET", "/members/", zone, "List who was let into the zone", _RUNS_POOLS),
    Route(
        "DELETE",
        "/members/{role}/{id}",
        zone,
        "Shut somebody out of the zone",
        _RUNS_POOLS,
        said=lambda call: f"shut {call.params['role']} {call.params['id']} out of the zone",
    ),
    Route("GET", "/removals/", zone, "List who was shut out", _RUNS_POOLS),
    Route("GET", "/authority/", zone, "Read which authority the zone trusts", _RUNS_POOLS),
    Route(
        "POST",
        "/authority/",
        zone,
        "Give the zone another authority",
        _RUNS_POOLS,
        said=_rotation,
        may_be_empty=True,
    ),
    # addresses
    Route("GET", "/address_pools/", zone, "List address pools", _SEES_ADDRESSES),
    Route("GET", "/address_pools/{pool}", zone, "Read an address pool", _SEES_ADDRESSES),
    *_changes("/address_pools/{pool}", "address pool {pool}", _RUNS_ADDRESSES, post="create", put="edit"),
    Route("GET", "/address_pools/{pool}/{type}/ranges/", zone, "List address ranges", _SEES_ADDRESSES),
    Route(
        "GET", "/address_pools/{pool}/{type}/ranges/{start}", zone, "Read an address range", _SEES_ADDRESSES
    ),
    *_changes(
        "/address_pools/{pool}/{type}/ranges/{start}",
        "range {start} of address pool {pool}",
        _RUNS_ADDRESSES,
        post="add",
        delete="remove",
    ),
    # templates
    Route("GET", "/templates/", zone, "List templates", menus(Menu.TEMPLATES, Menu.INSTANCE)),
    Route("GET", "/templates/{id}", zone, "Read a template", menus(Menu.TEMPLATES, Menu.INSTANCE)),
    # images
    Route("GET", "/media_images/", partial(images, kind="media"), "List media images", _SEES_IMAGES["media"]),
    *_image_routes("media", "media_images"),
    *_image_routes("disk", "disk_images"),
    Route(
        "GET",
        "/disk_images/{id}/file/",
        partial(image_file, kind="disk"),
        "Download a disk image",
        _MAKES_IMAGES["disk"],
        said=lambda call: f"download disk image {_named(call)}",
        is_upload=True,
    ),
    # instances
    Route("GET", "/guests/{id}", guest, "Read a guest", _SEES_INSTANCES),
    Route(
        "POST",
        "/guests/",
        create_guest,
        "Create a guest",
        _INSTANCES,
        said=lambda call: f"create instance {_creation(call)}",
    ),
    Route(
        "DELETE",
        "/guests/{id}",
        delete_guest,
        "Delete a guest",
        _INSTANCES,
        said=_deletion,
    ),
    Route("GET", "/instances/{id}", guest, "Read a running guest", _SEES_INSTANCES),
    Route(
        "POST",
        "/instances/{id}",
        start,
        "Start a guest",
        _INSTANCES,
        said=lambda call: f"start instance {_named(call)}",
    ),
    Route("DELETE", "/instances/{id}", guest, "Stop a guest", _INSTANCES, said=_power),
    Route("POST", "/search/guests/", search_guests, "Search guests", _SEES_INSTANCES),
    Route(
        "GET",
        "/guest_search/*",
        partial(query_owned, shared="instances"),
        "Search the guests of a pool",
        _SEES_INSTANCES,
    ),
    Route("GET", "/instance_status/{pool}", guests_of, "List the guests of a pool", _SEES_INSTANCES),
    Route("GET", "/instance_status/{pool}/{cell}", guests_of, "List the guests of a cell", _SEES_INSTANCES),
    # tasks
    Route("GET", "/tasks/", tasks, "List tasks", _SEES_TASKS),
    Route("GET", "/tasks/{id}", task, "Read a task", _SEES_TASKS),
    Route(
        "DELETE",
        "/tasks/{id}",
        task,
        "Cancel a task",
        _SEES_TASKS,
        said=lambda call: f"cancel task {call.params['id']}",
    ),
)

NOT_FORWARDED = {
    ("GET", "/events/"): "browsers get events by the websocket /live/, which is filtered for each",
    ("GET", "/samples/"): "browsers get samples by the websocket /live/",
    ("POST", "/console_tickets/"): "the portal asks for tickets itself: /monitor_channels/",
    ("GET", "/consoles/{ticket}"): "the portal opens consoles itself: /monitor_channels/",
    ("GET", "/openapi.json"): "it describes the gateway",
}
"""Routes of the gateway that have no row here, each with its reason."""
