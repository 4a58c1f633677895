"""The worked vectors A to E of the documented signature (REST document, sections 1.5 and 12.1)."""

from dataclasses import dataclass

from nano import signature
from nano.signature import Authorization, Request

ID = "dummyID"
KEY = "ThisIsAKeyPlaceHolder_ChangeToYourContent"
SCOPE = "20240716/default/nano_request"
NOW_S = 1_721_118_600.0
"""2024-07-16T08:30:00Z"""

_COMMON = {
    "host": "192.168.1.31",
    "nano-session": "5f0f2f2e-6c3c-4f57-9f0a-0c6d0c9b7a11",
    "nano-date": "2024-07-16T08:30:00Z",
    "nano-scope": SCOPE,
}


@dataclass(frozen=True)
class Vector:
    name: str
    method: str
    path: bytes
    query: bytes
    headers: dict[str, str]
    body: bytes
    signed_headers: str
    canonical_digest: str
    signature: str

    @property
    def request(self) -> Request:
        digest = signature.body_digest(self.method, self.path, self.body)
        return Request(self.path, self.query, self.headers, digest)

    @property
    def authorization(self) -> str:
        return signature.authorization_value(Authorization(ID, SCOPE, self.signed_headers, self.signature))


_PLAIN = "host;nano-session;nano-date;nano-scope"

VECTORS = (
    Vector(
        "A",
        "GET",
        b"/api/v1/guest_search/",
        b"pool=default&owner=admin&cell=a%20b~c%2F%2B",
        _COMMON,
        b"",
        _PLAIN,
        "cccbc81799cefa1b31caf7beddca47cf0e3d56390a96e6e6b5f3eaa0c38492ab",
        "0eabc57726f83e7f2da97f88ff3cc1721b01650a7052b5cd55bc2abbb7fc8e8d",
    ),
    Vector(
        "B",
        "POST",
        b"/api/v1/compute_pools/pool1",
        b"",
        {**_COMMON, "content-type": "application/json"},
        b'{"storage":"nfs1","failover":true}',
        "host;content-type;nano-session;nano-date;nano-scope",
        "842b200d6ca431d49fde04adac9933b92a33f31c105c5ae162cb665a3c391adf",
        "541371f1e5d32934215ecbfacb1e828bddbb91889e3f0075b15e1ee561bb3e22",
    ),
    Vector(
        "C",
        "POST",
        b"/api/v1/media_images/abc/file/",
        b"",
        _COMMON,
        b"any bytes at all",
        _PLAIN,
        "f92f24831d940d10ed690085cde8910caf9ee6f42d4226a09bbbc0a3c2244b93",
        "e177d80b0a43fe1594f287ed40365ef9341fec66ee886b3524e662e19881c217",
    ),
    Vector(
        "D",
        "DELETE",
        b"/api/v1/compute_pools/pool1",
        b"",
        _COMMON,
        b"",
        _PLAIN,
        "9ef899b298da1ea794344538053dc214bebe8e663133f823835a68a8c1f0a79d",
        "f7fb10784a1ee3d1fe8ae6b5c05864483103eb7c619919e26ae02b56c3ac1c39",
    ),
    Vector(
        "E",
        "GET",
        b"/api/v1/disk_image_search/",
        b"tags=linux&tags=64bit&owner=%E4%BA%91",
        {**_COMMON, "nano-session": "s"},
        b"",
        _PLAIN,
        "88939db062d5ab99f7b6a11945c2c249a27d59c5d7161efa45afa8e5f10df27e",
        "08306ccf59123b595dd22aa7eae1fdfb51589d3cb3300bc06290f55b52fe9ac0",
    ),
)
