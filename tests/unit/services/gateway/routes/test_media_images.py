"""Media images by the documented routes."""

from pathlib import Path

from nano.model.ids import ImageId
from tests.support.zone import zone

ISO = bytes(0x8000) + b"\x01CD001" + bytes(2048 * 4)
"""A primary volume descriptor where ISO 9660 puts it."""
RECORD = {"name": "setup disc", "owner": "admin", "group": "admin", "tags": ["linux"]}


async def test_a_media_image_is_registered_uploaded_found_and_deleted(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        image = (await z.data("POST", "/media_images/", RECORD))["id"]
        assert await z.data("GET", f"/media_images/{image}") == {
            "name": "setup disc",
            "description": "",
            "size": 0,
            "tags": ["linux"],
        }
        answer = await z.upload("media", image, ISO)
        assert answer.json()["error_code"] == 0, answer.text
        listed = await z.data("GET", "/media_images/")
        assert [(one["id"], one["size"]) for one in listed] == [(image, len(ISO))]
        assert await z.data("GET", "/media_image_search/?owner=admin") == listed
        assert await z.data("GET", "/media_image_search/") == []
        assert await z.data("DELETE", f"/media_images/{image}") == ""
        assert await z.data("GET", "/media_images/") == []


async def test_a_media_image_is_edited_member_by_member(tmp_path: Path) -> None:
    """What is absent or empty keeps its value (REST document, ImageModify)."""
    async with zone(tmp_path) as z:
        image = (await z.data("POST", "/media_images/", RECORD))["id"]
        given = {"name": "", "owner": "", "group": "", "description": "first", "tags": []}
        assert await z.data("PUT", f"/media_images/{image}", given) == ""
        assert await z.data("PUT", f"/media_images/{image}", {"name": "disc", "description": ""}) == ""
        assert await z.data("GET", f"/media_images/{image}") == {
            "name": "disc",
            "description": "first",
            "size": 0,
            "tags": ["linux"],
        }
        assert (await z.error("PUT", f"/media_images/{image}", {"owner": "else"}))[0] == 501
        assert (await z.error("PUT", "/media_images/none", {"name": "x"}))[0] == 404


async def test_the_search_is_signed_like_all_others(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        answer = await z.client.get("/api/v1/media_image_search/?owner=admin")
        assert answer.json() == {"error_code": 401, "message": "authorization required", "data": {}}


async def test_a_media_image_is_no_disk_image(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        image = (await z.data("POST", "/media_images/", RECORD))["id"]
        assert (await z.error("GET", f"/disk_images/{image}"))[0] == 404
        assert (await z.error("DELETE", f"/disk_images/{image}"))[0] == 404
        assert (await z.error("GET", f"/media_images/{image[:-1]}"))[0] == 404


async def test_a_media_image_is_not_edited_while_its_file_is_uploaded(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        image = (await z.data("POST", "/media_images/", RECORD))["id"]
        z.imagestore.commit(*z.imagestore.book.begin_upload(ImageId(image)))
        await z.gateway.bell.until(lambda: z.gateway.view.images[ImageId(image)].uploading, 5)
        number, text = await z.error("PUT", f"/media_images/{image}", {"name": "other"})
        assert (number, "uploaded" in text) == (409, True)
