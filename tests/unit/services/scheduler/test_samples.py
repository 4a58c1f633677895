"""The newest samples: late ones change nothing, slow followers get the newest."""

from nano.model.pool import Usage
from services.scheduler.samples import Samples


def sample(subject: str, at_ms: int) -> Usage:
    return Usage(subject, at_ms, 1.0, 1, 2, 3, 4, 5, 6, 7, 8)


async def test_whoever_follows_gets_what_is_known_and_then_what_comes() -> None:
    newest: dict[str, Usage] = {}
    samples = Samples(newest)
    samples.heard([sample("a", 10), sample("b", 10)])
    batches = samples.follow()
    assert await anext(batches) == [sample("a", 10), sample("b", 10)]
    samples.heard([sample("a", 12)])
    assert await anext(batches) == [sample("a", 12)]


async def test_a_late_sample_changes_nothing() -> None:
    newest: dict[str, Usage] = {}
    samples = Samples(newest)
    samples.heard([sample("a", 10)])
    samples.heard([sample("a", 9)])
    assert newest == {"a": sample("a", 10)}


async def test_a_slow_follower_gets_the_newest_and_costs_no_more_than_one_of_each() -> None:
    samples = Samples({})
    batches = samples.follow()
    samples.heard([sample("a", 1)])
    await anext(batches)
    for moment in range(2, 100):
        samples.heard([sample("a", moment)])
    assert await anext(batches) == [sample("a", 99)]


async def test_samples_of_different_moments_come_in_batches_of_one_moment() -> None:
    samples = Samples({})
    samples.heard([sample("a", 2), sample("b", 1)])
    batches = samples.follow()
    assert [await anext(batches), await anext(batches)] == [[sample("b", 1)], [sample("a", 2)]]


async def test_what_is_forgotten_is_not_ranked_by_any_more() -> None:
    newest: dict[str, Usage] = {}
    samples = Samples(newest)
    samples.heard([sample("a", 1)])
    samples.forget("a")
    assert newest == {}
