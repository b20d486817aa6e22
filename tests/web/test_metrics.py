"""/metrics, the alert rules on it, and the report behind it and /health, also of a table that is too large to count."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio.to_thread
import httpx
import pytest
import yaml
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from service.docs import read
from service.errors import DatabaseUnavailable, RunwayUnavailable
from service.operations import observe
from service.store import maintenance, models, queue_stats
from tests.database import execute
from tests.world import World, world

pytestmark = pytest.mark.anyio

VIEWER = "viewer-token-for-tests-1"
TOKENS: dict[str, Any] = {"viewer_tokens": (VIEWER,)}
ALERTS = Path(__file__).parents[2] / "service/recipes/prometheus-alerts.yml"
OPENMETRICS = "application/openmetrics-text; version=1.0.0"

Samples = dict[tuple[str, tuple[str, ...]], float]


async def scrape(w: World, accept: str = "") -> httpx.Response:
    response = await w.anyone.get("/metrics", headers={"authorization": f"Bearer {VIEWER}", "accept": accept})
    assert response.status_code == 200, response.text
    return response


async def samples(w: World) -> Samples:
    """Every sample, by its name and the values of its labels."""
    families = read_text((await scrape(w)).text)
    return {
        (sample.name.removeprefix("taxiway_"), tuple(sample.labels.values())): sample.value
        for family in families
        for sample in family.samples
    }


async def history(w: World) -> None:
    """One of everything that there is to tell."""
    await w.enqueue()
    await w.finish()
    w.faults("drop_after")
    await w.enqueue()
    await w.tick()
    await w.enqueue()
    await w.tick()
    await w.enqueue(operation="text_to_video", input={"promptText": "a boat"})
    await models.pause(w.ctx.database, "gen4.5", 900, "no_credits", "You do not have enough credits.")


@pytest.fixture
def promtool() -> str:
    """Prometheus's own checker, as Debian's package `prometheus` has it."""
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not installed: it comes with Debian's package prometheus")
    return found


async def test_what_is_reported(database_url: str) -> None:
    async with world(database_url, **TOKENS) as w:
        await history(w)
        reported = await samples(w)
    assert {key[1][0]: value for key, value in reported.items() if key[0] == "videos"} == {
        "queued": 1, "processing": 1, "completed": 1, "failed": 1, "cancelled": 0, "erased": 0,
    }  # fmt: skip
    assert reported["model_paused", ("all", "")] == 0
    assert reported["model_paused", ("gen4.5", "no_credits")] == 1
    assert reported["model_queued", ("gen4.5",)] == 1
    assert reported["in_flight", ("gen4_turbo",)] == 1
    assert (reported["stuck", ()], reported["unknown_submissions", ()], reported["unknown_credits_max", ()]) == (
        0,
        1,
        25,
    )
    assert reported["credits_spent_today", ("gen4_turbo",)] == 75
    assert reported["ended_last_hour", ("completed",)] == reported["ended_last_hour", ("failed",)] == 1
    assert reported["submissions_last_hour", ("accepted",)] == 2
    assert reported["submissions_last_hour", ("unknown",)] == 1
    assert reported["done_seconds", ("95",)] > reported["submit_seconds", ("50",)] >= 0
    assert 0 <= reported["tick_age_seconds", ()] < 60
    assert reported["videos_age_seconds", ()] == 0
    assert 0 <= reported["queue_oldest_age_seconds", ()] < 60
    assert ("credits_left", ()) not in reported


async def test_an_empty_installation_tells_nothing_that_it_does_not_know(database_url: str) -> None:
    async with world(database_url, **TOKENS) as w:
        reported = await samples(w)
        await w.cron.get("/poll-processing")
        assert ("tick_age_seconds", ()) not in reported  # a poll sends nothing
        assert ("tick_age_seconds", ()) not in await samples(w)
        assert not {name for name, _ in reported} & {"credits_left", "done_seconds", "submit_seconds", "in_flight"}
        assert reported["videos", ("queued",)] == 0


async def test_only_those_who_may_look(database_url: str) -> None:
    async with world(database_url, **TOKENS) as w:
        assert (await w.api.get("/metrics")).status_code == 401
        assert (await w.anyone.get("/metrics")).status_code == 401


async def test_both_forms_are_spoken(database_url: str) -> None:
    async with world(database_url, **TOKENS) as w:
        await history(w)
        plain, open_ = await scrape(w, "text/plain"), await scrape(w, OPENMETRICS)
    assert plain.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert open_.headers["content-type"].startswith(OPENMETRICS)
    assert open_.text.endswith("# EOF\n")
    names = [
        {family.name for family in read(text)}
        for read, text in ((read_text, plain.text), (read_openmetrics, open_.text))
    ]
    assert names[0] == names[1]


async def test_promtool_finds_nothing_to_say(database_url: str, promtool: str) -> None:
    async with world(database_url, **TOKENS) as w:
        await history(w)
        await seen(w)
        text = (await scrape(w)).text
    checked = await anyio.to_thread.run_sync(
        lambda: subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True)
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_promtool_takes_the_alert_rules(promtool: str) -> None:
    checked = subprocess.run([promtool, "check", "rules", str(ALERTS)], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr


async def test_the_alerts_speak_of_metrics_that_there_are(database_url: str) -> None:
    async with world(database_url, **TOKENS) as w:
        await history(w)
        await seen(w)
        there = {f"taxiway_{name}" for name, _ in await samples(w)}
    [group] = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
    named = {name for rule in group["rules"] for name in re.findall(r"taxiway_\w+", rule["expr"])}
    assert len(named) >= 6
    assert named <= there
    page = re.findall(r"`(taxiway_[a-z_]+)`", read("operating").text)
    assert set(page) == there


@pytest.mark.parametrize(
    ("series", "alert"),
    [
        ("taxiway_tick_age_seconds 601", "TaxiwayNoTick"),
        ("up{job='taxiway'} 1", "TaxiwayNoTick"),
        ("up{job='taxiway'} 0", "TaxiwayDown"),
        ("taxiway_queue_oldest_age_seconds 1801", "TaxiwayQueueOld"),
        ("taxiway_stuck 1", "TaxiwayStuck"),
        ("taxiway_unknown_submissions 1", "TaxiwayUnknownOutcome"),
        ("taxiway_moderated_last_hour 3", "TaxiwayModerated"),
        ("taxiway_model_paused{model='gen4.5',reason='no_credits'} 1", "TaxiwayModelPaused"),
        ("taxiway_ended_last_hour{status='failed'} 10;taxiway_ended_last_hour{status='completed'} 30",
         "TaxiwayFailures"),
        ("taxiway_credits_left 499", "TaxiwayCreditsLow"),
        ("up{job='taxiway'} 1;taxiway_tick_age_seconds 599;taxiway_queue_oldest_age_seconds 1800;taxiway_stuck 0;"
         "taxiway_unknown_submissions 0;taxiway_model_paused{model='all',reason=''} 0;taxiway_credits_left 500;"
         "taxiway_model_paused{model='gen4.5',reason='manual'} 1;taxiway_ended_last_hour{status='failed'} 9;"
         "taxiway_ended_last_hour{status='completed'} 1", None),
    ],
)  # fmt: skip
def test_each_alert_rings_when_it_should(promtool: str, tmp_path: Path, series: str, alert: str | None) -> None:
    pairs = [one.rpartition(" ") for one in series.replace("'", '"').split(";")]
    names = [rule["alert"] for rule in yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"][0]["rules"]]
    expected = [
        {
            "expr": f'count(ALERTS{{alertname="{name}", alertstate="firing"}}) or vector(0)', "eval_time": "20m",
            "exp_samples": [{"labels": "{}", "value": int(name == alert)}],
        }
        for name in names
    ]  # fmt: skip
    case = {
        "rule_files": [str(ALERTS)],
        "tests": [{
            "interval": "1m", "promql_expr_test": expected,
            "input_series": [{"series": name, "values": f"{value}x20"} for name, _, value in pairs],
        }],
    }  # fmt: skip
    (tmp_path / "case.yml").write_text(yaml.safe_dump(case), encoding="utf-8")
    checked = subprocess.run([promtool, "test", "rules", str(tmp_path / "case.yml")], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_library_is_imported_when_it_is_needed_and_not_before() -> None:
    code = "import sys, service.app; sys.exit('prometheus_client' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ALERTS.parents[2]).returncode == 0


# Credits left


async def seen(w: World) -> None:
    """Let a tick look at the account."""
    await execute(w.url, "UPDATE taxiway.maintenance SET due_at = taxiway.now()")
    await w.tick()


async def test_a_tick_sees_the_credits_and_not_each_one(database_url: str) -> None:
    async with world(database_url, options={"credits": 1234}, **TOKENS) as w:
        await w.tick()
        assert ("credits_left", ()) not in await samples(w)
        await w.tick()
        assert ("credits_left", ()) not in await samples(w)
        await execute(w.url, "UPDATE taxiway.maintenance SET due_at = taxiway.now() WHERE name = 'account'")
        await w.tick()
        reported = await samples(w)
        assert reported["credits_left", ()] == 1234
        assert 0 <= reported["credits_left_age_seconds", ()] < 60
        await w.later(minutes=4)
        await w.tick()
        assert (await samples(w))["credits_left_age_seconds", ()] >= 240


async def test_an_account_that_cannot_be_seen_costs_the_tick_nothing(
    database_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def away(*_: object) -> None:
        raise RunwayUnavailable("not now")

    monkeypatch.setattr("service.runway.client.Runway.organization", away)
    async with world(database_url, **TOKENS) as w:
        await seen(w)
        assert "Credits left are not known: not now" in caplog.text
        assert ("credits_left", ()) not in await samples(w)


async def test_the_account_is_asked_for_and_remembered(database_url: str) -> None:
    async with world(database_url, max_credits_per_day=500, **TOKENS) as w:
        await w.enqueue()
        await w.tick()
        response = await w.anyone.get("/account", headers={"authorization": f"Bearer {VIEWER}"})
        reported = response.json()
        assert (reported["credits"], reported["spent_today"], reported["max_a_day"]) == (9975, 25, 500)
        assert {"model": "gen4_turbo", "at_once": 5, "a_day": 1000, "made_today": 1} in reported["models"]
        assert (await samples(w))["credits_left", ()] == 9975
        assert (await w.api.get("/account")).status_code == 401


# A table that is too large to be counted each time


@pytest.fixture
def everything_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take every table for a large one."""
    for module, name in ((queue_stats, "_REPORT"), (maintenance, "DUE")):
        text = getattr(module, name).replace(f"> {maintenance.LARGE_TABLE_BYTES}", "> 0")
        assert text != getattr(module, name)
        monkeypatch.setattr(module, name, text)
    from service.store import ticks

    monkeypatch.setattr(ticks, "_RECORD", ticks._RECORD.replace(f"> {maintenance.LARGE_TABLE_BYTES}", "> 0"))


@pytest.mark.usefixtures("everything_is_large")
async def test_what_moves_is_exact_and_what_has_ended_is_as_the_last_count_had_it(database_url: str) -> None:
    async with world(database_url, **TOKENS) as w:
        for _ in range(3):
            await w.enqueue()
        await w.tick()
        await w.later(minutes=2)
        await w.enqueue(operation="text_to_video", input={"promptText": "a boat"}, priority=5)
        await w.enqueue()
        before = await queue_stats.report(w.ctx.database)
        assert before["counts"] == {"queued": 2, "processing": 3}
        await w.tick()  # counts the table as it is after this tick's work
        after = await queue_stats.report(w.ctx.database)
        assert after["counts"] == {"completed": 3, "processing": 2}
        assert after["counted_at"] > before["counted_at"]
        await w.later(minutes=1)
        video_id = await w.enqueue()
        await w.api.post(f"/videos/{video_id}/cancel")
        assert "cancelled" not in (await queue_stats.report(w.ctx.database))["counts"]
        health = (await w.api.get("/health")).json()
        assert health["counts"]["completed"] == 3
        assert health["counted_at"] is not None
        assert (await samples(w))["videos_age_seconds", ()] >= 60


@pytest.mark.usefixtures("everything_is_large")
async def test_the_oldest_is_found_in_every_model_and_priority(w: World) -> None:
    rows = """
        INSERT INTO taxiway.videos (status, model, input, priority, run_after)
        SELECT 'queued', model, '{}', priority, taxiway.now() - make_interval(secs => age)
        FROM (VALUES ('gen4_turbo', 0, 10), ('gen4_turbo', -5, 500), ('gen4_turbo', 7, 30), ('gen4.5', 3, 90),
                     ('gen4.5', 3, -60)) AS v(model, priority, age)
    """
    await execute(w.url, "INSERT INTO taxiway.models (model) VALUES ('gen4_turbo'), ('gen4.5')", rows)
    assert (await queue_stats.report(w.ctx.database))["oldest_queued_seconds"] == pytest.approx(500, abs=30)
    await execute(
        w.url,
        "INSERT INTO taxiway.videos (status, run_after) VALUES ('queued', taxiway.now() - interval '1 h')",
    )
    assert (await queue_stats.report(w.ctx.database))["oldest_queued_seconds"] == pytest.approx(3600, abs=30)
    await execute(w.url, "UPDATE taxiway.videos SET run_after = taxiway.now() + interval '1 h'")
    assert (await queue_stats.report(w.ctx.database))["oldest_queued_seconds"] is None


@pytest.mark.usefixtures("everything_is_large")
async def test_a_long_queue_is_not_counted_to_its_end(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_stats, "_REPORT", queue_stats._REPORT.replace(str(queue_stats.MOST_COUNTED), "2"))
    for _ in range(5):
        await w.enqueue()
    assert (await queue_stats.report(w.ctx.database))["counts"] == {"queued": 3}
    await maintenance.count(w.ctx.database)
    assert (await queue_stats.report(w.ctx.database))["counts"] == {"queued": 5}


@pytest.mark.usefixtures("everything_is_large")
async def test_one_tick_counts_and_the_next_waits(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = []

    async def count(*_: object) -> None:
        counted.append(1)

    await w.enqueue()
    await w.tick()
    await w.later(minutes=2)
    assert [await maintenance.take_turn(w.ctx.database, "counts") for _ in range(2)] == [True, False]
    monkeypatch.setattr(maintenance, "count", count)
    await w.tick()
    assert counted == []
    await w.later(minutes=3)
    await w.tick()
    assert counted == [1]


async def test_a_large_table_is_never_read_whole(w: World) -> None:
    await execute(
        w.url,
        "INSERT INTO taxiway.videos (status, prompt, created_at, finished_at) "
        "SELECT 'completed', repeat('x', 1500), taxiway.now(), taxiway.now() FROM generate_series(1, 25000) g",
        "VACUUM ANALYZE taxiway.videos",
    )
    await maintenance.count(w.ctx.database)
    plan = [line for (line,) in await w.ctx.database.fetch(f"EXPLAIN ANALYZE {queue_stats._REPORT}")]
    scans = [line for line in plan if "Seq Scan on videos" in line]
    assert all("never executed" in line for line in scans)
    reported = await queue_stats.report(w.ctx.database)
    assert reported["counts"] == {"completed": 25_000}
    assert reported["counted_at"] is not None


async def test_a_count_that_fails_costs_the_tick_nothing(
    database_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def away(*_: object) -> None:
        raise DatabaseUnavailable("too slow")

    monkeypatch.setattr(maintenance, "count", away)
    async with world(database_url) as w:
        await observe.refresh(w.ctx, ["counts"])
    assert "No snapshot of counts: too slow" in caplog.text
