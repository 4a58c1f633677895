"""Templates by the documented routes."""

from pathlib import Path

from tests.support.zone import zone


async def test_templates_are_listed_and_read(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        listed = await z.data("GET", "/templates/")
        legacy = next(one for one in listed if one["name"] == "Legacy")
        assert set(legacy) == {"id", "name", "operating_system", "created_time", "modified_time"}
        found = await z.data("GET", f"/templates/{legacy['id']}")
        assert found == {
            **legacy,
            "admin": "root",
            "disk": "ide",
            "network": "rtl8139",
            "display": "cirrus",
            "control": "vnc",
        }
        assert (await z.error("GET", "/templates/none"))[0] == 404
