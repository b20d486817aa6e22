"""Erasing: what a user wrote goes, whatever is under way; what was paid stays."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest
from starlette.responses import Response

from service.errors import Gone
from service.operations import erasing
from service.store import claim as claims
from service.store import erasure, submissions, tasks, video_rows
from service.store.erasure import ERASED
from service.store.outcome_row import OutcomeRow
from tests.app_tables import BASE, link
from tests.database import connected, execute
from tests.invoking import complaint, printed, taxiway
from tests.pages import check, control
from tests.world import CALLBACK_SECRET, IMAGE, World, world

pytestmark = pytest.mark.anyio

MARK = "xylophone7"  # stands in everything that a user writes
ADMIN = "admin-token-for-tests-01"
WAITING = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


async def marked(url: str) -> set[str]:
    """The columns of the schema in which the mark stands, in whatever form."""
    found = set()
    async with connected(url) as connection:
        columns = await connection.fetch(
            "SELECT c.relname AS name, a.attname AS part, format_type(a.atttypid, NULL) AS kind FROM pg_attribute a "
            "JOIN pg_class c ON c.oid = a.attrelid WHERE c.relnamespace = 'taxiway'::regnamespace AND c.relkind = 'r' "
            "AND a.attnum > 0 AND NOT a.attisdropped"
        )
        for name, part, kind in columns:
            text = f"encode({part}, 'escape')" if kind == "bytea" else f"{part}::text"
            sql = f"SELECT count(*) FROM taxiway.{name} WHERE {text} ILIKE '%' || $1 || '%'"
            if await connection.fetchval(sql, MARK):
                found.add(f"{name}.{part}")
    return found


class Between(httpx.AsyncBaseTransport):
    """Runway, and something that happens to each create before its answer is there."""

    def __init__(
        self, inner: httpx.AsyncBaseTransport, happens: Callable[[], Awaitable[httpx.Response | None]]
    ) -> None:
        self.inner, self.happens = inner, happens

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self.inner.handle_async_request(request)
        return (await self.happens() if request.method == "POST" else None) or response


def between(w: World, happens: Callable[[], Awaitable[httpx.Response | None]]) -> None:
    """From now on, this happens while a create is on its way back."""
    inner = w.ctx.transport
    assert inner is not None
    w.ctx = replace(w.ctx, transport=lambda: Between(inner(), happens))


async def erase(w: World, video_id: UUID, client: httpx.AsyncClient | None = None) -> int:
    return (await (client or w.api).delete(f"/videos/{video_id}")).status_code


async def until_erased(w: World, *ids: UUID, rounds: int = 12) -> None:
    """Tick, two minutes apart, until these are erased."""
    for _ in range(rounds):
        if {(await w.row(one))["status"] for one in ids} == {"erased"}:
            return
        await w.tick()
        await w.later(minutes=2)
    raise AssertionError([dict(await w.row(one)) for one in ids])


async def kinds(w: World, video_id: UUID) -> list[tuple[str, str]]:
    """Its events that have to do with erasing, with who did it."""
    rows = await w.rows("SELECT kind, actor FROM taxiway.events WHERE video_id = $1 ORDER BY at", video_id)
    wanted = ("cancelled", "erase_requested", "deleted", "erased")
    return sorted(
        ((row["kind"], row["actor"]) for row in rows if row["kind"] in wanted), key=lambda one: wanted.index(one[0])
    )


def outcome(one: claims.OpenSubmission, kind: str, **changes: Any) -> OutcomeRow:
    """What a create came to, as a process that was slow would save it."""
    values: dict[str, Any] = {
        "submission_id": one.submission_id, "video_id": one.video_id, "outcome": kind, "task_id": None,
        "http_status": 400, "request_id": None, "error": f"no {MARK}", "estimated_credits": None,
        "next_status": "failed", "error_code": "REJECTED", "error_message": f"no {MARK}", "delay_seconds": 0.0,
        "retry": False, "resubmit": False,
    }  # fmt: skip
    return OutcomeRow(**(values | changes))


def body(**changes: Any) -> dict[str, Any]:
    """A request with the mark in all that a user writes."""
    return {
        "input": {"promptText": f"a boat {MARK}", "promptImage": f"{IMAGE}?{MARK}"}, "user_id": MARK,
        "metadata": {"order": MARK},
    } | changes  # fmt: skip


class TestNothingIsLeft:
    async def test_of_videos_of_the_api(self, database_url: str) -> None:
        async def refuse() -> httpx.Response:
            return httpx.Response(400, json={"error": f"the prompt {MARK} is not allowed"})

        # Webhooks of it are refused, in words that repeat it.
        hook: dict[str, Any] = {"callback_secrets": (), "webhook_secrets": (CALLBACK_SECRET,)}
        refusing = Response(f"what is {MARK}?", status_code=500)
        async with world(database_url, receiver=refusing, webhook_url=("https://app.example.com/",), **hook) as w:
            headers = {"idempotency-key": f"order of {MARK}"}
            own = {"webhook_url": f"https://example.com/hook?{MARK}"}
            response = await w.api.post("/videos", json=body(**own), headers=headers)
            done = UUID(response.json()["id"])
            await w.finish()
            await w.rows("UPDATE taxiway.videos SET video_url = $1, output = jsonb_build_array($1::text)", MARK)
            w.faults("drop_after")
            unknown = await w.enqueue(**body(**own))
            await w.tick()
            between(w, refuse)
            rejected, queued = await w.enqueue(**body()), await w.enqueue(**body(run_after="2199-01-01T00:00:00Z"))
            await w.tick()
            inserted = uuid4()
            await w.rows("INSERT INTO taxiway.videos (id, user_id, prompt, image_url) VALUES ($1, $2, $2, $2)",
                         inserted, MARK)  # fmt: skip
            await w.tick()
            failed = await w.rows("SELECT id FROM taxiway.videos WHERE status = 'failed' ORDER BY created_at")
            assert [row["id"] for row in failed] == [unknown, rejected, inserted]
            assert await marked(database_url) == {
                "videos.user_id", "videos.prompt", "videos.image_url", "videos.metadata", "videos.input",
                "videos.error_message", "videos.output", "videos.video_url", "search.words", "search.user_id",
                "submissions.error", "submissions.user_id",
                "videos.webhook_url", "deliveries.url", "deliveries.snapshot", "deliveries.attempts",
            }  # fmt: skip
            ids = (done, unknown, rejected, queued, inserted)
            assert [await erase(w, one) for one in ids] == [202, 204, 204, 204, 204]
            await until_erased(w, *ids)
            assert await marked(database_url) == set()
            assert {row["state"] for row in await w.rows("SELECT state FROM taxiway.deliveries")} == {"dropped"}
            assert [row["error"] for row in await w.ledger(rejected)] == ["erased"]
            assert w.creates[0].deleted
            assert [row["cost_credits"] for row in await w.ledger(done)] == [25]

    async def test_of_rows_of_a_linked_table(self, database_url: str) -> None:
        refuses = """
            CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                IF NEW.status = OLD.prompt THEN RAISE EXCEPTION 'no % for you', OLD.image_url; END IF;
                RETURN NEW;
            END $$;
            CREATE TRIGGER refuse BEFORE UPDATE ON public.videos FOR EACH ROW EXECUTE FUNCTION public.refuse();
        """
        await execute(database_url, BASE, refuses)
        await link(database_url, gate=True)
        async with world(database_url) as w:
            insert = "INSERT INTO public.videos (prompt, image_url) VALUES ($1, $2)"
            for prompt in ("processing", "completed"):  # the gate refuses the one, the mirror the other
                await w.rows(insert, prompt, f"https://example.com/{MARK}.jpg")
            await w.finish()
            assert await marked(database_url) == {
                "videos.input", "videos.error_message", "submissions.error", "rows.error",
            }  # fmt: skip
            rows = await w.rows("SELECT id, status FROM taxiway.videos ORDER BY status")
            assert [row["status"] for row in rows] == ["completed", "failed"]
            assert [await erase(w, row["id"]) for row in rows] == [202, 204]
            await w.tick()
            assert await erase(w, rows[0]["id"]) == 202  # its row has not shown its end; for a day that is tried
            await w.later(days=1, minutes=1)
            await until_erased(w, *(row["id"] for row in rows))
            assert await marked(database_url) == set()
            assert len(await w.rows("SELECT FROM taxiway.rows")) == 2
            assert {row["prompt"] for row in await w.rows("SELECT prompt FROM public.videos")} == {
                "processing", "completed",
            }  # fmt: skip

    async def test_and_no_statement_can_bring_it_back(self, database_url: str) -> None:
        async with world(database_url) as w:
            video_id = await w.enqueue(**body(fps=24))
            assert (await w.row(video_id))["warnings"] is not None
            assert await erase(w, video_id) == 204
            row = await w.row(video_id)
            assert [row[name] for name in ERASED] == [None] * len(ERASED)
            assert row["created_by"] == "api-key-1"
            for name in set(ERASED) - {"video_url_expires_at", "input", "metadata", "warnings", "output"}:
                with pytest.raises(asyncpg.CheckViolationError):
                    await w.rows(f"UPDATE taxiway.videos SET {name} = 'x' WHERE id = $1", video_id)
            for name in ("input", "metadata", "warnings", "output"):
                with pytest.raises(asyncpg.CheckViolationError):
                    await w.rows(f"UPDATE taxiway.videos SET {name} = '[]' WHERE id = $1", video_id)


class TestAVideoThatIsErased:
    async def test_is_gone_and_its_ledger_and_history_are_there(self, database_url: str) -> None:
        async with world(database_url) as w:
            headers = {"idempotency-key": "k"}
            first = (await w.api.post("/videos", json=body(), headers=headers)).json()["id"]
            assert await erase(w, UUID(first)) == 204
            assert await erase(w, UUID(first)) == 204
            for method, path in (
                ("GET", ""), ("GET", "/file"), ("POST", "/retry"), ("POST", "/cancel"),
            ):  # fmt: skip
                answer = await w.api.request(method, f"/videos/{first}{path}")
                assert (answer.status_code, answer.json()["id"]) == (410, first), path
            again = await w.api.post("/videos", json=body(), headers=headers)
            assert (again.status_code, again.json()["id"]) == (410, first)
            other = await w.api.post("/videos", json=body(priority=1), headers=headers)
            assert other.status_code == 422
            assert (await w.api.get("/videos")).json()["videos"] == []
            assert (await w.api.get("/videos", params={"q": first})).json()["videos"] == []
            assert (await w.api.get(f"/videos/{first}/submissions")).json()["submissions"] == []
            story = (await w.api.get(f"/videos/{first}/events")).json()["events"]
            assert [one["event"] for one in story] == ["enqueued", "cancelled", "erase_requested", "erased"]
            assert {one["actor"] for one in story} == {"api-key-1"}
            with pytest.raises(Gone):
                await video_rows.get(w.ctx.database, UUID(first))

    async def test_and_one_that_never_was(self, database_url: str) -> None:
        async with world(database_url) as w:
            assert await erase(w, uuid4()) == 404
            assert (await w.api.delete("/videos/nothing")).status_code == 404

    async def test_is_removed_in_time_like_others(self, database_url: str) -> None:
        async with world(database_url, video_retention=86_400.0) as w:
            video_id = await w.enqueue()
            await erase(w, video_id)
            await w.later(days=1, minutes=11)
            assert (await w.tick())["prune"]["removed"] == 1
            assert await erase(w, video_id) == 404

    async def test_counts_in_no_status_of_the_page_and_in_one_of_the_metrics(self, database_url: str) -> None:
        async with world(database_url, admin_tokens=(ADMIN,)) as w:
            await erase(w, await w.enqueue())
            w.anyone.headers["authorization"] = f"Bearer {ADMIN}"
            assert 'taxiway_videos{status="erased"} 1' in (await w.anyone.get("/metrics")).text

    @pytest.mark.parametrize(("key", "status"), [("blog", 404), ("reader", 403), ("shop", 204)])
    async def test_by_a_key_that_may_change_it(self, database_url: str, key: str, status: int) -> None:
        secrets = {"shop": "shop+own:" + "s1h2o3p4q5r6t7u8v9w0", "blog": "blog+own:" + "b1l2o3g4q5r6t7u8v9w0",
                   "reader": "reader+read:" + "r1e2a3d4q5s6t7u8v9w0"}  # fmt: skip
        async with world(database_url, api_keys=tuple(secrets.values())) as w:

            def bear(name: str) -> None:
                w.api.headers["authorization"] = f"Bearer {secrets[name].partition(':')[2]}"

            bear("shop")
            video_id = await w.enqueue()
            bear(key)
            assert await erase(w, video_id) == status


class TestUnderWay:
    async def test_a_create_whose_process_died_is_waited_for(self, database_url: str) -> None:
        async with world(database_url) as w:
            video_id = await w.enqueue(**body())
            [_] = await claims.claim(w.ctx.database, 1, 60.0)
            answer = await w.api.delete(f"/videos/{video_id}")
            assert (answer.status_code, answer.json()["waits_for"]) == (202, erasing.WAITS_FOR["create"])
            assert answer.headers["retry-after"]
            await w.tick()
            row = await w.row(video_id)
            assert (row["status"], row["erase_requested_at"] is not None) == ("cancelled", True)
            assert row["input"] is not None
            await w.later(minutes=2)
            await until_erased(w, video_id)
            assert [row["outcome"] for row in await w.ledger(video_id)] == ["unknown"]
            assert await kinds(w, video_id) == [
                ("cancelled", "api-key-1"), ("erase_requested", "api-key-1"), ("erased", "cancel"),
            ]  # fmt: skip

    async def test_the_task_of_a_create_on_its_way_is_deleted_first(self, database_url: str) -> None:
        async with world(database_url) as w:
            video_id = await w.enqueue(**body())
            answers = []

            async def ask() -> None:
                answers.append(await erase(w, video_id))

            between(w, ask)
            await w.tick()
            await until_erased(w, video_id)
            assert answers == [202]
            assert [one.deleted for one in w.creates] == [True]
            [entry] = await w.ledger(video_id)
            assert (entry["outcome"], entry["cancel_reason"], entry["cancel_due"]) == ("accepted", "surplus", None)
            assert await marked(database_url) == set()

    async def test_a_delete_that_fails_is_tried_again_and_the_task_s_id_stays(self, database_url: str) -> None:
        async with world(database_url) as w:
            video_id = await w.enqueue()
            await w.tick()
            w.faults(*[{"simulate": "status=500", "on": "delete"}] * 2)
            answer = await w.api.delete(f"/videos/{video_id}")
            assert (answer.status_code, answer.json()["waits_for"]) == (202, erasing.WAITS_FOR["task"])
            for _ in range(2):
                assert (await w.tick())["cancel"] == {"deleted": 0, "erased": 0}
                assert (await w.row(video_id))["runway_video_id"] == w.creates[0].task_id
                assert await erase(w, video_id) == 202
                await w.later(minutes=1)
            assert (await w.tick())["cancel"] == {"deleted": 1, "erased": 1}
            assert await erase(w, video_id) == 204
            assert (await kinds(w, video_id))[-2:] == [("deleted", "cancel"), ("erased", "cancel")]
            assert [row["task_id"] for row in await w.ledger(video_id)] == [w.creates[0].task_id]

    async def test_what_is_held_is_left_as_it_is(self, database_url: str) -> None:
        async with world(database_url) as w:
            video_id = await w.enqueue()
            async with connected(database_url) as other, other.transaction():
                await other.execute("SELECT FROM taxiway.videos WHERE id = $1 FOR UPDATE", video_id)
                assert await erase(w, video_id) == 409
                [(asked, _)] = [part async for part in erasing.erase_all(w.ctx, [video_id])]
                assert asked == 0
            assert (await w.row(video_id))["status"] == "queued"

    async def test_one_whose_row_is_held_comes_with_a_later_tick(self, database_url: str) -> None:
        await execute(database_url, BASE)
        await link(database_url)
        async with world(database_url) as w:
            await w.rows("INSERT INTO public.videos (prompt) VALUES ('a boat')")
            await w.finish()
            [row] = await w.rows("SELECT id FROM taxiway.videos")
            await w.rows("UPDATE taxiway.submissions SET cancel_reason = 'deleted before'")
            async with connected(database_url) as other, other.transaction():
                await other.execute("SELECT FROM taxiway.rows FOR UPDATE")
                answer = await w.api.delete(f"/videos/{row['id']}")
                assert (answer.status_code, answer.json()["waits_for"]) == (202, erasing.WAITS_FOR[None])
                assert (await w.tick())["cancel"]["erased"] == 0
            assert (await w.tick())["cancel"]["erased"] == 1


class TestRaces:
    async def test_two_at_once_ask_once(self, database_url: str) -> None:
        async with world(database_url) as w:
            video_id = await w.enqueue()
            await w.tick()
            assert await asyncio.gather(*(erase(w, video_id) for _ in range(4))) == [202] * 4
            await until_erased(w, video_id)
            assert [kind for kind, _ in await kinds(w, video_id)].count("erase_requested") == 1

    async def test_a_retry_that_comes_later_is_refused_at_each_door(self, database_url: str) -> None:
        async with world(database_url) as w:
            w.faults("fail=SAFETY.INPUT.TEXT")
            video_id = await w.enqueue()
            await w.finish()
            assert await erase(w, video_id) == 202  # its task is still to be deleted
            answer = await w.api.post(f"/videos/{video_id}/retry")
            assert (answer.status_code, "being erased" in answer.json()["detail"]) == (409, True)
            counts = (await w.api.post("/bulk/retry", json={"filter": {"status": "failed"}})).json()
            assert (counts["done"], counts["skipped"]) == (0, 1)
            await w.rows("UPDATE taxiway.videos SET status = 'queued' WHERE id = $1", video_id)
            await until_erased(w, video_id)
            assert len(w.creates) == 1

    async def test_with_a_retry_at_the_same_moment_it_is_erased(self, database_url: str) -> None:
        async with world(database_url) as w:
            ids = await w.enqueue_many(6)
            await w.rows("UPDATE taxiway.videos SET status = 'failed', error_code = 'X', finished_at = now()")
            retries = [asyncio.create_task(w.api.post(f"/videos/{one}/retry")) for one in ids]
            await asyncio.gather(*(erase(w, one) for one in ids))
            assert {(await one).status_code for one in retries} <= {202, 409, 410}
            await until_erased(w, *ids)
            assert w.creates == []

    async def test_what_a_retry_puts_back_while_it_waits_is_cancelled(
        self, database_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(erasure, "LOCK_MILLISECONDS", 60_000)
        async with world(database_url) as w, connected(database_url) as other:
            video_id = await w.enqueue()
            await w.rows("UPDATE taxiway.videos SET status = 'failed', error_code = 'X', finished_at = now()")
            async with other.transaction():
                await other.execute(
                    "UPDATE taxiway.videos SET status = 'queued', error_code = NULL, finished_at = NULL"
                )
                erasing = asyncio.create_task(erase(w, video_id))
                while not await w.rows(WAITING):
                    pass
            assert await erasing == 204
            assert (await w.row(video_id))["status"] == "erased"

    async def test_late_evidence_makes_no_video_of_it(self, database_url: str) -> None:
        async with world(database_url) as w:
            w.faults("drop_after")
            video_id = await w.enqueue()
            await w.tick()
            assert await erase(w, video_id) == 204
            [entry] = await w.ledger(video_id)
            one = claims.OpenSubmission(entry["id"], video_id, "", "gen4_turbo", "{}", 0, 0, None)
            answer = outcome(one, "accepted", task_id=w.creates[0].task_id, next_status="processing")
            assert await submissions.save(w.ctx.database, [answer]) == {entry["id"]: "erased"}
            assert (await w.tick())["cancel"]["deleted"] == 1
            assert w.creates[0].deleted
            assert (await w.row(video_id))["status"] == "erased"

    @pytest.mark.parametrize("held", [False, True])
    async def test_words_that_come_late_are_not_kept(self, database_url: str, held: bool) -> None:
        async with world(database_url) as w:
            video_id = await w.enqueue()
            [one] = await claims.claim(w.ctx.database, 1, 60.0)
            await w.later(minutes=5)
            await w.tick()  # its process is given up
            assert await erase(w, video_id) == 204
            if held:
                async with connected(database_url) as other, other.transaction():
                    await other.execute("SELECT FROM taxiway.videos WHERE id = $1 FOR UPDATE", video_id)
                    await submissions.save(w.ctx.database, [outcome(one, "rejected")])
                assert await marked(database_url) == {"submissions.unsaved", "submissions.error"}
                await w.tick()
            else:
                await submissions.save(w.ctx.database, [outcome(one, "rejected")])
            assert await marked(database_url) == set()
            assert [row["outcome"] for row in await w.ledger(video_id)] == ["rejected"]

    async def test_a_file_that_is_looked_for_meanwhile_is_not_written_down(self, database_url: str) -> None:
        async with world(database_url) as w:
            video_id = await w.enqueue()
            await w.finish()
            before = await video_rows.get(w.ctx.database, video_id)
            await erase(w, video_id)
            await until_erased(w, video_id)
            assert before.video_url_expires_at is not None
            await tasks.renew_urls(w.ctx.database, before, ["https://example.com/a.mp4"], before.video_url_expires_at)
            assert (await w.row(video_id))["video_url"] is None


class TestALinkedRow:
    async def test_stays_as_it_is_and_is_not_taken_again(self, database_url: str) -> None:
        await execute(database_url, BASE)
        await link(database_url)
        async with world(database_url) as w:
            await w.rows("INSERT INTO public.videos (prompt) VALUES ('a boat')")
            await w.finish()
            [shown] = await w.rows("SELECT xmin::text, * FROM public.videos")
            assert (shown["status"], bool(shown["video_url"])) == ("completed", True)
            [row] = await w.rows("SELECT id FROM taxiway.videos")
            await erase(w, row["id"])
            await until_erased(w, row["id"])
            await w.tick()
            assert await w.rows("SELECT xmin::text, * FROM public.videos") == [shown]
            await execute(database_url, "UPDATE public.videos SET status = 'queued'")
            for _ in range(3):
                await w.tick()
                await w.later(minutes=2)
            assert (await w.row(row["id"]))["status"] == "erased"
            assert len(w.creates) == 1
            assert [one["app_word"] for one in await w.rows("SELECT app_word FROM taxiway.rows")] == ["queued"]
            await execute(database_url, "DELETE FROM public.videos")
            await w.tick()

    async def test_shows_that_its_video_was_cancelled_before(self, database_url: str) -> None:
        await execute(database_url, BASE)
        await link(database_url)
        async with world(database_url) as w:
            await w.rows("INSERT INTO public.videos (prompt) VALUES ('a boat')")
            await w.tick()
            [row] = await w.rows("SELECT id FROM taxiway.videos")
            assert await erase(w, row["id"]) == 202
            await until_erased(w, row["id"])
            assert [one["status"] for one in await w.rows("SELECT status FROM public.videos")] == ["cancelled"]
            assert w.creates[0].deleted


class TestTheCommand:
    async def test_one_video(self, database_url: str) -> None:
        async with world(database_url) as w:
            video_id = await w.enqueue()
            assert "nothing was done" in complaint(await taxiway(database_url, "erase", video_id, answers="n\n"))
            found = printed(await taxiway(database_url, "erase", video_id, "--dry-run", "--json"))
            assert (found, (await w.row(video_id))["status"]) == ([{"id": str(video_id), "erased": False}], "queued")
            for _ in range(2):
                [found] = printed(await taxiway(database_url, "erase", video_id, "--yes", "--json"))
                assert found == {"id": str(video_id), "erased": True, "waits_for": None}
            actors = {actor for _, actor in await kinds(w, video_id)}
            assert all(actor.startswith("CLI user") for actor in actors)

    async def test_all_of_a_user(self, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(erasing, "BATCH", 2)
        async with world(database_url) as w:
            sent = await w.enqueue(user_id="u1")
            await w.tick()
            ids = [await w.enqueue(user_id="u1", run_after="2199-01-01T00:00:00Z") for _ in range(4)]
            other = await w.enqueue(user_id="u2")
            call = ("erase", "--user", "u1")
            [found] = printed(await taxiway(database_url, *call, "--dry-run"))
            assert found == {"matched": 5, "erased": 0, "waiting": 0, "held": 0}
            [found] = printed(await taxiway(database_url, *call, "--json", answers="y\n"))
            assert found == {"matched": 5, "erased": 4, "waiting": 1, "held": 0}
            [found] = printed(await taxiway(database_url, *call, "--yes"))
            assert found == {"matched": 1, "erased": 0, "waiting": 1, "held": 0}
            await until_erased(w, sent, *ids)
            [found] = printed(await taxiway(database_url, *call))
            assert found["matched"] == 0
            assert (await w.row(other))["user_id"] == "u2"

    @pytest.mark.parametrize("arguments", [(), ("0192abcd", "--user", "u1")])
    async def test_needs_one_of_the_two(self, arguments: tuple[str, ...]) -> None:
        result = await taxiway(None, "erase", *arguments)
        assert result.exit_code == 2
        assert "name a video, or a user with --user" in result.output


async def test_the_page_erases_a_video(database_url: str) -> None:
    async with control(database_url) as site:
        w = site.world
        video_id, sent = await w.enqueue(), await w.enqueue(run_after="2199-01-01T00:00:00Z")
        await w.tick()
        page = await site.admin.get(f"/ui/videos/{video_id}")
        assert "Erase" in check(page)
        assert "Erase" not in check(await site.viewer.get(f"/ui/videos/{video_id}"))
        assert (await site.viewer.post(f"/ui/videos/{video_id}/erase")).status_code == 403
        for one, path in ((sent, "/ui/videos"), (video_id, f"/ui/videos/{video_id}")):
            answer = await site.admin.post(f"/ui/videos/{one}/erase")
            assert (answer.status_code, answer.headers["location"]) == (303, path)
        await until_erased(w, video_id, sent)
        gone = await site.admin.get(f"/ui/videos/{video_id}")
        assert gone.status_code == 410
        assert "was erased" in check(gone)
        assert (await kinds(w, sent))[0] == ("cancelled", "admin-token-1")


def data_uri(text: str = "iVBORw0KGgo=") -> str:
    return f"data:image/png;base64,{text}"


async def failed(w: World, **changes: Any) -> UUID:
    """A video that Runway refused."""
    w.faults("status=400")
    video_id = await w.enqueue(**changes)
    await w.tick()
    return video_id


def asked(image: Any = IMAGE, prompt: str = "a boat") -> dict[str, Any]:
    return {"input": {"promptText": prompt, "promptImage": image}}


class TestInputRetention:
    async def test_data_uris_go_after_a_week_and_nothing_else(self, database_url: str) -> None:
        async with world(database_url) as w:
            given = asked([{"uri": data_uri(), "position": "first"}], 'data: it says "data:x", and more')
            images = [await failed(w, **given), await failed(w, **asked(data_uri()))]
            other = await failed(w, **asked(prompt="data:,x"))
            young = await w.enqueue(**asked(data_uri()), run_after="2199-01-01T00:00:00Z")
            await w.later(days=6, hours=23)
            assert (await w.tick())["prune"]["pruned"] == 0
            await w.later(hours=1, minutes=1)
            assert (await w.tick())["prune"]["pruned"] >= 2
            rows = [await w.row(one) for one in (*images, other, young)]
            assert [row["input_blanked_at"] is not None for row in rows] == [True, True, False, False]
            inputs = [json.loads(row["input"]) for row in rows]
            assert [one["promptImage"] for one in inputs] == [[{"uri": None, "position": "first"}], None, IMAGE,
                                                              data_uri()]  # fmt: skip
            assert inputs[0]["promptText"] == given["input"]["promptText"]
            events = await w.rows("SELECT video_id, actor, code FROM taxiway.events WHERE kind = 'inputs_blanked'")
            assert {(row["video_id"], row["actor"], row["code"]) for row in events} == {
                (one, "prune", "data_uri") for one in images
            }
            for _ in range(3):
                await w.tick()
            assert (await w.tick())["prune"]["pruned"] == 0  # it rests

    async def test_a_blanked_video_is_retried_at_no_door(self, database_url: str) -> None:
        async with world(database_url) as w:
            video_id, whole = await failed(w, **asked(data_uri())), await failed(w)
            await w.later(days=7, minutes=1)
            await w.tick()
            answer = await w.api.post(f"/videos/{video_id}/retry")
            assert answer.status_code == 409
            assert "submit it again, with its input, as a new video" in answer.json()["detail"]
            counts = (await w.api.post("/bulk/retry", json={"filter": {"status": "failed"}})).json()
            assert (counts["done"], counts["skipped"], counts["left"]) == (1, 1, 0)
            assert (await w.row(whole))["status"] == "queued"
            assert "submit it again" in complaint(await taxiway(database_url, "retry", video_id))
            await w.rows("UPDATE taxiway.videos SET status = 'queued' WHERE id = $1", video_id)
            await w.tick()
            row = await w.row(video_id)
            assert (row["status"], row["error_code"]) == ("failed", "INVALID_REQUEST")
            assert "submit it again" in row["error_message"]

    async def test_all_of_it_goes_where_that_is_asked_for(self, database_url: str) -> None:
        async with world(database_url) as w:
            video_id = await failed(w, **asked(data_uri(), "a boat"), metadata={"order": "tulip"})
            plain = await failed(w, **asked(prompt="a boat"))
            await w.later(days=8)
            await w.tick()
            w.ctx = replace(w.ctx, settings=w.ctx.settings.model_copy(update={"input_retention": 9 * 86_400.0}))
            await w.later(hours=25)
            for _ in range(3):
                await w.tick()
            for one in (video_id, plain):
                row = await w.row(one)
                assert [row[name] for name in ("input", "prompt", "image_url")] == [None] * 3
                assert row["error_message"] is not None
            assert json.loads((await w.row(video_id))["metadata"]) == {"order": "tulip"}
            found = {q: (await w.api.get("/videos", params={"q": q})).json()["videos"] for q in ("boat", "tulip")}
            assert (found["boat"], [one["id"] for one in found["tulip"]]) == ([], [str(video_id)])
            assert found["tulip"][0]["input"] is None

    async def test_one_that_is_held_comes_later_and_stops_no_other(self, database_url: str) -> None:
        async with world(database_url) as w:
            held, free = await failed(w, **asked(data_uri())), await failed(w, **asked(data_uri()))
            await w.later(days=7, minutes=1)
            async with connected(database_url) as other, other.transaction():
                await other.execute("SELECT FROM taxiway.videos WHERE id = $1 FOR UPDATE", held)
                await w.tick()
                rows = [await w.row(one) for one in (held, free)]
                assert [row["input_blanked_at"] is None for row in rows] == [True, False]
            await w.later(hours=2)
            await w.tick()
            assert (await w.row(held))["input_blanked_at"] is not None

    async def test_the_row_of_a_linked_table_brings_its_input_again(self, database_url: str) -> None:
        await execute(database_url, BASE)
        await link(database_url)
        async with world(database_url, input_retention=86_400.0) as w:
            w.faults("fail=SAFETY.INPUT.TEXT")
            await w.rows("INSERT INTO public.videos (prompt) VALUES ('a boat')")
            await w.finish()
            await w.later(days=1, minutes=1)
            await w.tick()
            [row] = await w.rows("SELECT input FROM taxiway.videos")
            assert row["input"] is None
            await execute(database_url, "UPDATE public.videos SET status = 'queued'")
            await w.later(minutes=2)
            await w.finish()
            [row] = await w.rows("SELECT status, input_blanked_at FROM taxiway.videos")
            assert (row["status"], row["input_blanked_at"]) == ("completed", None)
