"""Crowds: many at once on the same videos. One create each, one end each, whoever was first."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from functools import partial
from random import Random
from uuid import UUID

import httpx
import pytest

from service.errors import Conflict
from service.operations.attaching import attach_evidence
from service.operations.saving import as_outcome_row
from service.runway.outcomes import Decision, Kind, Outcome
from service.store import submissions
from service.videos import Status
from tests.crash import linked_app
from tests.crash.harness import Site, assert_invariants, callback, crash_site
from tests.crash.linked_scenarios import film
from tests.crash.processes import PATIENCE_SECONDS, ForkServer, fork_server
from tests.crash.proxy import Step
from tests.crash.scenarios import FINISHED, lost_task, sent
from tests.database import execute
from tests.world import CRON_SECRET

pytestmark = [pytest.mark.anyio, pytest.mark.crash]

VIDEOS = 60
FILMS = 40
PROCESSES = 4
AS_CRON = {"authorization": f"Bearer {CRON_SECRET}"}

Act = Callable[[], Awaitable[object]]
SPREAD_SECONDS = 0.15  # about what the slowest of them takes, so that each is first at times

# What nobody can forget: every change of a video's status, written down by the database itself.
CHRONICLE = (
    "CREATE TABLE public.chronicle (video_id uuid, was text, became text)",
    """CREATE FUNCTION public.note() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN INSERT INTO public.chronicle VALUES (NEW.id, OLD.status, NEW.status); RETURN NULL; END $$""",
    """CREATE TRIGGER note AFTER UPDATE ON taxiway.videos FOR EACH ROW
    WHEN (OLD.status IS DISTINCT FROM NEW.status) EXECUTE FUNCTION public.note()""",
)


@pytest.fixture(scope="module")
def forks() -> Iterator[ForkServer]:
    with fork_server() as running:
        yield running


@pytest.fixture
async def site(database_url: str, forks: ForkServer) -> AsyncIterator[Site]:
    await execute(database_url, *CHRONICLE)
    async with crash_site(database_url, forks) as ground:
        yield ground


async def steps_taken(site: Site, was: str, *became: str) -> dict[UUID, int]:
    """How often each video went from one status to one of others."""
    rows = await site.world.rows(
        "SELECT video_id, count(*) FROM public.chronicle WHERE was = $1 AND became = ANY($2) GROUP BY 1", was, became
    )
    return {row["video_id"]: row["count"] for row in rows}


async def meet(crowd: list[Act], random: Random) -> list[object]:
    """All of them at once, give or take a few milliseconds; what each returned."""

    async def arrive(act: Act, seconds: float) -> object:
        await asyncio.sleep(seconds)
        return await act()

    return list(await asyncio.gather(*(arrive(act, random.uniform(0, SPREAD_SECONDS)) for act in crowd)))


async def test_eight_ticks_in_four_processes_share_a_queue(site: Site) -> None:
    """Each process runs two ticks at once: over the queue, and again over the finished tasks."""
    videos = [await site.enqueue() for _ in range(VIDEOS)]
    async with AsyncExitStack() as stack:
        clients = [(await stack.enter_async_context(site.web()))[1] for _ in range(PROCESSES)]

        async def crowd() -> list[httpx.Response]:
            return await asyncio.gather(*(client.post("/process-queued", headers=AS_CRON) for client in clients * 2))

        first = [answer.json() for answer in await crowd()]
        assert sum(counts["submit"]["claimed"] for counts in first) == VIDEOS
        assert len(site.world.creates) == VIDEOS
        await site.world.later(**FINISHED)
        second = [answer.json() for answer in await crowd()]
        assert sum(counts["poll"]["completed"] for counts in second) == VIDEOS
    totals = [
        [counts["submit"]["claimed"] for counts in first],
        [counts["poll"]["completed"] for counts in second],
    ]
    print("crowd: claimed {}, completed {}".format(*totals))  # noqa: T201  # for whoever runs it with -s
    assert await steps_taken(site, "queued", "processing") == dict.fromkeys(videos, 1)
    assert await steps_taken(site, "processing", "completed") == dict.fromkeys(videos, 1)
    assert (await assert_invariants(site.world)).tasks == VIDEOS


async def test_a_caller_who_hangs_up_does_not_stop_the_tick(site: Site) -> None:
    """Cron services hang up after seconds: what was claimed is sent and saved all the same, once."""
    videos = [await site.enqueue() for _ in range(3)]
    calling, gone = asyncio.Event(), asyncio.Event()

    async def hook(step: Step) -> None:
        if step.moment == "after half of the request of":
            calling.set()
            await gone.wait()

    site.watch.restart(hook)
    async with site.web() as (_, client), asyncio.timeout(PATIENCE_SECONDS):
        call = asyncio.create_task(client.post("/process-queued", headers=AS_CRON))
        await calling.wait()
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        await client.aclose()
        gone.set()
        while not await site.world.rows("SELECT FROM taxiway.ticks"):  # noqa: ASYNC110  # another process writes it
            await asyncio.sleep(0.01)
        [counts] = await site.world.rows("SELECT error, counts->'submit'->>'accepted' AS accepted FROM taxiway.ticks")
        assert (counts["error"], counts["accepted"]) == (None, str(len(videos)))
    await site.recover()
    assert (await assert_invariants(site.world)).tasks == len(videos)


async def test_repeated_ticks_of_impatient_callers_add_nothing(site: Site) -> None:
    """Retries of a cron service whose first call still runs: all are answered, the videos are sent once."""
    videos = [await site.enqueue() for _ in range(3)]
    calling, go_on = asyncio.Event(), asyncio.Event()

    async def hook(step: Step) -> None:
        if step.moment == "after the whole request of":
            calling.set()
            await go_on.wait()

    site.watch.restart(hook)
    async with site.web() as (_, client), asyncio.timeout(PATIENCE_SECONDS):
        first = asyncio.create_task(client.post("/process-queued", headers=AS_CRON))
        await calling.wait()
        again = [await client.get("/process-queued", headers=AS_CRON) for _ in range(5)]
        assert [answer.json()["submit"]["claimed"] for answer in again] == [0] * 5
        go_on.set()
        assert (await first).json()["submit"]["accepted"] == len(videos)
    await site.recover()
    assert (await assert_invariants(site.world)).tasks == len(videos)


@pytest.mark.parametrize("seed", range(4))
async def test_callback_poller_reader_and_cancel_meet_at_one_video(site: Site, seed: int) -> None:
    """Each video ends once, as completed or as cancelled, and everybody is told the same."""
    w = site.world
    videos = [await sent(site) for _ in range(8)]
    tasks = {video: await lost_task(site, video) for video in videos}
    await w.later(**FINISHED)
    crowd: list[Act] = [
        act
        for video in videos
        for act in (
            partial(w.anyone.post, **callback(tasks[video], at=w.clock())),
            partial(w.anyone.post, **callback(tasks[video], video, at=w.clock())),
            partial(w.api.get, f"/videos/{video}"),
            partial(w.api.post, f"/videos/{video}/cancel"),
            w.tick,
        )
    ]
    answers = await meet(crowd, Random(seed))
    statuses = {answer.status_code for answer in answers if isinstance(answer, httpx.Response)}
    assert statuses <= {200, 202, 409}
    await site.recover()
    assert await steps_taken(site, "processing", "completed", "cancelled") == dict.fromkeys(videos, 1)
    found = await assert_invariants(w)
    assert found.tasks == len(videos)
    print(f"crowd, seed {seed}: {dict(found.statuses)}")  # noqa: T201  # for whoever runs it with -s


@pytest.mark.parametrize("seed", range(4))
async def test_adoption_and_a_late_answer_meet_at_one_video(site: Site, seed: int) -> None:
    """An operator, a callback, rescue and the zombie itself bring the same task: it is adopted once."""
    w = site.world
    videos = [await sent(site, fault="drop_after") for _ in range(8)]
    tasks = {video: await lost_task(site, video) for video in videos}
    claims = {row["video_id"]: row["id"] for row in await w.rows("SELECT id, video_id FROM taxiway.submissions")}

    async def operator(video: UUID) -> None:
        try:
            await attach_evidence(w.ctx, video, tasks[video], actor="operator")
        except Conflict:  # somebody was faster: no submission is unknown any more
            assert await w.rows("SELECT FROM taxiway.submissions WHERE task_id = $1", tasks[video])

    async def zombie(video: UUID) -> None:
        outcome = Outcome(Kind.ACCEPTED, "task created", http_status=200, task_id=tasks[video])
        answer = as_outcome_row(claims[video], video, outcome, Decision(Status.PROCESSING))
        await submissions.save_each(w.ctx.database, [answer])

    crowd: list[Act] = [
        act
        for video in videos
        for act in (
            partial(operator, video),
            partial(zombie, video),
            partial(w.anyone.post, **callback(tasks[video], video, at=w.clock())),
            w.tick,
        )
    ]
    await meet(crowd, Random(seed))
    await site.recover()
    assert await steps_taken(site, "failed", "processing") == dict.fromkeys(videos, 1)
    assert await steps_taken(site, "processing", "completed") == dict.fromkeys(videos, 1)
    found = await assert_invariants(w)
    assert (found.tasks, found.deleted) == (len(videos), 0)
    assert found.unseen == 0


async def test_many_intakes_gates_and_mirrors_share_a_linked_table(site: Site) -> None:
    """Eight ticks at once, while the app inserts and holds rows: each is taken, charged, sent and shown once."""
    w = site.world
    await linked_app.install(w.url)
    films = [await film(site) for _ in range(FILMS)]

    async def late(client: httpx.AsyncClient) -> object:
        films.append(await film(site))
        return await client.post("/process-queued", headers=AS_CRON)

    async def hold() -> None:
        async with linked_app.as_app(w.url) as app, app.transaction():
            await linked_app.pick(app, "PENDING", "RENDERING")
            await asyncio.sleep(SPREAD_SECONDS)

    async with AsyncExitStack() as stack:
        clients = [(await stack.enter_async_context(site.web()))[1] for _ in range(PROCESSES)]
        for seed in range(3):
            acts: list[Act] = [partial(client.post, "/process-queued", headers=AS_CRON) for client in clients * 2]
            await meet([*acts, *(partial(late, client) for client in clients), hold, hold], Random(seed))
            await w.later(**FINISHED)
    await site.recover()
    forward = [("PENDING", "RENDERING"), ("RENDERING", "READY")]
    assert await film_steps(site) == dict.fromkeys(films, forward)
    assert len(w.creates) == len(films)
    assert (await assert_invariants(w)).tasks == len(films)


@pytest.mark.parametrize("seed", range(4))
async def test_the_apps_own_writes_meet_intake_gate_and_mirror(site: Site, seed: int) -> None:
    """It cancels, deletes and queues again while all of them work: nothing is paid that was not charged, or twice."""
    w = site.world
    await linked_app.install(w.url)
    films = [await film(site, temper=number % 3 or None) for number in range(12)]

    async def write(sql: str, one: str) -> None:
        async with linked_app.as_app(w.url) as app:
            await app.execute(sql, one)

    async with site.web() as (_, client), site.web() as (_, other):
        for round_ in range(3):
            dice = Random(seed * 10 + round_)
            acts: list[Act] = [partial(each.post, "/process-queued", headers=AS_CRON) for each in (client, other) * 2]
            wishes = (linked_app.CANCEL, linked_app.REQUEUE, linked_app.REMOVE)
            acts += [partial(write, sql, one) for sql, one in zip(wishes, dice.sample(films, 3), strict=True)]
            answers = await meet(acts, dice)
            assert {answer.status_code for answer in answers if isinstance(answer, httpx.Response)} == {200}
            await w.later(**FINISHED)
    await site.recover()
    found = await assert_invariants(w)
    print(f"crowd of rows, seed {seed}: {dict(found.statuses)}")  # noqa: T201  # for whoever runs it with -s


async def film_steps(site: Site) -> dict[str, list[tuple[str, str]]]:
    """What became of the status of each row, by the table's own trigger."""
    steps: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for row in await site.world.rows('SELECT film, was, became FROM studio."Step" ORDER BY id'):
        steps[row["film"]].append((row["was"], row["became"]))
    return dict(steps)
