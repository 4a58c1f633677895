"""Who waits at the zone's door, over REST: listed by key, admitted by code, refused."""

from pathlib import Path

from nano.model.membership import Applicant
from nano.model.peers import Role
from tests.support.zone import Zone, zone

CELL = "Cell_00163e0000aa"
KEYS = ("a1" * 32, "a2" * 32, "b3" * 32)


async def waiting(z: Zone, *keys: str, name: str = CELL, present: bool = True) -> None:
    for number, key in enumerate(keys):
        applicant = Applicant(key, Role.CELL, name, "10.9.8.9", "7K2M-Q0XD", number, present)
        z.scheduler.commit(*z.scheduler.book.membership.applied(applicant))
    await z.gateway.bell.until(lambda: set(keys) <= set(z.gateway.view.applicants), 5.0)


async def test_two_that_claim_one_name_are_two_and_one_is_admitted_by_its_code(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        await waiting(z, KEYS[0], KEYS[1])
        page = await z.data("GET", "/applicants/")
        assert page["total"] == 2
        assert page["applicants"][0] == {
            "fingerprint": KEYS[0],
            "role": "cell",
            "id": CELL,
            "host": "10.9.8.9",
            "code": "7K2M-Q0XD",
            "since_ms": 0,
            "present": True,
            "refused_until_ms": 0,
        }
        number, text = await z.error("POST", "/applicants/a", {})
        assert (number, "give more" in text) == (409, True)
        number, text = await z.error("POST", "/applicants/a1", {"code": "0000-0000"})
        assert (number, "somebody stands in between" in text) == (409, True)
        assert await z.data("POST", "/applicants/a1", {"code": "7k2mq0xd"}) == ""
        assert [one["fingerprint"] for one in (await z.data("GET", "/applicants/"))["applicants"]] == [
            KEYS[1]
        ]
        found = (await z.data("GET", "/members/"))["members"]
        assert [(one["id"], one["fingerprint"], one["how"]) for one in found] == [(CELL, KEYS[0], "admitted")]


async def test_applicants_are_narrowed_and_paged(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        await waiting(z, KEYS[0], KEYS[1])
        await waiting(z, KEYS[2], name="Cell_other", present=False)

        async def keys(query: str) -> list[str]:
            return [one["fingerprint"] for one in (await z.data("GET", f"/applicants/{query}"))["applicants"]]

        assert await keys(f"?name={CELL}") == [KEYS[0], KEYS[1]]
        assert await keys("?present=false") == [KEYS[2]]
        assert len(await keys("?limit=1")) == 1
        assert (await z.error("GET", "/applicants/?present=maybe"))[0] == 400


async def test_a_refused_one_is_told_so_and_stays_to_be_read(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        await waiting(z, KEYS[0])
        assert await z.data("DELETE", f"/applicants/{KEYS[0]}") == ""
        (found,) = (await z.data("GET", "/applicants/"))["applicants"]
        assert found["refused_until_ms"] > z.gateway.now_ms()
        assert (await z.error("DELETE", "/applicants/ff"))[0] == 404


async def test_a_pending_cell_is_not_let_in_by_being_put_into_a_pool(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        await waiting(z, KEYS[0])
        number, text = await z.error("POST", f"/compute_pool_cells/default/{CELL}")
        assert number == 409
        assert f"nanoctl cell admit {KEYS[0][:16]}" in text
        await waiting(z, KEYS[1])
        number, text = await z.error("POST", f"/compute_pool_cells/default/{CELL}")
        assert (number, "2 keys claim" in text) == (409, True)
        assert not z.scheduler.book.membership.members
        await z.data("POST", f"/applicants/{KEYS[1]}", {})
        assert await z.data("POST", f"/compute_pool_cells/default/{CELL}") == ""
        assert (await z.data("GET", f"/compute_pool_cells/default/{CELL}"))["alive"] is False


async def test_by_first_use_the_route_lets_in_the_only_key_that_claims_the_name(tmp_path: Path) -> None:
    async with zone(tmp_path, first_use=True) as z:
        await waiting(z, KEYS[0], KEYS[1])
        assert (await z.error("POST", f"/compute_pool_cells/default/{CELL}"))[0] == 409
        await z.data("DELETE", f"/applicants/{KEYS[1]}")
        assert (await z.error("POST", f"/compute_pool_cells/none/{CELL}"))[0] == 404
        assert not z.scheduler.book.membership.members
        assert await z.data("POST", f"/compute_pool_cells/default/{CELL}") == ""
        (member,) = (await z.data("GET", "/members/"))["members"]
        assert (member["fingerprint"], member["how"]) == (KEYS[0], "first-use")
        assert CELL in [cell["name"] for cell in await z.data("GET", "/compute_pool_cells/default")]


async def test_by_first_use_nobody_gets_the_name_of_a_cell_that_is_known(tmp_path: Path) -> None:
    known = "Cell_001122334455"
    async with zone(tmp_path, first_use=True) as z:
        await z.data("DELETE", f"/compute_pool_cells/default/{known}")
        await waiting(z, KEYS[0], name=known)
        assert (await z.error("POST", f"/compute_pool_cells/default/{known}"))[0] == 409
        assert not z.scheduler.book.membership.members
