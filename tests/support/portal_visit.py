"""A visitor's first minute at a portal, from within its network: first user, login, the zone's status.

    python -m tests.support.portal_visit CERTIFICATE CODE

Prints what the portal says of the zone, as JSON. It has that from the gateway.
"""

import json
import ssl
import sys

import httpx

PASSWORD = "Tide-pool 47 lanterns"


def main(certificate: str, code: str) -> None:
    trust = ssl.create_default_context(cafile=certificate)
    with httpx.Client(base_url="https://127.0.0.1:5870", verify=trust) as browser:
        browser.headers["Accept"] = "application/problem+json"
        assert "<html" in browser.get("/").raise_for_status().text
        first = {"user": "ann", "password": PASSWORD, "code": code}
        begun = browser.post("/api/v1/system/", json=first)
        assert begun.is_success, begun.text
        browser.post("/api/v1/sessions/", json={"user": "ann", "password": PASSWORD}).raise_for_status()
        zone = browser.get("/api/v1/compute_zone_status/").raise_for_status().json()["data"]
        sys.stdout.write(json.dumps(zone))


if __name__ == "__main__":
    main(*sys.argv[1:])
