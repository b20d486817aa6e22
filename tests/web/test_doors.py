"""HTTP, page and command line are doors: they call `operations`, and read; what changes anything is not theirs."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import anyio.to_thread
import pytest
from typer.testing import CliRunner, Result

from service.__main__ import cli
from tests.pages import ADMIN_TOKEN, Control, control
from tests.simulator_server import on_socket
from tests.world import RUNWAY_KEY

SERVICE = next(path for path in Path(__file__).parents if (path / "service").is_dir()) / "service"
DOORS = [path for part in ("web", "commands") for path in sorted((SERVICE / part).rglob("*.py"))]

# What a door may have of the store, and why that is no rule.
READERS = {
    "audit.Audit": "a shape",
    "audit.Totals": "a shape, which adds up",
    "audit.audits": "every account, for `taxiway audit`",
    "database.Database": "a type",
    "deliveries.AttemptRow": "a shape",
    "deliveries.Due": "a shape",
    "usage.Usage": "a shape",
    "delivery_log.Delivery": "a shape",
    "delivery_log.STATES": "a list of words",
    "delivery_log.WantedDeliveries": "a shape: the filters",
    "doctor_queries.recent_ticks": "the ticks of a screen",
    "endpoint_states.EndpointState": "a shape",
    "event_log.actions": "who did what",
    "event_log.actors": "who did anything, for a filter",
    "failure_counts.MOST_COUNTED": "a number that is shown",
    "failure_counts.failure_counts": "the failures of a list",
    "inbox.Callback": "a shape",
    "link_queries.Troubled": "a shape",
    "link_queries.troubled": "linked tables, for /metrics",
    "maintenance.account": "what was written down, for /metrics",
    "models.every": "the list of models",
    "queue_stats.report": "the counts of the queue",
    "search.Wanted": "a shape: the filters",
    "search.beginning_with": "ids that are given in part",
    "sessions.has_ended": "whether the session of a browser has ended",
    "spending.today": "credits by model, for /metrics",
    "throughput.BUCKETS": "a table of lengths",
    "throughput.Bucket": "a shape",
    "throughput.Hour": "a shape",
    "throughput.Span": "a choice",
    "throughput.in_flight": "what is at Runway",
    "throughput.last_hour": "times of the last hour, for /metrics",
    "throughput.series": "what a plot shows",
    "status_counts.status_counts": "the tabs of a list",
    "ticks.last": "the age of the last tick",
    "ticks.recent": "the list of ticks",
    "timeline.Entry": "a shape",
}
WRITERS = {"sessions.end": "the page alone has sessions, and logging out ends one"}
WRITES = re.compile(r"\b(INSERT INTO|UPDATE|DELETE FROM|FOR UPDATE)\b")


def used(path: Path) -> Iterator[str]:
    """What this module names of `service.store`, as `video_rows.retry`."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    modules = {
        alias.asname or alias.name: alias.name
        for node in imports
        if node.module == "service.store"
        for alias in node.names
    }
    for node in imports:
        if (node.module or "").startswith("service.store."):
            yield from (f"{(node.module or '').removeprefix('service.store.')}.{alias.name}" for alias in node.names)
    for attribute in ast.walk(tree):
        if not (isinstance(attribute, ast.Attribute) and isinstance(attribute.value, ast.Name)):
            continue
        if attribute.value.id in modules:
            yield f"{modules[attribute.value.id]}.{attribute.attr}"


def test_a_door_only_reads_the_store() -> None:
    """What writes is called by `operations`, once, so that no rule stands in two doors."""
    assert {name for path in DOORS for name in used(path)} == READERS.keys() | WRITERS.keys()


@pytest.mark.parametrize("name", READERS)
def test_what_a_door_reads_with_changes_nothing(name: str) -> None:
    module_name, _, attribute = name.partition(".")
    module = importlib.import_module(f"service.store.{module_name}")
    code = getattr(getattr(module, attribute), "__code__", None)
    statements = [vars(module).get(used_name) for used_name in code.co_names] if code else []
    assert [sql for sql in statements if isinstance(sql, str) and WRITES.search(sql)] == []


async def taxiway(site: Control, url: str, *line: str, **settings: str) -> Result:
    """Run a command on the same database and the same Runway."""
    env = {"DATABASE_URL": site.world.url, "RUNWAYML_API_SECRET": RUNWAY_KEY, "RUNWAYML_BASE_URL": url} | settings
    return await anyio.to_thread.run_sync(lambda: CliRunner().invoke(cli, line, env=env))


async def verdicts(site: Control, url: str, video: UUID, task: str) -> tuple[int, int, Result]:
    """What the three doors say of attaching this task: HTTP's status, the page's, and the command's result."""
    bearer = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
    api = await site.world.anyone.post(f"/videos/{video}/attach", json={"task_id": task}, headers=bearer)
    page = await site.admin.post(f"/ui/videos/{video}/attach", task_id=task)
    return api.status_code, page.status_code, await taxiway(site, url, "attach", str(video), task)


@pytest.mark.anyio
async def test_attach_has_one_verdict_in_three_doors(database_url: str) -> None:
    async with control(database_url) as site, on_socket(site.world.runway) as url:
        w = site.world
        w.faults("drop_after")
        lost = await w.enqueue()
        await w.tick()
        mine = await w.enqueue()
        await w.tick()
        taken = str((await w.row(mine))["runway_video_id"])
        for video, task, words in [
            (lost, taken, f"belongs to the video {mine}"),
            (lost, str(uuid4()), "does not know the task"),
        ]:
            api, page, command = await verdicts(site, url, video, task)
            assert (api, page, command.exit_code) == (409, 409, 1)
            assert words in command.stderr
        api, page, command = await verdicts(site, url, uuid4(), taken)
        assert (api, page, command.exit_code) == (404, 404, 1)
        api, page, command = await verdicts(site, url, lost, "no task/at all")
        assert (api, page, command.exit_code) == (422, 422, 1)
        assert (await w.row(lost))["status"] == "failed"
        api, page, command = await verdicts(site, url, mine, taken)
        assert (api, page, command.stdout) == (200, 303, "nothing changed: this task is in the ledger already\n")


@pytest.mark.anyio
async def test_what_may_be_paid_for_is_made_again_with_consent_alone(database_url: str) -> None:
    async with control(database_url) as site, on_socket(site.world.runway) as url:
        w = site.world
        w.faults("drop_after")
        lost = str(await w.enqueue())
        await w.tick()
        again = ("enqueue", "--no-wait", "--from", lost)
        form: dict[str, Any] = {
            "source": lost,
            "what": "image_to_video gen4_turbo",
            "f.promptText": "a boat",
            "f.promptImage": "https://a.test/b.png",
        }
        refused = await taxiway(site, url, *again)
        assert (refused.exit_code, f"taxiway attach {lost} TASK" in refused.stderr) == (1, True)
        assert (await site.admin.post("/ui/studio", **form)).status_code == 409
        assert (await w.rows("SELECT count(*) FROM taxiway.videos"))[0]["count"] == 1
        key = ("--accept-double-charge", "--idempotency-key", "once")
        made = await taxiway(site, url, *again, *key)
        assert made.exit_code == 0
        repeated = await taxiway(site, url, *again, *key)
        assert "was used before" in repeated.stderr
        events = await w.rows("SELECT video_id, actor FROM taxiway.events WHERE kind = 'made_again'")
        assert [(str(row["video_id"]), row["actor"][:8]) for row in events] == [(lost, "CLI user")]


@pytest.mark.anyio
async def test_a_full_queue_is_full_for_every_door(database_url: str) -> None:
    async with control(database_url, max_queued=1) as site, on_socket(site.world.runway) as url:
        w = site.world
        first = await w.enqueue()
        form: dict[str, Any] = {
            "what": "image_to_video gen4_turbo",
            "f.promptText": "a boat",
            "f.promptImage": "https://a.test/b.png",
        }
        line = ("enqueue", "--no-wait", "--prompt", "a boat", "--image", "https://a.test/b.png")
        body = {"input": {"promptText": "a boat", "promptImage": "https://a.test/b.png"}}
        assert (await w.api.post("/videos", json=body)).status_code == 429
        assert (await site.admin.post("/ui/studio", **form)).status_code == 429
        full = await taxiway(site, url, *line, MAX_QUEUED="1")
        assert (full.exit_code, "MAX_QUEUED" in full.stderr) == (1, True)
        audit = await taxiway(site, url, "audit", str(first))
        assert audit.stdout == f"{first}  queued      0 submissions  paid nothing\n"
