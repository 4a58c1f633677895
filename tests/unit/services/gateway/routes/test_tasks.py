"""Tasks over REST: what goes on, what went on, and how it is stopped."""

from pathlib import Path

from tests.support.zone import zone


async def test_tasks_are_listed_the_newest_first_and_read(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        guest = await z.guest()
        await z.data("POST", f"/instances/{guest}", {})
        page = await z.data("GET", "/tasks/")
        assert page["total"] == 2
        assert [task["kind"] for task in page["tasks"]] == ["start_instance", "create_instance"]
        task = page["tasks"][1]
        assert task["state"] == "done"
        assert task["subject"] == guest
        assert task["progress_percent"] == 100
        assert task["error"] is None
        assert task["requester"] == z.credential.id
        assert (task["name"], task["owner"], task["group"]) == ("admin.vm", "admin", "admin")
        assert await z.data("GET", f"/tasks/{task['id']}") == task


async def test_tasks_are_narrowed_and_paged(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        first, second = await z.guest("a"), await z.guest("b")

        async def subjects(query: str) -> list[str]:
            return [task["subject"] for task in (await z.data("GET", f"/tasks/?{query}"))["tasks"]]

        assert await subjects(f"subject={first}") == [first]
        assert await subjects("state=done&limit=1") == [second]
        assert await subjects("state=done&limit=1&offset=1") == [first]
        assert await subjects("state=running") == []
        assert (await z.data("GET", "/tasks/?limit=0"))["total"] == 2


async def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    expected = [
        ("GET", "/tasks/?state=odd", 400),
        ("GET", "/tasks/?limit=-1", 400),
        ("GET", "/tasks/?offset=1e3", 400),
        ("GET", "/tasks/none", 404),
        ("DELETE", "/tasks/none", 404),
    ]
    async with zone(tmp_path) as z:
        for method, path, number in expected:
            assert (await z.error(method, path))[0] == number, path


async def test_a_task_that_has_ended_cannot_be_cancelled(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        await z.guest()
        task = (await z.data("GET", "/tasks/"))["tasks"][0]
        assert (await z.error("DELETE", f"/tasks/{task['id']}"))[0] == 409
