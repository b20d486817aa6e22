"""Why a video waits: one statement for a list, and the same words in the API, the page and the command line."""

from __future__ import annotations

import re
from dataclasses import replace
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from service.docs import read
from service.operations import pausing, rhythm
from service.operations.enqueuing import build
from service.operations.waiting import Reason, waiting
from service.store import batch_rows, ticks, video_rows
from service.store import waiting_facts as store
from service.store.claim import UNLIMITED, PerUser
from service.videos import Status, Video
from service.web.schemas import VideoRequest
from tests.database import execute
from tests.invoking import printed, taxiway, terminal
from tests.pages import check, control
from tests.world import World, fetched, world

pytestmark = pytest.mark.anyio

USUAL = {"input": {"promptText": "a boat", "promptImage": "https://a.example/b.jpg"}}


async def ticked(w: World, seconds_ago: float = 1.0) -> None:
    """A tick was recorded so long ago."""
    await ticks.record(w.ctx.database, "tick", seconds_ago, {}, None)


async def why(w: World, video_id: UUID) -> dict[str, Any] | None:
    """What the API's list says that a video waits for: a GET of the video itself would submit it."""
    videos = (await w.api.get("/videos")).json()["videos"]
    shown: dict[str, Any] | None = next(one["waiting"] for one in videos if one["id"] == str(video_id))
    return shown


async def in_flight(w: World, count: int, model: str = "gen4_turbo") -> None:
    """So many creates of the model are on their way, of a process that is elsewhere."""
    await execute(
        w.url,
        f"""INSERT INTO taxiway.submissions (video_id, model, call_deadline, deadline)
            SELECT gen_random_uuid(), '{model}', taxiway.now() + interval '1 minute',
                   taxiway.now() + interval '2 minutes'
            FROM generate_series(1, {count})""",
    )


class TestReasons:
    """Each of them, and on which side of its threshold."""

    async def test_no_tick_has_run_yet(self, w: World) -> None:
        body = {"input": {"promptText": "a boat", "promptImage": "https://a.example/b.jpg"}}
        answered = (await w.api.post("/videos", json=body)).json()["waiting"]
        assert answered["reason"] == "no_tick"
        assert answered["detail"].startswith("No tick has run yet: start `taxiway worker`")
        assert (answered["until"], answered["ahead"]) == (None, 0)

    @pytest.mark.parametrize(("interval", "age", "late"), [
        (1, 59, False), (1, 62, True), (60, 295, False), (60, 305, True), (3_600, 17_900, False), (3_600, 18_100, True),
    ])  # fmt: skip
    async def test_no_tick_by_the_rhythm(self, w: World, interval: int, age: int, late: bool) -> None:
        for number in (3, 2, 1, 0):
            await ticked(w, age + number * interval)
        shown = await why(w, await w.enqueue())
        assert shown is not None
        assert shown["reason"] == ("no_tick" if late else "next_tick")
        if late:
            assert f"No tick for {rhythm.span(age)} (usually every {rhythm.span(interval)})" in shown["detail"]

    async def test_a_poll_is_no_tick(self, w: World) -> None:
        await ticks.record(w.ctx.database, "poll", 1.0, {}, None)
        shown = await why(w, await w.enqueue())
        assert shown is not None
        assert shown["reason"] == "no_tick"

    async def test_its_model_is_paused(self, w: World) -> None:
        await ticked(w)
        first, other = await w.enqueue(), await w.enqueue(
            operation="text_to_video", input={"promptText": "a", "model": "gen4.5"}
        )  # fmt: skip
        await pausing.pause(w.ctx, "gen4_turbo", 600, "the price is being checked")
        shown = await why(w, first)
        assert shown is not None
        assert (shown["reason"], shown["ahead"]) == ("model_paused", 0)
        assert shown["detail"] == "gen4_turbo is paused (manual): the price is being checked."
        assert shown["until"] is not None
        still = await why(w, other)
        assert still is not None
        assert still["reason"] == "next_tick"
        await w.later(minutes=11)
        await ticked(w)
        shown = await why(w, first)
        assert shown is not None
        assert shown["until"] is None
        assert "one video is tried with the next tick" in shown["detail"]

    async def test_all_models_are_paused_and_until_an_operator_says_so(self, w: World) -> None:
        await ticked(w)
        video_id = await w.enqueue()
        await pausing.pause(w.ctx, "all", 600, "a fair")
        await execute(w.url, "UPDATE taxiway.models SET paused_until = 'infinity' WHERE model = 'all'")
        shown = await why(w, video_id)
        assert shown is not None
        assert (shown["reason"], shown["until"]) == ("all_paused", None)
        assert shown["detail"] == "All models are paused (manual): a fair; it goes on when you resume it."

    async def test_the_budget_of_the_day(self, database_url: str) -> None:
        async with world(database_url, max_credits_per_day=30) as w:
            first, second = await w.enqueue_many(2)
            await w.tick()
            assert (await w.row(first))["status"] == "processing"
            shown = await why(w, second)
            assert shown is not None
            assert shown["reason"] == "budget"
            assert "MAX_CREDITS_PER_DAY leaves for today" in shown["detail"]
            assert shown["until"] is not None

    async def test_slots_and_how_many_are_ahead(self, w: World) -> None:
        await ticked(w)
        ids = await w.enqueue_many(4)
        await in_flight(w, 1)
        found = await waiting(w.ctx, [await video_rows.get(w.ctx.database, one) for one in ids])
        assert [found[one].reason for one in ids] == [Reason.NEXT_TICK, *[Reason.SLOTS] * 3]
        assert [found[one].ahead for one in ids] == [0, 1, 2, 3]
        assert found[ids[3]].detail == "1 of 2 gen4_turbo slots are busy, 3 videos ahead."
        await in_flight(w, 1)
        shown = await why(w, ids[0])
        assert shown is not None
        assert shown["detail"] == "2 of 2 gen4_turbo slots are busy, no video ahead."

    async def test_when_it_probably_begins_and_is_done(self, w: World) -> None:
        await ticked(w)
        ids = await w.enqueue_many(7)
        shown = await why(w, ids[6])
        assert shown is not None
        assert (shown["starts_in"], shown["ends_in"]) == (None, None), "nothing of the model has ended in the last hour"
        ended = ", ".join(f"('{one}'::uuid, {number})" for number, one in enumerate(ids[:3]))
        await execute(
            w.url,
            "UPDATE taxiway.videos v SET status = 'completed', video_url = 'https://example.com/1.mp4',"
            " submitted_at = taxiway.now() - make_interval(secs => 110 - 10 * e.number),"
            " finished_at = taxiway.now() - make_interval(secs => 50 - 10 * e.number)"
            f" FROM (VALUES {ended}) AS e(id, number) WHERE v.id = e.id",
        )
        shown = await why(w, ids[6])
        assert shown is not None
        assert (shown["ahead"], shown["starts_in"], shown["ends_in"]) == (3, 30, 90), "10 s apart, 60 s at Runway each"
        await execute(
            w.url,
            'UPDATE taxiway.maintenance SET facts = \'{"models": {"gen4_turbo": {"at_once": 2}}}\''
            " WHERE name = 'account'",
        )
        shown = await why(w, ids[6])
        assert shown is not None
        assert (shown["starts_in"], shown["ends_in"]) == (60, 120), (
            "two at once: the fourth begins with the second pair"
        )
        await pausing.pause(w.ctx, "all", 600, "a fair")
        shown = await why(w, ids[6])
        assert shown is not None
        assert shown["starts_in"] is None

    async def test_priority_and_what_waits_for_later_decide_who_is_ahead(self, w: World) -> None:
        await ticked(w)
        late = await w.enqueue()
        await w.enqueue(priority=-50)
        early = await w.enqueue(priority=50)
        await execute(
            w.url,
            f"UPDATE taxiway.videos SET run_after = taxiway.now() + interval '1 h' WHERE id = '{early}'",
        )
        shown = await why(w, late)
        assert shown is not None
        assert shown["ahead"] == 0

    async def test_its_own_time(self, w: World) -> None:
        asked = await w.enqueue(run_after="2099-01-01T00:00:00Z")
        w.faults("status=503, body=runway")
        sent_back = await w.enqueue()
        await w.tick()
        shown = await why(w, asked)
        assert shown is not None
        assert (shown["reason"], shown["ahead"]) == ("run_after", None)
        assert shown["detail"] == "It was asked to be sent later."
        assert shown["until"].startswith("2099-01-01")
        shown = await why(w, sent_back)
        assert shown is not None
        assert shown["reason"] == "run_after"
        assert shown["detail"].startswith("It is tried again after a pause: ")
        # A pause that ends before its own time is not what it waits for; one that lasts longer is.
        await pausing.pause(w.ctx, "gen4_turbo", 3_600, "a while")
        before, after = await why(w, asked), await why(w, sent_back)
        assert before is not None
        assert after is not None
        assert (before["reason"], after["reason"]) == ("run_after", "model_paused")

    async def test_an_earlier_submission(self, w: World) -> None:
        await ticked(w)
        video_id = await w.enqueue()
        await execute(
            w.url,
            f"""INSERT INTO taxiway.submissions (video_id, model, call_deadline, deadline, outcome, closed_at)
                VALUES ('{video_id}', 'gen4_turbo', taxiway.now() + interval '1 min',
                        taxiway.now() + interval '2 min', 'unknown', taxiway.now())
            """,
        )
        shown = await why(w, video_id)
        assert shown is not None
        assert shown["reason"] == "earlier_submission"

    async def test_a_row_that_was_inserted_with_sql(self, w: World) -> None:
        await ticked(w)
        [row] = await w.rows("INSERT INTO taxiway.videos (prompt, origin) VALUES ('a boat', 'table') RETURNING id")
        shown = await why(w, row["id"])
        assert shown is not None
        assert (shown["reason"], shown["ahead"]) == ("next_tick", None)

    async def test_accepted_and_not_started(self, w: World) -> None:
        video_id = await w.enqueue()
        await w.tick()
        sql = "UPDATE taxiway.videos SET poll_after = taxiway.now() + interval '1 h', task_status = '%s'"
        await execute(w.url, sql % "THROTTLED")
        shown = await why(w, video_id)
        assert shown is not None
        assert shown["reason"] == "runway_slot"
        assert shown["detail"] == "Accepted by Runway, waiting for a free slot."
        facts = """'{"credits": 1, "models": {"gen4_turbo": {"at_once": 5.0}}}'"""
        await execute(w.url, f"UPDATE taxiway.maintenance SET facts = {facts} WHERE name = 'account'")
        shown = await why(w, video_id)
        assert shown is not None
        assert shown["detail"] == "Accepted by Runway, waiting for a free slot (5 at once)."
        await execute(w.url, sql % "RUNNING")
        assert await why(w, video_id) is None

    async def test_what_has_ended_waits_for_nothing(self, w: World) -> None:
        video_id = await w.enqueue()
        await w.finish()
        assert await why(w, video_id) is None
        found = await w.api.get("/videos")
        assert found.json()["videos"][0]["waiting"] is None
        assert await waiting(w.ctx, []) == {}


def test_the_documentation_has_every_reason() -> None:
    section = read("videos").text.partition("## Why it waits")[2].partition("\n## ")[0]
    named = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    assert named == ["reason", *(reason.value for reason in Reason)]


class TestCost:
    """One statement, and a bound for what it reads."""

    async def test_one_statement_for_a_list_and_none_where_nothing_waits(
        self, w: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ids = await w.enqueue_many(5)
        those = [await video_rows.get(w.ctx.database, one) for one in ids]
        statements = fetched(w.ctx.database, monkeypatch)
        assert len(await waiting(w.ctx, those)) == 5
        assert len(statements) == 1
        assert await waiting(w.ctx, [replace(one, status=Status.FAILED) for one in those]) == {}
        assert len(statements) == 1

    async def test_ahead_is_counted_up_to_a_bound(self, w: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(store, "_FACTS", store._FACTS.replace(f"{store.MOST_AHEAD}", "3"))
        monkeypatch.setattr(store, "MOST_AHEAD", 3)
        await ticked(w)
        ids = await w.enqueue_many(6)
        those: list[Video] = [await video_rows.get(w.ctx.database, one) for one in ids]
        found = await waiting(w.ctx, those)
        assert [found[one].ahead for one in ids] == [0, 1, 2, 3, 3, 3]
        alone = [await waiting(w.ctx, [one]) for one in those]
        assert [place[one.id].ahead for place, one in zip(alone, those, strict=True)] == [0, 1, 2, 3, 3, 3]
        assert found[ids[5]].detail == "0 of 2 gen4_turbo slots are busy, 3 or more videos ahead."


class TestNew:
    """What is said of videos by the statement that stores them."""

    async def test_it_is_what_the_next_statement_says(self, w: World) -> None:
        """For several models, users, priorities and times, among and behind what is queued already."""
        await ticked(w)
        await execute(w.url, "INSERT INTO taxiway.models (model, max_in_flight, held) VALUES ('gen4_turbo', 5, 5)")
        await pausing.pause(w.ctx, "gen4.5", 600, "a fair")
        await in_flight(w, 3)
        tomorrow = (await w.rows("SELECT taxiway.now() + interval '1 day' AS at"))[0]["at"]
        in_words: dict[str, Any] = {"operation": "text_to_video", "input": {"promptText": "a", "model": "gen4.5"}}
        kinds: list[dict[str, Any]] = [
            {}, {"user_id": "ann"}, {"user_id": "bob"}, {"priority": 50}, {"priority": -50, "user_id": "ann"},
            {"run_after": tomorrow}, in_words, in_words | {"priority": 9},
        ]  # fmt: skip
        for kind in kinds:
            await w.enqueue(**kind | ({"run_after": tomorrow.isoformat()} if "run_after" in kind else {}))
        limits = PerUser(1, Decimal(20))
        new = [build(w.ctx, VideoRequest.model_validate(USUAL | kind).spec()) for kind in kinds for _ in range(2)]
        stored = await batch_rows.enqueue_and_ask(w.ctx.database, new, limits)
        asked = {row["id"]: row for row in await store.facts(w.ctx.database, list(stored), limits)}
        assert len(asked) == 2 * len(kinds)
        for video, facts in stored.values():
            later = dict(asked[video.id])
            told = {name: facts[name] for name in later}
            for row in (later, told):
                del row["at"], row["tick_age"]
            assert told == later
        assert len({facts["ahead"] for _, facts in stored.values()}) > len(kinds)

    async def test_of_a_model_that_is_new(self, w: World) -> None:
        new = [build(w.ctx, VideoRequest.model_validate(USUAL).spec()) for _ in range(3)]
        stored = await batch_rows.enqueue_and_ask(w.ctx.database, new, UNLIMITED)
        [asked, *_] = await store.facts(w.ctx.database, [new[0].id], UNLIMITED)
        assert {facts["allowed"] for _, facts in stored.values()} == {asked["allowed"]} == {2}
        assert sorted(facts["ahead"] for _, facts in stored.values()) == [0, 1, 2]

    async def test_no_more_are_counted_than_of_others(self, w: World, monkeypatch: pytest.MonkeyPatch) -> None:
        bounded = batch_rows._INSERT_AND_ASK.replace(f"{store.MOST_AHEAD}", "3")
        monkeypatch.setattr(batch_rows, "_INSERT_AND_ASK", bounded)
        for expected in ([0, 1, 2, 3, 3], [3, 3, 3, 3, 3]):
            new = [build(w.ctx, VideoRequest.model_validate(USUAL).spec()) for _ in range(5)]
            stored = await batch_rows.enqueue_and_ask(w.ctx.database, new, UNLIMITED)
            assert sorted(facts["ahead"] for _, facts in stored.values()) == expected

    async def test_a_request_is_stored_and_answered_with_one_statement(
        self, w: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        statements = fetched(w.ctx.database, monkeypatch)
        for key in ({}, {"Idempotency-Key": "one"}):
            answered = await w.api.post("/videos", json=USUAL, headers=key)
            assert answered.json()["waiting"]["reason"] == "no_tick"
        assert statements == [batch_rows._INSERT_AND_ASK] * 2


class TestEverywhere:
    """The same words at each door."""

    async def test_the_page_shows_it_in_the_list_and_for_one(self, database_url: str) -> None:
        async with control(database_url) as c:
            await ticked(c.world)
            video_id = await c.world.enqueue()
            await pausing.pause(c.world.ctx, "gen4_turbo", 600, "a fair")
            words = "gen4_turbo is paused (manual): a fair."
            assert words in check(await c.viewer.get("/ui/videos"))
            shown = check(await c.viewer.get(f"/ui/videos/{video_id}"))
            assert words in shown
            assert "It goes on in 10 min" in shown

    async def test_the_command_line(self, w: World, monkeypatch: pytest.MonkeyPatch) -> None:
        await ticked(w)
        await pausing.pause(w.ctx, "gen4_turbo", 600, "a fair")
        words = "gen4_turbo is paused (manual): a fair."
        image = "https://a.example/b.jpg"
        with terminal(monkeypatch):
            made = await taxiway(w.url, "enqueue", "--prompt", "a", "--image", image, "--no-wait")
            assert made.stdout.strip().endswith(f"is queued: {words}")
            [row] = await w.rows("SELECT id FROM taxiway.videos")
            assert words in (await taxiway(w.url, "show", row["id"])).stdout
            assert words in (await taxiway(w.url, "videos")).stdout
        [listed] = printed(await taxiway(w.url, "videos"))
        assert listed["waiting"]["reason"] == "model_paused"
        [whole] = printed(await taxiway(w.url, "show", row["id"]))
        assert whole["video"]["waiting"]["detail"] == words
