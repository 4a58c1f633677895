"""`/templates/`: which devices a kind of guest system gets."""

import msgspec

from nano.model.errors import NotFound
from nano.model.ids import TemplateId
from nano.web import envelope
from nano.web.envelope import Answer, local_time
from services.gateway.call import Call, Route
from services.gateway.cursor import Book


class TemplateSummary(msgspec.Struct):
    id: str
    name: str
    operating_system: str
    created_time: str
    modified_time: str


class TemplateDetail(msgspec.Struct, omit_defaults=True):
    id: str
    name: str
    admin: str
    operating_system: str
    disk: str
    network: str
    display: str
    control: str
    created_time: str
    modified_time: str
    usb: str = ""
    tablet: str = ""


async def query(call: Call[None]) -> Answer:
    """In the order of their creation."""
    templates = sorted(call.view.templates.values(), key=lambda one: one.created_ms)
    return envelope.success(
        [
            TemplateSummary(
                one.id,
                one.name,
                one.devices.operating_system,
                local_time(one.created_ms),
                local_time(one.modified_ms),
            )
            for one in templates
        ]
    )


async def read(call: Call[None]) -> Answer:
    wanted = TemplateId(call.params["id"])
    found = call.view.templates.get(wanted)
    if found is None:
        raise NotFound(f"there is no template {wanted!r:.80}", field="id", subject=wanted)
    devices = found.devices
    return envelope.success(
        TemplateDetail(
            id=found.id,
            name=found.name,
            admin=found.admin,
            operating_system=devices.operating_system,
            disk=devices.disk,
            network=devices.network,
            display=devices.display,
            control=devices.control,
            usb=str(devices.usb),
            tablet=str(devices.tablet),
            created_time=local_time(found.created_ms),
            modified_time=local_time(found.modified_ms),
        )
    )


_READS = (Book.SCHEDULER,)

ROUTES = (
    Route("GET", "/templates/", query, "List system templates", answer=list[TemplateSummary], reads=_READS),
    Route("GET", "/templates/{id}", read, "Read a system template", answer=TemplateDetail, reads=_READS),
)
