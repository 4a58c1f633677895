"""A guest from its creation to its end, by the documented routes."""

from pathlib import Path

from tests.support.zone import zone


async def test_a_guest_is_created_and_read(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        guest = await z.guest("vm")
        print(await z.data("GET", f"/guests/{guest}"))
