"""The zone's authority over REST: what is trusted, and how far its change has come."""

from pathlib import Path

from nano.model.membership import How
from nano.model.peers import Peer, Role
from tests.support.zone import CELL, zone


async def test_a_rotation_begins_waits_and_can_leave_somebody_behind(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        (old,) = (await z.data("GET", "/authority/"))["trusted"]
        book = z.scheduler.book.membership
        z.scheduler.commit(*book.enrolled(Peer(Role.CELL, CELL), "a1" * 32, How.LOCAL, 5))
        assert (await z.error("POST", "/authority/", {"leave_behind": True}))[0] == 409
        assert await z.data("POST", "/authority/") == ""
        state = await z.data("GET", "/authority/")
        assert state["phase"] == "introducing"
        assert state["trusted"][0] == old
        assert len(state["trusted"]) == 2
        assert state["waiting_for"] == [f"cell/{CELL}"]
        number, text = await z.error("POST", "/authority/")
        assert (number, f"cell/{CELL}" in text) == (409, True)
        assert await z.data("POST", "/authority/", {"leave_behind": True}) == ""
        state = await z.data("GET", "/authority/")
        assert (state["waiting_for"], state["left_behind"]) == ([], [f"cell/{CELL}"])


async def test_what_a_rotation_waits_for_is_told_as_members_acknowledge_it(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        book, peer = z.scheduler.book.membership, Peer(Role.CELL, CELL)
        z.scheduler.commit(*book.enrolled(peer, "a1" * 32, How.LOCAL, 5))
        await z.data("POST", "/authority/")
        z.scheduler.commit(*book.acknowledged(peer, book.trust_revision, book.trust.trusted[0]))
        assert await z.gateway.bell.until(lambda: not z.gateway.view.authority.waiting_for, 5.0)
