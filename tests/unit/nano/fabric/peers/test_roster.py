"""Who is here, at explicit times."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nano.fabric.packets.address import Address
from nano.fabric.peers.addresses import HINTS_PER_PEER, static_addresses
from nano.fabric.peers.announcement import Announcement, Kind
from nano.fabric.peers.roster import (
    FIRST_QUERY_PAUSE_S,
    HINT_LIFETIME_S,
    LONGEST_QUERY_PAUSE_S,
    PEERS_LIMIT,
    Roster,
    State,
)
from nano.fabric.peers.roster_events import (
    Announce,
    Command,
    DialFailed,
    Event,
    Heard,
    LinkDown,
    LinkUp,
    News,
    NoLongerSought,
    Query,
    SignOfLife,
    Silent,
    Sought,
    Tick,
)
from nano.model.errors import Invalid
from nano.model.peers import Peer, Role

OWN = Peer(Role.SCHEDULER, "main")
CELL = Peer(Role.CELL, "c1")
HOME, AWAY, LIAR = ("10.0.0.1", 5604), ("10.0.0.2", 5604), ("10.0.0.66", 5604)


def said(
    host: str = HOME[0],
    *,
    peer: Peer = CELL,
    port: int = 5604,
    kind: Kind = Kind.HERE,
    zone: str = "z",
    domain: str = "nano",
) -> Heard:
    return Heard(Announcement(kind, zone, domain, peer.role, peer.id, port), host)


def roster(*, static: dict[Peer, Address] | None = None) -> Roster:
    return Roster("z", OWN, static=static)


def told(news: News) -> list[Command]:
    return [Announce(CELL, news)]


LIVES: list[tuple[str, list[tuple[Event, list[Command]]], State | None]] = [
    ("heard", [(said(), told(News.FOUND))], State.KNOWN),
    (
        "heard again: worth another dial",
        [(said(), told(News.FOUND)), (said(), told(News.FOUND))],
        State.KNOWN,
    ),
    ("who asks is here", [(said(kind=Kind.QUERY), told(News.FOUND))], State.KNOWN),
    ("heard elsewhere", [(said(), told(News.FOUND)), (said(AWAY[0]), told(News.MOVED))], State.KNOWN),
    ("joined unheard", [(LinkUp(CELL), told(News.JOINED))], State.JOINED),
    ("hints are no news while joined", [(LinkUp(CELL), told(News.JOINED)), (said(), [])], State.JOINED),
    (
        "lost",
        [(LinkUp(CELL, HOME), told(News.JOINED)), (LinkDown(CELL, False), told(News.LOST))],
        State.KNOWN,
    ),
    ("left", [(LinkUp(CELL, HOME), told(News.JOINED)), (LinkDown(CELL, True), told(News.LEFT))], State.KNOWN),
    (
        "one that only dialled us and is gone leaves no trace",
        [(LinkUp(CELL), told(News.JOINED)), (LinkDown(CELL, False), told(News.LOST))],
        None,
    ),
    (
        "suspected and heard again",
        [
            (LinkUp(CELL, HOME), told(News.JOINED)),
            (Silent(CELL), told(News.SUSPECT)),
            (Silent(CELL), []),
            (SignOfLife(CELL), told(News.JOINED)),
            (SignOfLife(CELL), []),
        ],
        State.JOINED,
    ),
    (
        "suspected, then lost",
        [
            (LinkUp(CELL, HOME), told(News.JOINED)),
            (Silent(CELL), told(News.SUSPECT)),
            (LinkDown(CELL, False), told(News.LOST)),
        ],
        State.KNOWN,
    ),
    (
        "a second link before the first is given up: never lost",
        [
            (LinkUp(CELL, HOME), told(News.JOINED)),
            (Silent(CELL), told(News.SUSPECT)),
            (LinkUp(CELL, HOME), told(News.JOINED)),
            (LinkDown(CELL, False), []),
        ],
        State.JOINED,
    ),
    (
        "dialled again elsewhere",
        [
            (LinkUp(CELL, HOME), told(News.JOINED)),
            (LinkUp(CELL, AWAY), told(News.MOVED)),
            (LinkDown(CELL, False), []),
        ],
        State.JOINED,
    ),
    (
        "a shouted good-bye is no end of a link",
        [
            (said(), told(News.FOUND)),
            (LinkUp(CELL, HOME), told(News.JOINED)),
            (said(kind=Kind.LEAVING), []),
        ],
        State.JOINED,
    ),
    (
        "a shouted good-bye takes the hint back",
        [(said(), told(News.FOUND)), (said(kind=Kind.LEAVING), [])],
        None,
    ),
    ("the good-bye of a stranger", [(said(kind=Kind.LEAVING), [])], None),
    (
        "silence of a stranger",
        [(Silent(CELL), []), (SignOfLife(CELL), []), (LinkDown(CELL, False), [])],
        None,
    ),
    ("another zone", [(said(zone="y"), [])], None),
    ("another domain", [(said(domain="other"), [])], None),
]


@pytest.mark.parametrize(("events", "state"), [life[1:] for life in LIVES], ids=[life[0] for life in LIVES])
def test_a_life(events: list[tuple[Event, list[Command]]], state: State | None) -> None:
    seen = roster()
    for now, (event, expected) in enumerate(events):
        assert seen.receive(event, float(now)) == expected, event
    assert seen.state_of(CELL) is state


def test_our_own_announcements_are_not_a_peer() -> None:
    seen = roster(static={OWN: HOME})
    assert seen.receive(said(peer=OWN), 0) == []
    assert seen.one(Role.SCHEDULER) is None
    assert seen.foreign == 0


def test_who_asks_to_be_let_in_is_no_peer() -> None:
    book = roster()
    applicant = Peer(Role.APPLICANT, "ab" * 32)
    assert book.receive(said(peer=applicant, kind=Kind.QUERY), 0) == []
    assert book.state_of(applicant) is None


def test_zones_on_one_network_are_kept_apart_and_counted() -> None:
    seen = roster()
    seen.receive(said(zone="other"), 0)
    seen.receive(said(domain="other"), 0)
    assert seen.foreign == 2
    assert seen.all(Role.CELL) == []


def test_the_latest_hint_comes_first() -> None:
    seen = roster()
    seen.receive(said(HOME[0]), 0)
    seen.receive(said(AWAY[0]), 1)
    assert seen.addresses_of(CELL) == [AWAY, HOME]
    seen.receive(said(HOME[0]), 2)
    assert seen.address_of(CELL) == HOME


def test_a_proven_address_is_not_replaced_by_a_hint() -> None:
    seen = roster()
    seen.receive(LinkUp(CELL, HOME), 0)
    for now in range(1, 50):
        seen.receive(said(LIAR[0]), now)
        assert seen.address_of(CELL) == HOME


def test_after_the_link_the_latest_hint_counts_again() -> None:
    seen = roster()
    seen.receive(LinkUp(CELL, HOME), 0)
    seen.receive(said(AWAY[0]), 1)
    seen.receive(LinkDown(CELL, graceful=False), 5)
    assert seen.addresses_of(CELL) == [AWAY, HOME]


def test_an_address_that_was_proven_is_remembered_after_a_long_link() -> None:
    seen = roster()
    seen.receive(LinkUp(CELL, HOME), 0)
    seen.receive(Tick(), 10_000)
    seen.receive(LinkDown(CELL, graceful=False), 10_000)
    seen.receive(Tick(), 10_001)
    assert seen.address_of(CELL) == HOME
    assert seen.next_at == 10_000 + HINT_LIFETIME_S


def test_a_peer_that_said_good_bye_before_its_link_ended_is_gone() -> None:
    seen = roster()
    seen.receive(LinkUp(CELL, HOME), 0)
    seen.receive(said(kind=Kind.LEAVING), 1)
    seen.receive(LinkDown(CELL, graceful=True), 1)
    assert seen.address_of(CELL) is None


def test_a_liars_address_costs_a_dial_not_the_peer() -> None:
    seen = roster()
    seen.receive(said(HOME[0]), 0)
    seen.receive(said(LIAR[0]), 1)
    seen.receive(DialFailed(CELL, LIAR), 2)
    assert seen.addresses_of(CELL) == [HOME]
    seen.receive(said(LIAR[0]), 3)
    assert seen.addresses_of(CELL) == [LIAR, HOME]


def test_a_failed_dial_beside_a_live_link_changes_nothing() -> None:
    seen = roster()
    seen.receive(LinkUp(CELL, HOME), 0)
    seen.receive(DialFailed(CELL, HOME), 1)
    assert seen.address_of(CELL) == HOME


def test_what_is_configured_comes_first_until_it_fails() -> None:
    seen = roster(static={CELL: HOME})
    assert seen.one(Role.CELL) == CELL
    seen.receive(said(AWAY[0]), 0)
    assert seen.addresses_of(CELL) == [HOME, AWAY]
    seen.receive(DialFailed(CELL, HOME), 1)
    assert seen.addresses_of(CELL) == [AWAY, HOME]
    seen.receive(LinkUp(CELL, HOME), 2)
    seen.receive(LinkDown(CELL, graceful=True), 3)
    assert seen.addresses_of(CELL) == [HOME, AWAY]


def test_what_is_configured_is_never_forgotten() -> None:
    seen = roster(static={CELL: HOME})
    seen.receive(DialFailed(CELL, HOME), 0)
    seen.receive(Tick(), 1e9)
    assert seen.address_of(CELL) == HOME


def test_a_hint_that_is_not_repeated_is_forgotten() -> None:
    seen = roster()
    seen.receive(said(HOME[0]), 0)
    seen.receive(said(AWAY[0]), 10)
    assert seen.next_at == HINT_LIFETIME_S
    seen.receive(Tick(), HINT_LIFETIME_S - 0.1)
    assert seen.addresses_of(CELL) == [AWAY, HOME]
    seen.receive(Tick(), HINT_LIFETIME_S)
    assert seen.addresses_of(CELL) == [AWAY]
    assert seen.next_at == HINT_LIFETIME_S + 10
    seen.receive(Tick(), HINT_LIFETIME_S + 10)
    assert seen.state_of(CELL) is None
    assert seen.next_at == float("inf")


def test_one_prefers_who_answers_then_the_lowest_id() -> None:
    seen = roster()
    stores = [Peer(Role.IMAGESTORE, name) for name in "cab"]
    for store in stores:
        seen.receive(said(peer=store), 0)
    assert seen.one(Role.IMAGESTORE) == Peer(Role.IMAGESTORE, "a")
    seen.receive(LinkUp(stores[0], HOME), 1)
    seen.receive(LinkUp(stores[2], HOME), 1)
    assert seen.one(Role.IMAGESTORE) == Peer(Role.IMAGESTORE, "b")
    seen.receive(Silent(stores[2]), 2)
    assert seen.one(Role.IMAGESTORE) == Peer(Role.IMAGESTORE, "c")
    assert seen.all(Role.IMAGESTORE) == sorted(stores)
    assert seen.one(Role.GATEWAY) is None


def test_somebody_missing_is_asked_for_with_growing_pauses() -> None:
    seen = roster()
    assert seen.receive(Sought(Role.CELL), 0) == [Query(Role.CELL)]
    assert seen.receive(Sought(Role.CELL), 0) == []
    assert seen.receive(Tick(), FIRST_QUERY_PAUSE_S - 0.01) == []
    asked = []
    now = 0.0
    while now < 30:
        now = seen.next_at
        assert seen.receive(Tick(), now) == [Query(Role.CELL)]
        asked.append(now)
    pauses = [after - before for before, after in itertools.pairwise(asked)]
    assert pauses == sorted(pauses)
    assert pauses[-1] == LONGEST_QUERY_PAUSE_S == max(pauses)


@pytest.mark.parametrize("found", [said(), LinkUp(CELL, HOME), NoLongerSought(CELL)])
def test_asking_ends_when_there_is_no_need(found: Event) -> None:
    seen = roster()
    seen.receive(Sought(CELL), 0)
    seen.receive(found, 0.1)
    assert [each for each in seen.receive(Tick(), 5) if isinstance(each, Query)] == []


def test_who_is_known_is_not_asked_for() -> None:
    seen = roster(static={CELL: HOME})
    assert seen.receive(Sought(CELL), 0) == []
    assert seen.receive(Sought(Role.CELL), 0) == []
    assert seen.receive(Sought(Peer(Role.CELL, "c2")), 0) == [Query(Role.CELL)]


def test_two_who_look_for_one_role_make_one_query() -> None:
    seen = roster()
    seen.receive(Sought(CELL), 0)
    seen.receive(Sought(Role.CELL), 0)
    assert seen.receive(Tick(), FIRST_QUERY_PAUSE_S) == [Query(Role.CELL)]


def test_one_name_keeps_few_addresses() -> None:
    seen = roster()
    for number in range(100):
        seen.receive(said(f"10.0.1.{number}"), number)
    assert seen.addresses_of(CELL) == [
        (f"10.0.1.{number}", 5604) for number in range(99, 99 - HINTS_PER_PEER, -1)
    ]


def test_strangers_cannot_fill_the_roster() -> None:
    seen = roster()
    for number in range(PEERS_LIMIT + 5):
        seen.receive(said(peer=Peer(Role.CELL, f"c{number}")), 0)
    assert len(seen.all(Role.CELL)) == PEERS_LIMIT
    known = Peer(Role.CELL, "c3")
    assert seen.receive(said(AWAY[0], peer=known), 1) == [Announce(known, News.MOVED)]
    proven = Peer(Role.CELL, "proven")
    assert seen.receive(LinkUp(proven, HOME), 1) == [Announce(proven, News.JOINED)]


ADDRESSES = st.sampled_from([HOME, AWAY, LIAR])
EVENTS = st.one_of(
    ADDRESSES.map(lambda at: said(at[0])),
    ADDRESSES.map(lambda at: said(at[0], kind=Kind.LEAVING)),
    st.none().map(lambda _: LinkUp(CELL)),
    ADDRESSES.map(lambda at: LinkUp(CELL, at)),
    st.booleans().map(lambda graceful: LinkDown(CELL, graceful)),
    ADDRESSES.map(lambda at: DialFailed(CELL, at)),
    st.sampled_from([Silent(CELL), SignOfLife(CELL), Tick(), Sought(CELL), NoLongerSought(CELL)]),
)


@given(st.lists(st.tuples(EVENTS, st.floats(0, 300)), max_size=30))
def test_news_alternate_and_the_proven_address_stands_whatever_happens(
    steps: list[tuple[Event, float]],
) -> None:
    seen, now, links, up = roster(), 0.0, 0, False
    proven: Address | None = None
    for event, passed in steps:
        now += passed
        match event:
            case LinkUp():
                links, proven = links + 1, event.address or proven
            case LinkDown() if links:
                links -= 1
                proven = proven if links else None
        for command in seen.receive(event, now):
            if isinstance(command, Announce) and command.news in {News.LOST, News.LEFT}:
                assert up
                up = False
            elif isinstance(command, Announce) and command.news is News.JOINED:
                up = True
        assert up is (links > 0)
        assert proven is None or seen.address_of(CELL) == proven
        assert seen.next_at > now or not isinstance(event, Tick)


@pytest.mark.parametrize(
    ("line", "peer", "address"),
    [
        (("scheduler", "10.0.0.1:5600"), Peer(Role.SCHEDULER, "main"), ("10.0.0.1", 5600)),
        (("cell/Cell_1", "[fd00::1]:5604"), Peer(Role.CELL, "Cell_1"), ("fd00::1", 5604)),
    ],
)
def test_configured_addresses_are_read(line: tuple[str, str], peer: Peer, address: Address) -> None:
    assert static_addresses(dict([line])) == {peer: address}


@pytest.mark.parametrize(
    "line",
    [
        ("emperor", "10.0.0.1:5600"),
        ("scheduler", "10.0.0.1"),
        ("scheduler", ":5600"),
        ("scheduler", "10.0.0.1:0"),
        ("scheduler", "10.0.0.1:70000"),
        ("scheduler", "10.0.0.1:http"),
        ("cell/a b", "10.0.0.1:5600"),
    ],
)
def test_a_configured_address_that_is_none_is_named(line: tuple[str, str]) -> None:
    with pytest.raises(Invalid) as refused:
        static_addresses(dict([line]))
    assert refused.value.field == f"peers.{line[0]}"
