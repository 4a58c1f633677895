"""`/resource_visibilities/`: what one's own group shares (REST document, section 9.5)."""

import msgspec

from nano.web import envelope
from nano.web.envelope import Answer
from services.portal.access import Menu
from services.portal.call import Call, Route, menus
from services.portal.directory import Shares
from services.portal.routes.users import committed


class Visibility(msgspec.Struct, kw_only=True):
    """Replaces all, as documented: what is left out is not shared any more."""

    instance_visible: bool = False
    disk_image_visible: bool = False
    media_image_visible: bool = False


async def read(call: Call[None]) -> Answer:
    shares = call.who.shares
    return envelope.success(
        Visibility(
            instance_visible=shares.instances,
            disk_image_visible=shares.disk_images,
            media_image_visible=shares.media_images,
        )
    )


async def modify(call: Call[Visibility]) -> Answer:
    body = call.body
    shares = Shares(body.instance_visible, body.disk_image_visible, body.media_image_visible)
    return await committed(call, call.portal.directory.share(call.who.group, shares))


def _said(call: Call[Visibility]) -> str:
    body = call.body
    shared = [
        what
        for what, is_shared in (
            ("instances", body.instance_visible),
            ("disk images", body.disk_image_visible),
            ("media images", body.media_image_visible),
        )
        if is_shared
    ]
    return f"let group {call.who.group} share {', '.join(shared) or 'nothing'}"


ROUTES = (
    Route("GET", "/resource_visibilities/", read, "Read what my group shares"),
    Route(
        "PUT",
        "/resource_visibilities/",
        modify,
        "Change what my group shares",
        menus(Menu.VISIBILITY),
        Visibility,
        _said,
        may_be_empty=True,
    ),
)
