"""Whom a handshake is believed to be with: whatever is shown, a peer or a refusal comes out."""

import warnings
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.utils import CryptographyDeprecationWarning
from hypothesis import given
from hypothesis import strategies as st

from nano.fabric.identity.authority import Authority
from nano.fabric.identity.credentials import Credentials
from nano.fabric.identity.identity import Identity, Usage
from nano.model.errors import Untrusted
from nano.model.peers import Peer, Role
from tests.support.certificates import certificate_of, issue, make_zone, shut_out

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def zone(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_zone(tmp_path_factory.mktemp("zone"), now=NOW)


@pytest.fixture(scope="module")
def cell(zone: Authority) -> Identity:
    return issue(zone, Role.CELL, "c1", now=NOW)


@pytest.fixture(scope="module")
def scheduler(zone: Authority) -> Credentials:
    return Credentials.load(issue(zone, Role.SCHEDULER, "main", now=NOW), lambda: NOW)


def test_a_member_is_who_its_certificate_names(scheduler: Credentials, cell: Identity) -> None:
    for applicants in (False, True):
        shown = [certificate_of(cell)]
        found = scheduler.verify(shown, Usage.CLIENT, None, None, applicants=applicants)
        assert found == Peer(Role.CELL, "c1")


def test_who_shows_nothing_is_nobody(scheduler: Credentials) -> None:
    with pytest.raises(Untrusted, match="no certificate"):
        scheduler.verify([], Usage.CLIENT, None, None, applicants=True)


@given(data=st.data())
def test_a_certificate_with_any_byte_changed_is_refused(
    scheduler: Credentials, cell: Identity, data: st.DataObject
) -> None:
    """Where it can still be parsed at all: what lies deeper is read only when somebody asks for it.

    But for one byte that says nothing: how many bits at the signature's end are no part of its encoding, when
    those are zero anyway.
    """
    certificate = certificate_of(cell)
    der = bytearray(certificate.public_bytes(Encoding.DER))
    unused_bits = len(der) - len(certificate.signature) - 1
    at = data.draw(st.integers(0, len(der) - 1).filter(lambda at: at != unused_bits))
    der[at] ^= data.draw(st.integers(1, 255))
    try:
        with warnings.catch_warnings():  # of a serial number that became negative: read all the same
            warnings.simplefilter("ignore", CryptographyDeprecationWarning)
            shown = [x509.load_der_x509_certificate(bytes(der))]
    except (ValueError, x509.InvalidVersion):
        return
    with pytest.raises(Untrusted):
        scheduler.verify(shown, Usage.CLIENT, None, None, applicants=True)


def test_a_scheduler_whose_own_authority_is_trusted_no_more_still_takes_links(tmp_path: Path) -> None:
    zone = make_zone(tmp_path, now=NOW)
    own = issue(zone, Role.SCHEDULER, "main", now=NOW)
    new = zone.make_next(NOW)
    zone.follow([new])
    credentials = Credentials.load(own, lambda: NOW)
    configuration = credentials.configuration(
        dials=None, datagram_bytes=1200, idle_timeout_s=5, shows_authority=True
    )
    assert configuration.certificate_chain == []


def test_behind_a_schedulers_certificate_stands_its_authority(
    scheduler: Credentials, zone: Authority
) -> None:
    configuration = scheduler.configuration(
        dials=None, datagram_bytes=1200, idle_timeout_s=5, shows_authority=True
    )
    assert configuration.certificate_chain == [zone.certificate]


def test_a_key_that_was_shut_out_is_refused_in_every_part(zone: Authority, tmp_path: Path) -> None:
    own, removed = issue(zone, Role.CELL, "c8", now=NOW), issue(zone, Role.CELL, "c9", now=NOW)
    shut_out(zone, own, removed)
    credentials = Credentials.load(own, lambda: NOW)
    for usage in Usage:
        with pytest.raises(Untrusted, match="was removed from the zone"):
            credentials.verify([certificate_of(removed)], usage, None, None, applicants=True)
