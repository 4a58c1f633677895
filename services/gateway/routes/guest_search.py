"""`/search/guests/`, `/guest_search/` and `/instance_status/`: lists of guests, by full name."""

from collections.abc import Iterable

import msgspec

from nano.model.errors import Invalid
from nano.model.instance import Instance, Power
from nano.web import envelope
from nano.web.envelope import Answer
from services.gateway.call import Call, Route
from services.gateway.cursor import Book
from services.gateway.routes.compute_pool_cells import host_of
from services.gateway.routes.guests import Guest, shown
from services.gateway.view import View

DEFAULT_LIMIT = 20
_STATUSES = {"0": False, "1": True}


class Search(msgspec.Struct, kw_only=True):
    owner: str = ""
    all: bool = False
    """Beyond the document: every guest, whoever owns it."""
    limit: int = DEFAULT_LIMIT
    """20 when it is 0 or less; no upper bound, as documented."""
    offset: int = 0
    pool: str = ""
    cell: str = ""
    """Wins over the pool."""
    keyword: str = ""
    """A part of the full name, of a reported address or of the host's address; case counts."""
    group: str = ""
    """Also guests of this group."""


class SearchResult(msgspec.Struct):
    result: list[Guest]
    total: int
    limit: int
    offset: int


async def search(call: Call[Search]) -> Answer:
    body, view = call.body, call.view
    if not (body.owner or body.all):
        raise Invalid("owner", "owner is missing")
    if body.cell:
        near = (one for one in view.instances_in_order() if one.cell == body.cell)
    else:
        near = (one for one in view.instances_in_order() if body.pool in {"", one.spec.pool})
    visible = (
        one
        for one in near
        if body.all or one.spec.owner == body.owner or (body.group and one.spec.group == body.group)
    )
    found = [one for one in visible if any(body.keyword in word for word in _words(one, view))]
    if body.offset < 0 or (found and body.offset >= len(found)):
        raise Invalid("offset", f"offset {body.offset} is outside of the {len(found)} guests that were found")
    limit = body.limit if body.limit > 0 else DEFAULT_LIMIT
    page = found[body.offset : body.offset + limit]
    return envelope.success(SearchResult(_list(page, view), len(found), limit, body.offset))


def _words(instance: Instance, view: View) -> Iterable[str]:
    """What a keyword is looked for in."""
    yield instance.spec.full_name
    status = view.statuses.get(instance.id)
    if status is not None:
        yield from map(str, status.addresses)
    cell = view.cells.get(instance.cell)
    if cell is not None:
        yield host_of(cell)


async def query(call: Call[None]) -> Answer:
    """The old form: owner OR group; with neither nothing matches; what is still being created is left out."""
    asked, view = call.query, call.view
    pool = asked.text("pool")
    if not pool:
        raise Invalid("pool", "pool is missing")
    view.pool(pool)
    owner, group, cell = asked.text("owner"), asked.text("group"), asked.text("cell")
    running = _running(asked.text("status"))
    created = asked.flag("created")
    found = [
        one
        for one in view.instances_in_order()
        if one.spec.pool == pool
        and cell in {"", one.cell}
        and ((owner and one.spec.owner == owner) or (group and one.spec.group == group))
        and running in {None, _is_running(one, view)}
        and created in {None, one.created}
        and one.created
    ]
    return envelope.success(_list(found, view))


def _running(status: str) -> bool | None:
    if not status:
        return None
    if status not in _STATUSES:
        raise Invalid("status", f"status {status!r:.40} is unknown: give 0 for stopped or 1 for running")
    return _STATUSES[status]


def _is_running(instance: Instance, view: View) -> bool:
    status = view.statuses.get(instance.id)
    return status is not None and status.power is Power.RUNNING


async def of_pool(call: Call[None]) -> Answer:
    pool = call.view.pool(call.params["pool"]).name
    return envelope.success(
        _list((one for one in call.view.instances_in_order() if one.spec.pool == pool), call.view)
    )


async def of_cell(call: Call[None]) -> Answer:
    cell = call.view.cell_in(call.params["pool"], call.params["cell"]).id
    return envelope.success(
        _list((one for one in call.view.instances_in_order() if one.cell == cell), call.view)
    )


def _list(instances: Iterable[Instance], view: View) -> list[Guest]:
    return [shown(instance, view, in_list=True) for instance in instances]


_READS = (Book.SCHEDULER,)

ROUTES = (
    Route("POST", "/search/guests/", search, "Search guests, in pages", Search, SearchResult, _READS),
    Route(
        "GET",
        "/guest_search/*",
        query,
        "Search guests of a pool",
        answer=list[Guest],
        reads=_READS,
        query={
            "pool": "of this pool; must be given",
            "cell": "on this cell",
            "owner": "owned by",
            "group": "or of this group",
            "status": "0 stopped, 1 running",
            "created": "whether its creation has ended",
        },
    ),
    Route(
        "GET",
        "/instance_status/{pool}",
        of_pool,
        "List the guests of a pool",
        answer=list[Guest],
        reads=_READS,
    ),
    Route(
        "GET",
        "/instance_status/{pool}/{cell}",
        of_cell,
        "List the guests of a cell",
        answer=list[Guest],
        reads=_READS,
    ),
)
