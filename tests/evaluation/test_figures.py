"""What a batch adds up to, which plan a command line means, and what a comparison may say."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

import pytest
from evaluation_tools import MACHINE, START, a_document, some_figures
from hypothesis import given
from hypothesis import strategies as st

from pixelmill.errors import ConfigError
from pixelmill.evaluation.comparing import COMPARED, machines_differ, with_earlier
from pixelmill.evaluation.crowd import check, fairness
from pixelmill.evaluation.document import User
from pixelmill.evaluation.figures import BY_KEY, METRICS, figures, median, middle_round
from pixelmill.evaluation.measuring import (
    Plan,
    check_bounds,
    parse_resolutions,
    parse_sizes,
    parse_triggers,
    steps,
)
from pixelmill.evaluation.observation import TRIGGERS, Harvest, Observation, Resolution
from pixelmill.evaluation.series import Distribution

# -- figures -------------------------------------------------------------------------------------


@given(st.integers(0, 40), st.integers(0, 10), st.integers(0, 10))
def test_every_event_is_counted_once(good: int, failed: int, dropped: int) -> None:
    count = good + failed + dropped
    found = some_figures(count, failed=failed, dropped=dropped)
    assert found.sent == found.succeeded + found.failed + found.dropped == count
    assert (found.failed, found.dropped, found.received) == (failed, dropped, good + failed)
    assert found.errors == Counter(["queue-full"] * dropped + ["corrupt-image"] * failed)
    assert found.own + found.overflow == found.duration.count == good + failed
    assert found.histogram == some_figures(count, failed=failed, dropped=dropped).histogram
    assert 0 <= found.success_rate <= 100


def test_an_empty_harvest_has_figures_too() -> None:
    found = figures(Harvest(()))
    assert (found.sent, found.throughput, found.success_rate, found.cold_starts) == (0, 0.0, 0.0, None)
    for metric in METRICS:
        assert metric.of(found) in (0, 0.0, None)


def test_times_are_those_between_received_started_and_ended() -> None:
    one = Observation("a.jpg", "succeeded", START, START + 1, START + 3, attempts=2, overflow=True, pixels=2_000_000)
    two = replace(one, started=START + 2, ended=START + 4, attempts=1, overflow=False)
    found = figures(Harvest((one, two)))
    assert (found.age.average, found.duration.average, found.total.max) == (1500, 2000, 4000)
    assert (found.concurrency_peak, found.span_s, found.throughput) == (2, 4, 0.5)
    assert found.concurrency_average == pytest.approx(4 / 3)
    assert (found.invocations, found.own, found.overflow, found.pixel_rate) == (3, 1, 1, 1.0)


def test_an_event_that_is_never_begun_waits_to_the_end_of_the_picture() -> None:
    done = Observation("a.jpg", "succeeded", START, START + 1, START + 4)
    never = Observation("b.jpg", "dropped", START, error="not-ended-in-time")
    ages = figures(Harvest((done, never))).timeline.age_s
    assert ages[-1] == pytest.approx(4)
    assert figures(Harvest((done,))).timeline.age_s[-1] == 0


def test_a_clock_that_went_back_gives_no_negative_time() -> None:
    odd = Observation("a.jpg", "succeeded", START + 2, START + 1, START)
    found = figures(Harvest((odd,)))
    assert (found.age.max, found.duration.max, found.total.max, found.span_s) == (0, 0, 0, 0)


def test_the_median_is_over_rounds_and_skips_what_is_not_known() -> None:
    rounds = [replace(some_figures(4), cold_starts=known, span_s=span) for known, span in ((None, 3), (2, 1), (4, 2))]
    assert median(rounds, "cold_starts") == 3
    assert median(rounds[:1], "cold_starts") is None
    assert middle_round(rounds).span_s == 2
    assert set(COMPARED) <= set(BY_KEY)


# -- plans ---------------------------------------------------------------------------------------


def test_every_batch_is_measured_once_a_round_and_configurations_take_turns() -> None:
    plan = Plan((10, 50), (Resolution(2, 1), Resolution(3, 1)), TRIGGERS, rounds=2)
    found = list(steps(plan, 2))
    assert len(found) == len(set(found)) == 2 * 2 * 2 * 2 * 2
    assert sum(step.size for step in found) == plan.images(2)
    assert [step.configuration for step in found[:4]] == [0, 1, 0, 1]
    second = [step.configuration for step in found if step.round == 1]
    assert second[:4] == [1, 0, 1, 0]
    # Files of a resolution are made once.
    assert [step.resolution for step in found] == sorted(step.resolution for step in found)


def test_what_a_plan_may_be_is_read_and_put_in_order() -> None:
    assert parse_sizes("50, 10,50") == (10, 50)
    assert parse_resolutions("2040x1536,1200X800") == (Resolution(1200, 800), Resolution(2040, 1536))
    assert parse_triggers("both") == TRIGGERS
    assert parse_triggers("manual") == ("manual",)


@pytest.mark.parametrize("text", ["", "ten", "0", "-5", "10,,50", "100001", "1.5"])
def test_wrong_sizes_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--sizes"):
        parse_sizes(text)


@pytest.mark.parametrize("text", ["", "1200", "1200x", "x800", "0x800", "15x15", "1200x99999", "1200*800", "²x3"])
def test_wrong_resolutions_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--resolutions"):
        parse_resolutions(text)


def test_what_would_never_end_is_refused() -> None:
    with pytest.raises(ConfigError, match="--trigger"):
        parse_triggers("sometimes")
    with pytest.raises(ConfigError, match="--rounds"):
        check_bounds(Plan((10,), (Resolution(1, 1),), rounds=0), 1)
    with pytest.raises(ConfigError, match=re.escape("1,200,000 images")):
        check_bounds(Plan((100_000,), (Resolution(1, 1),), TRIGGERS, rounds=6), 1)
    for users, images, rate in ((0, 1, None), (201, 1, None), (2, 0, None), (200, 1000, None), (1, 1, 0.0)):
        with pytest.raises(ConfigError):
            check(users, images, rate)


# -- comparisons ---------------------------------------------------------------------------------


def test_a_second_configuration_that_is_better_in_every_round_is_called_so() -> None:
    found = a_document(rounds=3, labels=("two", "three")).comparison
    assert found is not None
    assert found.paired
    assert {one.metric for one in found.ratios} == set(COMPARED)
    faster = [one for one in found.ratios if one.metric == "throughput" and one.size == 50]
    assert faster
    for one in faster:
        assert one.ratio is not None
        assert one.low is not None
        assert one.high is not None
        assert one.low <= one.ratio <= one.high
        assert one.verdict == "better"
    ages = [one for one in found.ratios if one.metric == "age.average" and one.size == 50]
    assert {one.verdict for one in ages} == {"better"}


def test_fewer_than_three_rounds_have_no_verdict() -> None:
    found = a_document(rounds=2, labels=("two", "three")).comparison
    assert found is not None
    assert {one.verdict for one in found.ratios} == {"once"}


def test_the_same_again_is_unclear() -> None:
    now = a_document(rounds=3)
    found = with_earlier(a_document(rounds=3), now)
    assert {one.verdict for one in found.ratios} == {"unclear", "same"}
    assert {one.metric for one in found.ratios if one.verdict == "same"} == {"success_rate"}
    assert all(one.ratio in (None, 1.0) for one in found.ratios)
    assert found.differences == ()


def test_what_else_was_not_the_same_is_told() -> None:
    now = a_document(rounds=3)
    other = replace(MACHINE, cpu="Another", versions={"Pixelmill": "0"})
    configuration = replace(now.configurations[0], machine=other, pipeline="sketch", settings={})
    earlier = replace(now, configurations=(configuration,), images="drawn", partial=True)
    found = with_earlier(earlier, now)
    assert machines_differ(found)
    told = "\n".join(found.differences)
    words = ("CPU: Another", "Pixelmill: 0 / 1", "Python: none / 3.11", "pipeline: sketch", "settings: none", "drawn")
    for word in words:
        assert word in told
    assert not machines_differ(with_earlier(now, now))


def test_only_batches_that_both_have_are_compared() -> None:
    found = with_earlier(a_document(sizes=(10, 100)), a_document(sizes=(10, 50)))
    assert {one.size for one in found.ratios} == {10}


def test_fairness_is_one_for_equals_and_less_for_others() -> None:
    def user(seconds: float) -> User:
        return User("a", 1, 1, 0, 0, {}, 0, 0, 0.0, seconds, Distribution())

    same, jain = fairness([user(2), user(2)])
    assert same == 1.0
    assert jain == pytest.approx(1.0)
    slowest, jain = fairness([user(1), user(4)])
    assert slowest == 4
    assert 0.5 < jain < 1
    assert fairness([]) == (1.0, 1.0)
