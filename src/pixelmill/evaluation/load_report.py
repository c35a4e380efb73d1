"""The part of the report that tells of several users at once."""

from __future__ import annotations

from pixelmill.evaluation.charts import area, bars, ranking
from pixelmill.evaluation.crowd import fairness
from pixelmill.evaluation.document import Interactive, Load
from pixelmill.evaluation.pieces import Cell, figure, paragraphs, section, table
from pixelmill.evaluation.series import Distribution
from pixelmill.evaluation.wording import milliseconds, number, percent, ratio, seconds

MOST_BARS = 40


def load_tiles(found: Load) -> list[tuple[str, str, str]]:
    """The numbers to see first."""
    slowest, jain = fairness(found.users)
    every = found.all
    entries = [
        (f"{len(found.users):,}", "users at once", f"{found.images_per_user:,} images of {found.resolution} each"),
        (percent(every.success_rate), "success", f"{every.sent - every.succeeded:,} without a result"),
        (number(every.throughput), "images a second", "all users together"),
        (ratio(slowest), "slowest to fastest user", f"Jain's index {jain:.3f}"),
        (number(every.throttles), "throttled requests", f"{every.retries:,} sent again"),
    ]
    if found.interactive is not None and found.interactive.under_load.count:
        under = found.interactive
        entries.append(
            (
                milliseconds(under.under_load.p50),
                "single image beside it",
                f"{milliseconds(under.idle.p50)} without load",
            )
        )
    return entries


def load(found: Load) -> str:
    """Users, fairness, the queue over time, and single images beside them."""
    return "".join((_users(found), _over_time(found), _interactive(found.interactive)))


def _users(found: Load) -> str:
    ordered = sorted(found.users, key=lambda user: user.seconds)
    shown = ordered if len(ordered) <= MOST_BARS else [*ordered[: MOST_BARS // 2], *ordered[-MOST_BARS // 2 :]]
    sent = (
        "all at once, as one job" if found.rate is None else f"{number(found.rate)} a second, each as a job of its own"
    )
    owners = "an owner of its own" if found.owners else "the same owner to the service"
    rows: list[list[Cell]] = [
        [
            user.name,
            number(user.images),
            percent(100 * user.succeeded / user.images if user.images else 0.0),
            number(user.failed),
            number(user.dropped),
            number(user.throttles),
            number(user.retries),
            seconds(user.waited_s),
            seconds(user.seconds),
            number(user.total.p50),
            number(user.total.p95),
            number(user.total.max),
        ]
        for user in ordered
    ]
    header = ["user", "images", "success", "failed", "dropped", "throttles", "retries", "told to wait", "time"]
    bands = [("", 9), ("event to end, ms", 3)]
    return section(
        "users",
        "Users",
        paragraphs(
            f"Each user is {owners}, and sends its images {sent}. Time runs from its first byte to its last result."
        ),
        figure(
            "Time of each user",
            ranking(
                "Seconds from the first byte sent to the last result, by user",
                [user.name for user in shown],
                [user.seconds for user in shown],
                "s",
            ),
            "seconds" if len(shown) == len(ordered) else f"the {MOST_BARS // 2} fastest and slowest",
        ),
        table("Users, fastest first", [*header, "p50", "p95", "max"], [(None, rows)], bands=bands),
    )


def _over_time(found: Load) -> str:
    line = found.all.timeline
    ages = [1000 * age for age in line.age_s]
    peak = found.all.concurrency_peak
    pictures = [
        figure("Concurrent executions", area(f"Over time; peak {peak}", line.concurrency, line.step_s)),
        figure("Queue age", area(f"Over time; at most {milliseconds(found.all.age.max)}", ages, line.step_s, 2), "ms"),
        figure("Throughput", area("Over time", line.throughput, line.step_s, 1), "images a second"),
        figure("Durations", bars("Executions by duration", found.all.histogram, 3), "executions by ms"),
    ]
    every = found.all
    rows: list[list[Cell]] = [
        [name, *_row(numbers)]
        for name, numbers in (("duration", every.duration), ("event age", every.age), ("event to end", every.total))
    ]
    told = ", ".join(f"{reason}: {count:,}" for reason, count in every.errors.items())
    return section(
        "time",
        "All users together",
        f'<div class="charts small">{"".join(pictures)}</div>',
        table("Milliseconds", ["time", "count", "average", "p50", "p90", "p95", "p99", "max"], [(None, rows)]),
        paragraphs(f"Errors: {told}." if told else "No image failed, none was dropped."),
    )


def _row(numbers: Distribution) -> list[str]:
    parts = (numbers.average, numbers.p50, numbers.p90, numbers.p95, numbers.p99, numbers.max)
    return [number(numbers.count), *map(number, parts)]


def _interactive(found: Interactive | None) -> str:
    if found is None:
        return ""
    rows: list[list[Cell]] = [
        ["without load", *_row(found.idle)],
        ["while the users' images run", *_row(found.under_load)],
    ]
    told = ", ".join(f"{reason}: {count:,}" for reason, count in found.errors.items())
    return section(
        "interactive",
        "A single image beside it",
        paragraphs("One person sends one image after another to POST /v1/process, and waits for each answer."),
        table(
            "Milliseconds as the person sees them",
            ["when", "images", "average", "p50", "p90", "p95", "p99", "max"],
            [(None, rows)],
            note=f"Refused: {told}." if told else "",
        ),
    )
