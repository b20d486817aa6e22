"""The screens Overview, Ticks and Models: on an empty, a busy and a broken database; what they show, and escape."""

from __future__ import annotations

import asyncio
import itertools
import math
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import httpx
import pytest

from service.context import Context
from service.store.database import Database
from service.store.throughput import BUCKETS, Bucket, Span
from service.store.url import normalise
from service.web.page import account_card, formats, model_list, overview, plots, tick_list
from service.web.schemas_operations import PauseRequest
from tests.pages import Control, check, control
from tests.world import settings

pytestmark = pytest.mark.anyio

PARTS = [
    "/ui/overview/state",
    "/ui/overview/account",
    "/ui/overview/plots",
    "/ui/ticks/list",
    "/ui/models/list",
    "/ui/models/limits",
]
SCREENS = [
    "/",
    "/?window=day",
    "/?window=week",
    "/?window=nonsense",
    "/ui/ticks",
    "/ui/models",
    "/ui/cost?days=30",
    *PARTS,
]
EVIL = "<script>alert('\"x`y`')</script>"


async def busy(site: Control) -> None:
    """One video of each kind, and strangers' words wherever there can be any."""
    world = site.world
    for _ in range(3):
        await world.enqueue(input={"promptText": EVIL, "promptImage": "https://example.com/boat.jpg"})
    await world.tick()
    await world.later(minutes=1)
    await world.tick()
    await world.rows(
        """
        INSERT INTO taxiway.models (model, paused_until, reason, detail, paused_at)
        VALUES ('gen4.5', taxiway.now() + interval '59 minutes', 'no_credits', $1, taxiway.now()),
               ('all', taxiway.now() - interval '30 minutes', 'manual', $1, taxiway.now())
        ON CONFLICT (model) DO UPDATE SET paused_until = EXCLUDED.paused_until, reason = EXCLUDED.reason,
            detail = EXCLUDED.detail, paused_at = EXCLUDED.paused_at
        """,
        EVIL,
    )
    await world.rows("INSERT INTO taxiway.ticks (kind, error, counts) VALUES ($1, $1, '{\"poll\": 3}')", EVIL)
    await world.rows("INSERT INTO taxiway.ticks (kind, finished_at, counts) VALUES ('tick', taxiway.now(), NULL)")


class TestEveryScreen:
    """Whatever is in the database, a screen is a page that a browser takes as it is."""

    @pytest.mark.parametrize("who", ["admin", "viewer"])
    async def test_on_an_empty_database(self, database_url: str, who: str) -> None:
        async with control(database_url) as site:
            for path in SCREENS:
                response = await getattr(site, who).get(path, part=path in PARTS)
                assert response.status_code == 200, path
                check(response)
                assert ("<html" in response.text) == (path not in PARTS)

    @pytest.mark.parametrize("who", ["admin", "viewer"])
    async def test_on_a_busy_one_with_words_of_strangers(self, database_url: str, who: str) -> None:
        async with control(database_url) as site:
            await busy(site)
            for path in SCREENS:
                response = await getattr(site, who).get(path, part=path in PARTS)
                assert response.status_code == 200, path
                check(response)
                assert "<script>alert" not in response.text
                actions = re.findall(r'action="([^"]+)"', response.text)
                assert who == "admin" or set(actions) <= {"/logout"}

    async def test_on_one_without_a_schema(self, empty_database_url: str) -> None:
        async with control(empty_database_url) as site:
            for path in SCREENS:
                if path == "/ui/models/limits":  # which asks Runway alone
                    continue
                response = await site.admin.get(path, part=path in PARTS)
                assert response.status_code == 503
                assert "taxiway migrate" in check(response)


async def test_the_cost_of_each_user_by_day_and_model(database_url: str) -> None:
    async with control(database_url) as site:
        await site.world.enqueue(user_id="ada & co")
        await site.world.enqueue()
        await site.world.tick()
        shown = check(await site.viewer.get("/ui/cost"))
        assert "At most 50 credits ($0.50)" in shown
        assert "ada & co" in shown
        one = await site.viewer.get("/ui/cost?user_id=ada+%26+co&days=1")
        assert "At most 25 credits ($0.25)" in check(one)
        assert (await site.viewer.get("/ui/cost?days=0")).status_code == 422


class TestOverview:
    """Is it well, and what is under way."""

    async def test_all_is_well(self, database_url: str) -> None:
        async with control(database_url) as site:
            await site.world.tick()
            text = check(await site.viewer.get("/"))
            assert re.search(r"All is well No video yet\. The cron called (just now|[\d.]+\ss ago)\.", text)
            await site.world.enqueue()
            await site.world.tick()
            assert "1 video under way" in check(await site.viewer.get("/"))
            await site.world.finish()
            assert "All is well Nothing is waiting" in check(await site.viewer.get("/"))

    async def test_before_the_first_tick_it_says_what_to_call(self, database_url: str) -> None:
        async with control(database_url) as site:
            response = await site.viewer.get("/")
            assert "Worth a look" in check(response)
            assert "<code>taxiway worker</code>" in response.text

    async def test_a_cron_that_has_stopped_is_red(self, database_url: str) -> None:
        async with control(database_url) as site:
            await site.world.tick()
            await site.world.later(minutes=9)
            assert 'data-kind="bad" data-testid="last-tick"' not in (await site.viewer.get("/")).text
            await site.world.later(minutes=2)
            response = await site.viewer.get("/ui/overview/state", part=True)
            assert "This needs you" in check(response)
            assert "the cron has stopped" in response.text
            assert 'data-kind="bad" data-testid="last-tick"' in response.text

    async def test_a_paused_model_with_why_and_when_it_goes_on(self, database_url: str) -> None:
        async with control(database_url) as site:
            await busy(site)
            text = check(await site.viewer.get("/"))
            assert "This needs you" in text
            assert f"Paused, gen4.5: no_credits: {EVIL[:17]}" in text
            assert "it tries again in 59 min" in text
            assert "Paused, all models" in text
            assert "tries again with the next video" in text

    async def test_unknown_outcomes_and_the_most_they_may_have_cost(self, database_url: str) -> None:
        async with control(database_url) as site:
            site.world.faults("drop_after")
            await site.world.enqueue()
            await site.world.tick()
            text = check(await site.viewer.get("/"))
            assert "unknown outcomes 1 up to 25 credits ($0.25)" in text
            assert "attach" in text
            assert "error_code=SUBMISSION_UNKNOWN" in (await site.viewer.get("/")).text

    async def test_what_is_spent_against_what_may_be(self, database_url: str) -> None:
        async with control(database_url, max_credits_per_day=1000) as site:
            await site.world.enqueue()
            await site.world.tick()
            assert "credits spent today 25 $0.25 of 1,000 credits ($10.00) allowed" in check(await site.viewer.get("/"))

    async def test_a_missing_setting_is_named(self, database_url: str) -> None:
        async with control(database_url, runway_key=None, api_keys=()) as site:
            text = check(await site.viewer.get("/"))
            assert "RUNWAYML_API_SECRET: key missing" in text
            assert text.index("RUNWAYML_API_SECRET") < text.index("API_KEYS: not set"), "the worst comes first"
            assert "key missing" in check(await site.viewer.get("/ui/overview/account", part=True))

    async def test_it_refreshes_itself_and_less_often_where_counting_takes_long(self, database_url: str) -> None:
        async with control(database_url) as site:
            assert 'id="state" class="stack" data-every="3"' in (await site.viewer.get("/")).text
            moments = itertools.count(0, 2)  # two seconds from look to look
            app = site.viewer.client._transport.app  # type: ignore[attr-defined]
            app.state.ctx = replace(site.world.ctx, monotonic=lambda: float(next(moments)))
            part = await site.viewer.get("/ui/overview/state", part=True)
            assert 'data-every="40"' in part.text
            assert math.isclose(2 / 40, overview.LARGEST_SHARE)


def answering(site: Control, answer: Any) -> None:
    """From now on Runway answers the viewer's requests like this."""
    transport = httpx.MockTransport(answer)
    app = site.viewer.client._transport.app  # type: ignore[attr-defined]
    app.state.ctx = replace(site.world.ctx, transport=lambda: transport)


class TestAccount:
    """What Runway says, and that it cannot be asked."""

    async def test_credits_and_limits(self, database_url: str) -> None:
        async with control(database_url) as site:
            await site.world.enqueue()
            await site.world.tick()
            text = check(await site.viewer.get("/ui/overview/account", part=True))
            assert re.search(r"credits left 9,\d+", text)
            assert re.search(r"gen4_turbo 1 of \d+ ", text)
            assert re.search(r"data-limit-of=\"gen4_turbo\">\d+<", (await site.viewer.get("/ui/models/limits")).text)

    @pytest.mark.parametrize("answer", [httpx.Response(401, json={"error": "disabled"}), httpx.Response(500)])
    async def test_a_refusal_is_reported_and_in_flight_is_still_shown(
        self, database_url: str, answer: httpx.Response
    ) -> None:
        async with control(database_url) as site:
            await site.world.enqueue()
            await site.world.tick()
            answering(site, lambda _: answer)
            text = check(await site.viewer.get("/ui/overview/account", part=True))
            assert "Runway cannot be asked now" in text
            assert "gen4_turbo 1 limit not known" in text

    async def test_a_slow_runway_is_not_waited_for(self, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        async def never(_: httpx.Request) -> httpx.Response:
            await asyncio.Event().wait()
            raise AssertionError

        monkeypatch.setattr("service.operations.accounting.PATIENCE_SECONDS", 0.01)
        async with control(database_url) as site:
            answering(site, never)
            text = check(await site.viewer.get("/ui/overview/account", part=True))
            assert "did not answer within 0.01 s" in text

    @pytest.mark.parametrize(
        ("facts", "expected"),
        [
            ({"creditBalance": "many"}, {}),
            ({"creditBalance": 5, "tier": 3, "usage": []}, {}),
            ({"creditBalance": 5, "tier": {"models": {"a": {"maxConcurrentGenerations": None}, "b": 7}}}, {"a"}),
        ],
    )
    async def test_any_shape_is_taken(self, facts: dict[str, Any], expected: set[str]) -> None:
        url = "postgresql://nobody@127.0.0.1:1/nothing"
        transport = httpx.MockTransport(lambda _: httpx.Response(200, json=facts))
        ctx = Context(settings(url), Database(normalise(url)), transport=lambda: transport)
        seen = await account_card.ask(ctx)
        assert set(seen.limits) == set(expected)
        assert seen.checks


class TestTicks:
    """The last ticks, and the button that runs one."""

    async def test_one_runs_now_and_is_reported(self, database_url: str) -> None:
        async with control(database_url) as site:
            video = await site.world.enqueue()
            for part in (True, False):
                response = await site.admin.post("/ui/ticks/run", part=part)
                assert response.status_code == 200
                text = check(response)
                assert "One tick ran in" in text
                ran = re.findall(r"One tick ran in [\d.a-z ]+: ([^.]+)\.", text)
                assert ran == ["1 claimed, 1 accepted" if part else "nothing to do"]
            assert (await site.world.row(video))["status"] == "processing"
            kinds = [row["kind"] for row in await site.world.rows("SELECT kind FROM taxiway.ticks")]
            assert kinds == [tick_list.MANUAL] * 2

    async def test_a_step_that_fails_is_reported(self, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        async def broken(*_: object, **__: object) -> dict[str, int]:
            raise RuntimeError("no")

        monkeypatch.setattr("service.steps.submit.run_once", broken)
        async with control(database_url) as site:
            await site.world.enqueue()
            text = check(await site.admin.post("/ui/ticks/run", part=True))
            assert "The step submit failed: RuntimeError" in text
            assert "submit: RuntimeError" in check(await site.viewer.get("/ui/ticks"))

    async def test_without_a_key_it_says_so(self, database_url: str) -> None:
        async with control(database_url, runway_key=None) as site:
            response = await site.admin.post("/ui/ticks/run", part=True)
            assert response.status_code == 503
            assert "RUNWAYML_API_SECRET" in check(response)
            assert response.headers["hx-reselect"] == ".notice"

    async def test_idle_ticks_are_one_line(self, database_url: str) -> None:
        async with control(database_url) as site:
            for _ in range(4):
                await site.world.tick()
            text = check(await site.viewer.get("/ui/ticks"))
            assert "4 ticks with nothing to do" in text

    def test_what_is_grouped_and_what_is_not(self) -> None:
        def one(kind: str, counts: dict[str, Any], error: str | None = None) -> dict[str, Any]:
            return {"kind": kind, "counts": counts, "error": error}

        idle, worked = one("tick", {"poll": {"polled": 0}}), one("tick", {"poll": {"polled": 2, "not_found": 1}})
        groups = tick_list.grouped([idle, idle, worked, idle, one("poll", {}), one("tick", {}, "x"), idle, idle])
        assert [len(group) for group in groups] == [2, 1, 1, 1, 1, 2]
        assert groups[1][0]["did"] == "2 polled, 1 not found"


class TestModels:
    """Pause and resume, as over the API."""

    async def test_pause_and_resume(self, database_url: str) -> None:
        async with control(database_url) as site:
            await site.world.enqueue()
            asked = {"model": "gen4_turbo", "seconds": "3600", "why": EVIL}
            response = await site.admin.post("/ui/models/pause", part=True, **asked)
            assert "Paused: gen4_turbo for 1 h" in check(response)
            assert (await site.world.tick())["submit"].get("claimed", 0) == 0
            listed = (await site.viewer.get("/ui/models/list", part=True)).text
            assert "manual" in listed
            assert "/ui/models/resume" not in listed
            assert 'value="gen4_turbo"' in (await site.admin.get("/ui/models/list", part=True)).text
            for words_ in ("Resumed: gen4_turbo", "Open already: gen4_turbo"):
                assert words_ in check(await site.admin.post("/ui/models/resume", part=True, model="gen4_turbo"))
            await site.world.tick()
            assert len(site.world.creates) == 1

    async def test_without_scripts_the_screen_comes_anew(self, database_url: str) -> None:
        async with control(database_url) as site:
            response = await site.admin.post("/ui/models/pause", model="all", seconds="300")
            assert (response.status_code, response.headers["location"]) == (303, "/ui/models")
            page = await site.admin.get("/ui/models")
            assert "paused manually" in check(page)
            # What is paused as a whole is open nowhere.
            assert "waits all models are paused" in check(page)
            assert ">open<" not in page.text

    @pytest.mark.parametrize(
        ("fields", "status"),
        [
            ({"model": "nothing", "seconds": "60"}, 404), ({"seconds": "60"}, 404),
            ({"model": "all", "seconds": "0"}, 422), ({"model": "all", "seconds": "NaN"}, 422),
            ({"model": "all", "seconds": "1e99"}, 422), ({"model": "all", "why": "\0"}, 422),
        ],
    )  # fmt: skip
    async def test_nonsense_is_refused_in_place(self, database_url: str, fields: dict[str, str], status: int) -> None:
        async with control(database_url) as site:
            response = await site.admin.post("/ui/models/pause", part=True, **fields)
            assert response.status_code == status
            check(response)
            assert response.headers["hx-retarget"] == "#notice"
            assert await site.world.rows("SELECT FROM taxiway.models WHERE reason IS NOT NULL") == []

    def test_every_pause_on_offer_is_allowed(self) -> None:
        for seconds in model_list.PAUSES_SECONDS:
            assert PauseRequest(seconds=seconds).seconds == seconds


def bucket(index: int, **values: Any) -> Bucket:
    """One of a series, empty unless told."""
    empty: dict[str, Any] = {"enqueued": 0, "completed": 0, "failed": 0}
    nothing: dict[str, Any] = dict.fromkeys(("submit_p50", "submit_p95", "done_p50", "done_p95"))
    return Bucket(**(empty | nothing | {"at": datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=index)} | values))


class TestPlots:
    """Geometry: inside its frame, in proportion, and with gaps where there is nothing."""

    @pytest.mark.parametrize("most", [0, 1, 5, 6, 7, 10, 11, 49, 50, 99, 1_000, 123_456])
    def test_counts_stay_inside_and_in_proportion(self, most: int) -> None:
        series = [bucket(0, enqueued=most), bucket(1, completed=most - most // 3, failed=most // 3), bucket(2)]
        plot = plots.ended(series, Span.HOUR)
        assert f"{most:,} enqueued" in plots.enqueued(series, Span.HOUR).words
        assert all(bar.y >= plots.TOP and bar.y + bar.height <= plot.foot + 0.1 for bar in plot.bars)
        assert all(plot.left <= bar.x and bar.x + bar.width <= plot.right for bar in plot.bars)
        assert 2 <= len(plot.up) <= 6
        assert [mark.at for mark in plot.up] == sorted((mark.at for mark in plot.up), reverse=True)
        gaps = {round(before.at - after.at) for before, after in pairwise(plot.up)}
        assert max(gaps) - min(gaps) <= 1
        piled = sum(bar.height for bar in plot.bars)
        top = int(plot.up[-1].text.replace(",", ""))
        assert piled == pytest.approx(most / top * (plot.foot - plots.TOP), abs=0.5)

    def test_times_are_put_in_words_and_drawn_with_gaps(self) -> None:
        known = {"submit_p50": 0.01, "submit_p95": 2.0, "done_p50": 59.0, "done_p95": 4_000.0}
        plot = plots.times([bucket(0, **known), bucket(1, **known), bucket(2), bucket(3, **known)], Span.DAY)
        assert len(plot.curves) == 4
        for curve in plot.curves:
            assert curve.path.count("M") == 1
            assert len(curve.dots) == 1
            heights = [float(y) for y in re.findall(r" (-?[\d.]+)", curve.path)]
            assert all(plots.TOP <= y <= plot.foot for y in heights)
        assert "time to complete, p95 at most 1 h 6 min" in plot.words
        assert [mark.text for mark in plot.up] == ["0.1 s", "1 s", "10 s", "1 min", "10 min", "1 h", "10 h"]

    @pytest.mark.parametrize("value", [0.0, 0.1, 1.0, 864_000.0, 9_000_000.0])
    def test_the_ends_of_the_scale(self, value: float) -> None:
        plot = plots.times([bucket(0, done_p50=value)], Span.WEEK)
        (dot,) = plot.curves[2].dots
        assert plots.TOP <= dot[1] <= plot.foot

    @pytest.mark.parametrize("window", list(Span))
    def test_nothing_at_all(self, window: Span) -> None:
        for series in ([], [bucket(i) for i in range(BUCKETS[window][1])]):
            assert plots.times(series, window).words == f"Nothing ended in the last {window}."
            for plot in (plots.enqueued(series, window), plots.ended(series, window)):
                assert plot.bars == []
                assert plot.empty


class TestWords:
    """Numbers and times for site."""

    @pytest.mark.parametrize(
        ("seconds", "said"),
        [
            (None, "—"), (0, "0 s"), (0.04, "under 0.1 s"), (0.05, "0.1 s"), (1, "1 s"), (9.94, "9.9 s"), (-3, "0 s"),
            (10, "10 s"), (59.4, "59 s"), (60, "1 min"), (200, "3 min 20 s"), (3_600, "1 h"), (3_661, "1 h 1 min"),
            (3_605, "1 h"), (45_000, "12 h"),
            (605, "10 min"), (599, "9 min 59 s"), (86_400, "1 d"), (90_000, "1 d 1 h"), (694_861, "8 d 1 h"),
        ],
    )  # fmt: skip
    def test_duration(self, seconds: float | None, said: str) -> None:
        assert formats.duration(seconds) == said

    def test_the_rest(self) -> None:
        assert [formats.ago(None), formats.ago(1), formats.ago(60)] == ["—", "just now", "1 min ago"]
        assert [formats.credits(None), formats.credits(1234.5), formats.credits(100)] == ["—", "1,234.5", "100"]
        assert [formats.number(None), formats.number(1234)] == ["—", "1,234"]
        assert formats.when(None) == "—"
        assert 'datetime="2026-01-01T00:00:00+00:00"' in formats.when(datetime(2026, 1, 1, tzinfo=UTC))
        assert [formats.plural(1, "video"), formats.plural(2, "video")] == ["1 video", "2 videos"]
        assert formats.plural(2, "body", "bodies") == "2 bodies"
        assert [formats.money(None), formats.money(1234)] == ["—", "1,234 credits ($12.34)"]
        told = "at most 1,250 credits (of them 25 credits twice), 5 credits ($0.05), 5 credits, $0.05"
        assert formats.with_dollars(told) == (
            "at most 1,250 credits ($12.50) (of them 25 credits, $0.25 twice), 5 credits ($0.05), 5 credits, $0.05"
        )
        assert formats.breakable("A.B_<c>") == '<code class="name">A.<wbr>B_<wbr>&lt;c&gt;</code>'
        assert formats.code("a <b> `<c>` d") == "a &lt;b&gt; <code>&lt;c&gt;</code> d"
