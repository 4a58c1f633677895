"""Who may call what: the menus of the document, and what each lets in. Pure.

The document knows menus only as pages that a portal hides (section 9.4); here a route names the menus that
open it, and the server looks before anything is done. `routes/forwarded.py` has the table for the gateway's
routes, each of the portal's own routes names its own.
"""

from collections.abc import Iterable
from enum import StrEnum

from nano.model.errors import Forbidden


class Menu(StrEnum):
    """Permissions, in the order and the words of the document."""

    DASHBOARD = "dashboard"
    COMPUTE_POOL = "compute_pool"
    """Runs the servers: sees and may act on every instance, image and task of the zone."""
    ADDRESS_POOL = "address_pool"
    STORAGE_POOL = "storage_pool"
    INSTANCE = "instance"
    IMAGE = "image"
    MEDIA = "media"
    TEMPLATES = "templates"
    POLICIES = "policies"
    USER = "user"
    """Manages users, groups and roles, and so can give itself everything else."""
    LOG = "log"
    VISIBILITY = "visibility"


MENUS = tuple(Menu)


def check_menu(held: frozenset[Menu], wanted: Iterable[Menu], what: str) -> None:
    """Forbidden when none of the menus that open `what` is held."""
    wanted = frozenset(wanted)
    if wanted and not held & wanted:
        names = " or ".join(menu for menu in MENUS if menu in wanted)
        raise Forbidden(f"{what} needs the menu {names}: ask whoever manages your group's roles")
