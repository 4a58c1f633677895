"""Disk images by the documented routes: records, searches, uploads, downloads."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.gateway.routes import images
from tests.support.zone import GIB, Zone, digest, zone

HEAD = b"QFI\xfb" + (3).to_bytes(4, "big") + bytes(16) + GIB.to_bytes(8, "big") + bytes(480)
CONTENT = HEAD + bytes(range(256)) * 4096
"""A disk of 1 GiB in a file of about 1 MiB."""
RECORD = {"name": "base.qcow2", "owner": "admin", "group": "admin"}


async def download(z: Zone, image: str, **headers: str) -> "tuple[int, bytes, dict[str, str]]":
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = await z.ask("GET", f"/disk_images/{image}/file/", None, named)
    return answer.status_code, answer.content, dict(answer.headers)


async def test_a_disk_image_comes_back_as_it_was_sent(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        image = await z.disk_image(CONTENT)
        found = await z.data("GET", f"/disk_images/{image}")
        assert (found["created"], found["progress"], found["size"]) == (True, 100, len(CONTENT))
        status, content, headers = await download(z, image)
        assert (status, content) == (200, CONTENT)
        assert headers["content-type"] == "application/octet-stream"
        assert headers["content-transfer-encoding"] == "binary"
        assert headers["expires"] == "0"
        assert headers["cache-control"] == "no-cache, no-store, must-revalidate"
        assert headers["signature"] == digest(CONTENT)
        assert headers["content-length"] == str(len(CONTENT))
        assert headers["accept-ranges"] == "bytes"


async def test_a_broken_download_goes_on_by_range(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        image = await z.disk_image(CONTENT)
        size = len(CONTENT)
        status, content, headers = await download(z, image, range=f"bytes={size - 9}-")
        assert (status, content) == (206, CONTENT[-9:])
        assert headers["content-range"] == f"bytes {size - 9}-{size - 1}/{size}"
        assert (await download(z, image, range="bytes=3-700000"))[:2] == (206, CONTENT[3:700001])
        status, _, headers = await download(z, image, range=f"bytes={size}-")
        assert (status, headers["content-range"]) == (416, f"bytes */{size}")
        tag = (await download(z, image, range="bytes=0-0"))[2]["etag"]
        assert (await download(z, image, range="bytes=0-0", if_range=tag))[0] == 206
        assert (await download(z, image, range="bytes=0-0", if_range='"other"'))[0] == 200
        assert (await download(z, image, if_none_match=tag))[0] == 304


async def test_a_second_upload_replaces_the_first(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        image = await z.disk_image(CONTENT)
        other = HEAD + b"other"
        assert (await z.upload("disk", image, other)).json()["error_code"] == 0
        assert (await download(z, image))[1] == other


@pytest.mark.parametrize(
    ("content", "name", "number"), [(b"no disk at all", "image", 422), (CONTENT, "file", 400)]
)
async def test_an_upload_that_is_no_image_leaves_the_record_as_it_was(
    tmp_path: Path, content: bytes, name: str, number: int
) -> None:
    async with zone(tmp_path) as z:
        image = (await z.data("POST", "/disk_images/", RECORD))["id"]
        answer = await z.upload("disk", image, content, name=name)
        assert answer.json()["error_code"] in {number, 400}
        assert answer.headers["connection"] == "close"
        assert (await z.data("GET", f"/disk_images/{image}"))["created"] is False
        assert (await z.error("GET", f"/disk_images/{image}/file/"))[0] == 409
        assert (await z.upload("disk", image, CONTENT)).json()["error_code"] == 0


async def test_an_upload_to_an_unknown_image_is_refused_before_its_body(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        answer = await z.upload("disk", "none", CONTENT)
        assert answer.json()["error_code"] == 404
        assert answer.headers["connection"] == "close"


async def test_an_upload_or_download_that_is_not_signed_is_refused(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        image = await z.disk_image(CONTENT)
        for method in ("GET", "POST"):
            answer = await z.client.request(method, f"/api/v1/disk_images/{image}/file/")
            assert answer.json() == {"error_code": 401, "message": "unauthorized stream", "data": {}}


async def test_an_image_is_found_by_owner_group_and_any_tag(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        for name, tags in (("b", ["linux"]), ("a", ["linux", "64bit"]), ("c", [])):
            await z.data("POST", "/disk_images/", RECORD | {"name": name, "tags": tags})

        async def found(query: str) -> list[str]:
            return [one["name"] for one in await z.data("GET", f"/disk_image_search/?{query}")]

        assert await found("owner=admin") == ["a", "b", "c"]
        assert await found("group=admin&tags=64bit&tags=none") == ["a"]
        assert await found("tags=linux") == []
        assert await found("owner=else") == []


async def test_a_disk_image_is_edited_and_deleted(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        image = await z.disk_image(CONTENT)
        assert await z.data("PUT", f"/disk_images/{image}", {"name": "renamed"}) == ""
        assert (await z.data("GET", f"/disk_images/{image}"))["name"] == "renamed"
        assert await z.data("DELETE", f"/disk_images/{image}") == ""
        assert (await z.error("GET", f"/disk_images/{image}"))[0] == 404
        assert list((tmp_path / "images").iterdir()) == []


async def test_a_record_that_cannot_be_is_refused(tmp_path: Path) -> None:
    expected: list[tuple[dict[str, object], int, str]] = [
        ({"guest": "x"}, 501, "guest"),
        ({"name": "a b"}, 400, "name"),
        ({"name": None}, 400, "name"),
        ({"tags": "linux"}, 400, "tags"),
    ]
    async with zone(tmp_path) as z:
        for change, number, word in expected:
            found = await z.error("POST", "/disk_images/", RECORD | change)
            assert (found[0], word in found[1]) == (number, True), found


async def test_a_guest_is_cloned_from_an_uploaded_image(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        image = await z.disk_image(CONTENT)
        guest = await z.guest("clone", from_image=image)
        assert (await z.data("GET", f"/guests/{guest}"))["created"] is True


async def test_an_upload_that_stands_still_is_given_up_and_unlocks_its_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "SILENCE_S", 0.1)

    async def slow() -> AsyncIterator[bytes]:
        yield b'--b0und\r\nContent-Disposition: form-data; name="image"; filename="i"\r\n\r\n' + CONTENT
        await asyncio.sleep(0.5)
        yield b"\r\n--b0und--\r\n"

    async with zone(tmp_path) as z:
        image = (await z.data("POST", "/disk_images/", RECORD))["id"]
        target = f"/api/v1/disk_images/{image}/file/"
        signed = z.signed("POST", target, b"", {"content-type": "multipart/form-data; boundary=b0und"})
        headers = {name: value for name, value in signed.headers.items() if name != "content-length"}
        answer = await z.client.post(target, content=slow(), headers=headers)
        assert answer.json()["error_code"] == 504, answer.text
        assert (await z.upload("disk", image, CONTENT)).json()["error_code"] == 0
