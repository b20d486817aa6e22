"""The commands about money and models, and the book that they read."""

from __future__ import annotations

import json
from decimal import Decimal
from uuid import UUID, uuid4

import anyio.to_thread
import pytest
from typer.testing import CliRunner, Result

from service.__main__ import cli
from service.store.audit import Totals, audits
from tests.database import execute
from tests.simulator_server import on_socket
from tests.world import RUNWAY_KEY, World, world

pytestmark = pytest.mark.anyio


async def taxiway(w: World, *arguments: str, **environment: str) -> Result:
    """Run a command as its own process would, in a thread, since it runs a loop of its own."""
    env = {"DATABASE_URL": w.url, "RUNWAYML_API_SECRET": RUNWAY_KEY} | environment
    return await anyio.to_thread.run_sync(lambda: CliRunner().invoke(cli, arguments, env=env))


async def verdicts(w: World) -> dict[UUID, str]:
    return {audit.video_id: audit.verdict async for audit in audits(w.ctx.database)}


async def history(w: World) -> dict[str, UUID]:
    """Videos with every kind of account."""
    ids = {}
    for name, faults in {
        "once": [], "nothing": ["status=400, body=runway"], "refunded": ["fail=ASSET.INVALID"],
        "charged": ["fail=SAFETY.INPUT.TEXT"], "unknown": ["drop_after"],
    }.items():  # fmt: skip
        w.faults(*faults)
        ids[name] = await w.enqueue()
        await w.finish()
    w.faults("drop_after")
    ids["twice"] = await w.enqueue()
    await w.tick()
    await w.api.post(f"/videos/{ids['twice']}/retry", json={"accept_double_charge": True})
    await w.finish()
    w.faults("empty")
    ids["again"] = await w.enqueue()
    await w.finish()
    await w.api.post(f"/videos/{ids['again']}/retry")
    await w.finish()
    ids["under way"] = await w.enqueue()
    await w.tick()
    return ids


async def test_each_video_has_its_verdict(w: World) -> None:
    ids = await history(w)
    assert await verdicts(w) == {
        ids["once"]: "paid once (25 credits)",
        ids["nothing"]: "paid nothing",
        ids["refunded"]: "paid nothing",
        ids["charged"]: "paid nothing, but 25 credits for tasks that gave no file",
        ids["unknown"]: "unknown (at most 25 credits)",
        ids["twice"]: "unknown (at most 50 credits)",
        ids["again"]: "paid once (25 credits), but 25 credits for tasks that gave no file",
        ids["under way"]: "under way (at most 25 credits)",
    }
    totals = Totals()
    async for audit in audits(w.ctx.database):
        totals.add(audit)
    assert totals == Totals(8, 10, Decimal(125), Decimal(200), Decimal(25), 2, 0)
    await execute(
        w.url,
        "UPDATE taxiway.submissions SET outcome = 'accepted', error = NULL, task_id = id::text "
        "WHERE outcome = 'unknown'",
        "UPDATE taxiway.submissions SET settled_at = taxiway.now()",
    )
    after = await verdicts(w)
    assert after[ids["twice"]] == "paid more than once (at most 25 credits too many)"


async def test_the_audit_pages_through_the_ledger(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.store.audit.PAGE", 2)
    ids = {await w.enqueue() for _ in range(5)}
    await w.tick()
    assert set(await verdicts(w)) == ids


async def test_taxiway_audit(w: World) -> None:
    ids = await history(w)
    everything = await taxiway(w, "audit")
    assert everything.exit_code == 0
    lines = everything.stdout.splitlines()
    assert lines[-1] == (
        "8 videos, 10 submissions: 125 credits paid, at most 200; 2 with an unknown outcome; "
        "at most 25 credits paid twice, 0 videos of that without consent"
    )
    assert sorted(line.split()[0] for line in lines[:-1]) == sorted([str(ids["unknown"]), str(ids["twice"])])
    one = await taxiway(w, "audit", str(ids["once"]))
    first, entry = one.stdout.splitlines()
    assert first.split(None, 2)[2].strip() == "1 submissions  paid once (25 credits)"
    assert entry.endswith(" SUCCEEDED: 25 credits")
    both = (await taxiway(w, "audit", str(ids["twice"]))).stdout.splitlines()
    assert both[1].endswith(" unknown: at most 25 credits, consent: operator")
    none = (await taxiway(w, "audit", str(ids["nothing"]))).stdout.splitlines()
    assert none[1].endswith(" rejected: 0 credits")
    await execute(w.url, "UPDATE taxiway.submissions SET quoted_credits = NULL WHERE outcome = 'unknown'")
    unpriced = (await taxiway(w, "audit", str(ids["unknown"]))).stdout.splitlines()
    assert unpriced[1].endswith(" unknown: unknown")
    as_json = await taxiway(w, "audit", "--json")
    rows = [json.loads(line) for line in as_json.stdout.splitlines()]
    assert {row["video_id"]: row["verdict"] for row in rows}[str(ids["nothing"])] == "paid nothing"
    unknown = await taxiway(w, "audit", str(uuid4()))
    assert (unknown.exit_code, "no video has the id" in unknown.stderr) == (1, True)


async def test_taxiway_attach(database_url: str) -> None:
    async with world(database_url) as w, on_socket(w.runway) as url:
        w.faults("drop_after")
        video_id = await w.enqueue()
        await w.tick()
        [entry] = w.creates
        good = await taxiway(w, "attach", str(video_id), entry.task_id, RUNWAYML_BASE_URL=url)
        assert (good.exit_code, good.stdout) == (0, "attached: the video is processing again\n")
        again = await taxiway(w, "attach", str(video_id), entry.task_id, RUNWAYML_BASE_URL=url)
        assert "nothing changed" in again.stdout
        wrong = await taxiway(w, "attach", str(video_id), str(uuid4()), RUNWAYML_BASE_URL=url)
        assert (wrong.exit_code, "does not know the task" in wrong.stderr) == (1, True)
        keyless = await taxiway(w, "attach", str(video_id), entry.task_id, RUNWAYML_API_SECRET="")
        assert (keyless.exit_code, "RUNWAYML_API_SECRET" in keyless.stderr) == (1, True)
        await w.finish()
        assert (await w.row(video_id))["status"] == "completed"


async def test_models_are_paused_and_resumed(w: World) -> None:
    await w.enqueue()
    paused = await taxiway(w, "pause", "gen4_turbo", "--seconds", "60")
    assert json.loads(paused.stdout) == {"model": "gen4_turbo", "paused": True, "seconds": 60}
    assert (await w.tick())["submit"]["claimed"] == 0
    assert json.loads((await taxiway(w, "resume", "gen4_turbo")).stdout) == {"model": "gen4_turbo", "paused": False}
    assert (await w.tick())["submit"]["claimed"] == 1
    assert (await taxiway(w, "resume")).exit_code == 1
    unknown = await taxiway(w, "pause", "gen4-turbo")
    assert (unknown.exit_code, "gen4_turbo" in unknown.stderr) == (1, True)
