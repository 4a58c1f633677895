"""When a certificate is renewed, on a calendar and a loop that the test owns."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from nano.fabric.identity.authority import LIFETIME, Authority, pem_of
from nano.fabric.identity.folder import RENEWED_BEFORE, IdentityFolder
from nano.fabric.identity.renewal import SPREAD_S, Renewal
from nano.fabric.identity.trust import ZoneTrust
from nano.model.peers import Peer, Role
from tests.support.certificates import make_zone

START = datetime(2026, 1, 1, tzinfo=UTC)
PEER = Peer(Role.GATEWAY, "main")


def now() -> datetime:
    """The calendar goes with the loop's virtual time."""
    return START + timedelta(seconds=asyncio.get_running_loop().time())


def grant(zone: Authority, folder: IdentityFolder, revision: int) -> None:
    request = x509.load_pem_x509_csr(folder.signing_request().encode())
    told = ZoneTrust(zone.zone.id, revision, zone.pems)
    folder.keep(pem_of(zone.issue(request, PEER, now())), told, now())


@pytest.fixture
def zone(tmp_path: Path) -> Authority:
    return make_zone(tmp_path / "zone", now=START)


@pytest.fixture
def folder(tmp_path: Path) -> IdentityFolder:
    return IdentityFolder(tmp_path / "own", PEER)


@pytest.mark.looptime
async def test_it_is_due_a_day_before_the_end(zone: Authority, folder: IdentityFolder) -> None:
    grant(zone, folder, 1)
    renewal = Renewal(folder, now)
    assert not renewal.is_due
    await renewal.due()
    left = START + LIFETIME - RENEWED_BEFORE - now()
    assert abs(left.total_seconds()) <= 1
    assert renewal.is_due


@pytest.mark.looptime
async def test_another_signer_makes_it_due_within_a_minute(zone: Authority, folder: IdentityFolder) -> None:
    grant(zone, folder, 1)
    renewal = Renewal(folder, now)
    waiting = asyncio.ensure_future(renewal.due())
    await asyncio.sleep(100)
    new = zone.make_next(now())
    zone.follow([new, zone.fingerprint])
    folder.trusts(ZoneTrust(zone.zone.id, 2, zone.pems))
    renewal.told()
    before = asyncio.get_running_loop().time()
    await waiting
    assert renewal.is_due
    assert 0 <= asyncio.get_running_loop().time() - before <= SPREAD_S
    grant(zone, folder, 2)
    assert not renewal.is_due


@pytest.mark.looptime
async def test_who_still_signs_by_the_old_one_is_not_asked_again_and_again(
    zone: Authority, folder: IdentityFolder
) -> None:
    grant(zone, folder, 1)
    new, old = zone.make_next(now()), zone.fingerprint
    zone.follow([new, old])
    folder.trusts(ZoneTrust(zone.zone.id, 2, zone.pems))
    zone.follow([old, new])
    renewal = Renewal(folder, now)
    await renewal.due()
    grant(zone, folder, 2)  # by the old one again
    before = asyncio.get_running_loop().time()
    await renewal.due()
    assert asyncio.get_running_loop().time() - before > timedelta(days=5).total_seconds()
