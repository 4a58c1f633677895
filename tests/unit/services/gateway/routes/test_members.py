"""Who is in the zone, over REST, and shutting one out: who knows of it is said."""

from pathlib import Path

from nano.model.membership import How
from nano.model.peers import Peer, Role
from tests.support.zone import CELL, Zone, zone

KEYS = ("a1" * 32, "a2" * 32, "b3" * 32)
SCHEDULER, GATEWAY = Peer(Role.SCHEDULER, "main"), Peer(Role.GATEWAY, "main")
PEER = Peer(Role.CELL, CELL)


async def let_in(z: Zone, *peers: Peer) -> None:
    book = z.scheduler.book.membership
    for peer, key in zip(peers, KEYS, strict=False):
        z.scheduler.commit(*book.enrolled(peer, key, How.LOCAL, 5))
    await z.gateway.bell.until(lambda: {str(peer) for peer in peers} <= set(z.gateway.view.members), 5.0)


async def test_members_are_listed_and_it_is_said_who_does_not_know_of_a_removal(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        await let_in(z, PEER, GATEWAY, SCHEDULER)
        book = z.scheduler.book.membership
        z.scheduler.commit(*book.acknowledged(GATEWAY, 1, "ca"))
        await z.gateway.bell.until(lambda: z.gateway.view.members[str(GATEWAY)].issuer == "ca", 5.0)
        page = await z.data("GET", "/members/")
        assert [(one["role"], one["informed"]) for one in page["members"]] == [
            ("cell", False),
            ("gateway", True),
            ("scheduler", True),
        ]
        assert (page["total"], page["uninformed"]) == (3, 1)
        assert await z.data("DELETE", f"/members/cell/{CELL}") == ""
        page = await z.data("GET", "/members/?informed=false")
        assert [one["id"] for one in page["members"]] == ["main"]
        assert page["uninformed"] == 1
        z.scheduler.commit(*book.acknowledged(GATEWAY, book.trust_revision, "ca"))
        await z.gateway.bell.until(lambda: z.gateway.view.members[str(GATEWAY)].trust_revision > 1, 5.0)
        assert (await z.data("GET", "/members/"))["uninformed"] == 0
        (removal,) = (await z.data("GET", "/removals/"))["removals"]
        assert (removal["id"], removal["fingerprint"]) == (CELL, KEYS[0])


async def test_a_removed_cell_that_holds_nothing_is_forgotten_and_one_with_instances_stays(
    tmp_path: Path,
) -> None:
    async with zone(tmp_path) as z:
        await let_in(z, PEER)
        guest = await z.guest()
        await z.data("DELETE", f"/members/cell/{CELL}")
        assert [cell["name"] for cell in await z.data("GET", "/compute_pool_cells/default")] == [CELL]
        assert (await z.data("GET", f"/guests/{guest}"))["created"]
    async with zone(tmp_path / "empty") as z:
        await let_in(z, PEER)
        await z.data("DELETE", f"/members/cell/{CELL}")
        assert await z.data("GET", "/compute_pool_cells/default") == []


async def test_who_cannot_be_removed(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        await let_in(z, SCHEDULER)
        assert (await z.error("DELETE", "/members/scheduler/main"))[0] == 409
        assert (await z.error("DELETE", "/members/cell/none"))[0] == 404
        assert (await z.error("DELETE", "/members/king/main"))[0] == 400
        assert [one["id"] for one in (await z.data("GET", "/members/?role=scheduler"))["members"]] == ["main"]
        assert (await z.data("GET", "/members/?role=cell"))["total"] == 0
