"""Join tokens over REST: made once, shown without their secret, revoked."""

from dataclasses import replace
from pathlib import Path

from nano.fabric.joining import join_token
from nano.model.peers import Peer, Role
from services.scheduler.membership import TokenPut
from tests.support.zone import zone

KEY = "a1" * 32


async def test_a_token_is_told_once_and_holds_what_the_other_server_needs(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        answer = await z.ask("POST", "/join_tokens/", {"role": "cell", "lifetime": 60})
        made = answer.json()["data"]
        assert answer.headers["cache-control"] == "no-store"
        carried = join_token.decode(made["token"])
        assert (carried.role, carried.id, carried.expires_ms) == (Role.CELL, "", made["expires_ms"])
        assert carried.schedulers == ("10.9.8.1:5600",)
        assert [one.hex() for one in carried.authorities] == (await z.data("GET", "/authority/"))["trusted"]
        listed = await z.ask("GET", "/join_tokens/")
        assert [one["id"] for one in listed.json()["data"]["join_tokens"]] == [made["id"]]
        for secret in (carried.secret.hex(), join_token.secret_digest(carried.secret)):
            assert secret not in listed.text
        digest = join_token.secret_digest(carried.secret)
        book = z.scheduler.book.membership
        z.scheduler.commit(*book.redeem(digest, Peer(Role.CELL, "Cell_2"), KEY, z.gateway.now_ms()))
        assert book.tokens[made["id"]].used_by == KEY


async def test_tokens_are_narrowed_paged_and_revoked(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        made = [(await z.data("POST", "/join_tokens/", {"role": role}))["id"] for role in ("cell", "gateway")]
        used = z.scheduler.book.membership.tokens[made[0]]
        z.scheduler.commit(TokenPut(replace(used, used_by=KEY)))
        z.scheduler.commit(TokenPut(replace(used, id="old", digest="x", expires_ms=1, created_ms=0)))
        await z.gateway.bell.until(lambda: "old" in z.gateway.view.join_tokens, 5.0)

        async def ids(query: str) -> list[str]:
            return [one["id"] for one in (await z.data("GET", f"/join_tokens/{query}"))["join_tokens"]]

        assert set(await ids("")) == {*made, "old"}
        assert (await ids(""))[-1] == "old"
        assert await ids("?role=gateway") == [made[1]]
        assert await ids("?state=used") == [made[0]]
        assert await ids("?state=expired") == ["old"]
        assert await ids("?state=open&limit=1") == [made[1]]
        assert await ids("?offset=2") == ["old"]
        assert await z.data("DELETE", f"/join_tokens/{made[1]}") == ""
        assert await ids("?state=open") == []


async def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        for body, field in (
            ({"role": "king"}, "role"),
            ({"role": "scheduler"}, "role"),
            ({"id": "no blanks"}, "id"),
            ({"lifetime": 0}, "lifetime"),
            ({"lifetime": 10**9}, "lifetime"),
        ):
            number, text = await z.error("POST", "/join_tokens/", body)
            assert (number, field in text) == (400, True), text
        assert (await z.error("GET", "/join_tokens/?state=odd"))[0] == 400
        assert (await z.error("DELETE", "/join_tokens/none"))[0] == 404
