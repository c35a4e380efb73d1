"""W3C trace context: read as the recommendation says, handed on, and kept apart from what nobody traces."""

from __future__ import annotations

import asyncio
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixelmill import tracing
from pixelmill.errors import CorruptImage
from pixelmill.tracing import Span, TraceContext, from_text, parse, parse_state

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GOOD = f"00-{TRACE}-{SPAN}-01"

ids = st.integers(1, 2**128 - 1).map(lambda number: f"{number:032x}")
spans = st.integers(1, 2**64 - 1).map(lambda number: f"{number:016x}")
keys = st.from_regex(r"[a-z][a-z0-9_\-*/]{0,20}", fullmatch=True) | st.from_regex(
    r"[a-z0-9][a-z0-9_\-*/]{0,10}@[a-z][a-z0-9]{0,10}", fullmatch=True
)
values = st.from_regex(r"[!-+\--<>-~]{1,20}", fullmatch=True)
states = st.dictionaries(keys, values, max_size=10).map(
    lambda members: ",".join(f"{key}={value}" for key, value in members.items())
)


class Kept:
    """A sink."""

    def __init__(self) -> None:
        self.spans: list[Span] = []

    def ended(self, span: Span) -> None:
        self.spans.append(span)


@pytest.fixture
def kept() -> object:
    sink = Kept()
    tracing.configure(sink)
    yield sink
    tracing.configure(None)


@given(ids, spans, st.booleans(), states)
def test_text_and_headers_are_read_back(trace: str, span: str, sampled: bool, state: str) -> None:
    context = TraceContext(trace, span, sampled, parse_state(state))
    assert from_text(context.to_text()) == context
    headers = context.headers()
    assert parse(headers["traceparent"], headers.get("tracestate", "")) == context
    child = context.child()
    assert (child.trace_id, child.sampled, child.state) == (trace, sampled, context.state)
    assert child.span_id != span


@given(st.text(max_size=80) | st.text(string.hexdigits + "-", min_size=50, max_size=60), st.text(max_size=600))
def test_whatever_comes_is_a_context_or_none(parent: str, state: str) -> None:
    found = parse(parent, state)
    assert found is None or from_text(found.to_text()) == found


@pytest.mark.parametrize(
    "header",
    [
        "",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE[:-1]}-{SPAN}-01",
        f"01-{TRACE}-{SPAN}-01more",
        GOOD + "\n",
        "00" * 5_000,
    ],
)
def test_what_is_no_traceparent_begins_a_new_trace(header: str) -> None:
    assert parse(header) is None


def test_flags_and_versions() -> None:
    assert parse(GOOD) == TraceContext(TRACE, SPAN, sampled=True)
    assert parse(f" {GOOD}\t") == TraceContext(TRACE, SPAN, sampled=True), "white space around a header is none of it"
    unsampled = parse(f"00-{TRACE}-{SPAN}-02")
    assert unsampled is not None
    assert not unsampled.sampled
    assert unsampled.traceparent.endswith("-00"), "flags that are not known are zero"
    newer = parse(f"cc-{TRACE}-{SPAN}-01-what-the-future-brings")
    assert newer is not None
    assert newer.traceparent == GOOD, "read as far as it is known, written as version 00"


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("congo=t61rcWkgMzE,rojo=00f067aa0ba902b7", "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7"),
        ("congo=t61rcWkgMzE , , rojo=1", "congo=t61rcWkgMzE,rojo=1"),
        ("fw529a3039@dt=FfAAAA", "fw529a3039@dt=FfAAAA"),
        ("a=b c", "a=b c"),
        ("", ""),
        ("congo", ""),
        ("Congo=1", ""),
        ("a=1,a=2", ""),
        ("a=1=2", ""),
        ("a=", ""),
        ("a=\u00e4", ""),
        (",".join(f"k{number}=1" for number in range(33)), ""),
        ("a=" + "x" * 257, ""),
    ],
)
def test_a_tracestate_is_handed_on_or_left_out(given: str, kept: str) -> None:
    assert parse_state(given) == kept
    assert parse(GOOD, given) == TraceContext(TRACE, SPAN, sampled=True, state=kept), "the parent counts in any case"


def test_of_a_long_tracestate_long_members_go_first_and_then_the_last_ones() -> None:
    long, short = "long=" + "x" * 200, [f"k{number}={'y' * 40}" for number in range(10)]
    assert parse_state(",".join([long, *short])) == ",".join(short)
    assert parse_state(",".join([long, *short, *(f"m{number}={'z' * 40}" for number in range(10))])) == ",".join(
        [*short, "m0=" + "z" * 40]
    )


def test_a_span_is_below_what_is_current(kept: Kept) -> None:
    with tracing.span("above", "server", parent=parse(GOOD)) as above:
        assert tracing.carried() == above.context.to_text()
        with tracing.part("below", attributes={"n": 1}):
            assert tracing.headers()["traceparent"].startswith(f"00-{TRACE}-")
        tracing.told("before", 1.0, 2.0)
    assert tracing.current() is None
    below, before, last = kept.spans
    assert [span.context.trace_id for span in kept.spans] == [TRACE] * 3
    assert (below.parent, before.parent, last.parent) == (above.context.span_id, above.context.span_id, SPAN)
    assert (before.start, before.end) == (1.0, 2.0)
    assert last.start <= below.start <= below.end <= last.end


def test_a_span_says_what_it_ended_with(kept: Kept) -> None:
    with pytest.raises(CorruptImage), tracing.span("run"):
        raise CorruptImage("The file is cut off.")
    assert (kept.spans[0].error, kept.spans[0].message) == ("corrupt-image", "The file is cut off.")


def test_nothing_is_kept_of_a_trace_that_its_caller_does_not_keep(kept: Kept) -> None:
    with tracing.span("above", parent=parse(GOOD[:-2] + "00")):
        assert not tracing.is_kept()
        assert tracing.headers()["traceparent"].endswith("-00")
        with tracing.part("below"):
            tracing.told("before", 1.0, 2.0)
    with tracing.span("probe", quiet=True):
        pass
    assert not kept.spans


def test_the_share_of_new_traces_that_is_kept_is_decided_by_their_ids(kept: Kept) -> None:
    tracing.configure(kept, 0.25)
    found = [tracing.begin() for _ in range(2_000)]
    assert 350 < sum(context.sampled for context in found) < 650
    assert all(context.sampled == (int(context.trace_id[16:], 16) < 2**62) for context in found)
    tracing.configure(kept, 0.0)
    assert not tracing.begin().sampled


def test_contexts_of_tasks_that_run_at_once_are_apart(kept: Kept) -> None:
    async def work(number: int) -> None:
        with tracing.span(f"run {number}"):
            await asyncio.sleep(0)
            with tracing.part(f"part {number}"):
                await asyncio.sleep(0)

    async def both() -> None:
        await asyncio.gather(*(work(number) for number in range(3)))

    asyncio.run(both())
    parents = {span.context.span_id: span.name for span in kept.spans}
    for span in kept.spans:
        if span.name.startswith("part"):
            assert parents[span.parent] == span.name.replace("part", "run")


def test_a_traced_function_is_a_span(kept: Kept) -> None:
    @tracing.traced("double")
    async def double(number: int) -> int:
        """Twice."""
        return 2 * number

    assert asyncio.run(double(4)) == 8
    assert double.__doc__ == "Twice."
    assert [span.name for span in kept.spans] == ["double"]
