"""Hostile and unlucky requests at the portal's real door."""

import pytest

from tests.integration.test_portal import created
from tests.integration.test_portal_access import Town, town

__all__ = ["town"]


async def test_a_text_with_a_line_separator_does_not_end_the_feed(town: Town) -> None:
    """`str.splitlines` ends a line at U+2028 and U+0085, the stream of events does not."""
    described = {"name": "base", "description": "a\u2028\u2028b\x85id: forged\x85c"}
    image = (await town.cid.data("POST", "/disk_images/", described))["id"]
    await town.desk.until(lambda: town.desk.portal.owners.is_here(image))
    assert town.desk.portal.feed.is_heard


async def test_a_medium_of_another_is_not_booted_under_any_spelling(town: Town) -> None:
    """The gateway reads names without regard to case, and a null as if it were missing."""
    medium = (await town.bob.data("POST", "/media_images/", {"name": "secret"}))["id"]
    guest = await created(town.desk, town.cid, "mine")
    for member in (
        {"source": medium},
        {"SOURCE": medium},
        {"source": None, "Source": medium},
        {"Source": medium, "source": None},
        {"Source": "", "source": None, "SOURCE": medium},
    ):
        problem = await town.cid.refused("POST", f"/instances/{guest}", {"from_media": True, **member})
        assert (problem["status"], problem["field"]) == (404, "source"), member


@pytest.mark.parametrize("owner", [[], {}, 0, True])
async def test_an_owner_that_is_no_text_is_refused(town: Town, owner: object) -> None:
    problem = await town.cid.refused("POST", "/guests/", {"owner": owner})
    assert (problem["status"], problem["field"]) == (403, "owner")
