"""Alerts: what goes wrong is reported once, and once more when it is over."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from starlette.responses import Response

from service.doctor import margins
from service.doctor.checks import CheckStatus
from service.operations import pausing
from service.store import models, outbox
from service.store.alerts import Margins
from service.store.circuit_state import REASON as CIRCUIT
from tests.pages import ADMIN_TOKEN, Control
from tests.receiving import SECRET, App, notifying
from tests.world import settings

pytestmark = pytest.mark.anyio

SLACK = "https://hooks.slack.com/services/T0123ABCD/B0123ABCD/abcdefghijklmnopqrstuvwx"
ALERTING: dict[str, Any] = {"webhook_url": (), "alert_url": (SLACK,)}


async def tick(site: Control, **later: float) -> None:
    """A tick, after so much time."""
    await site.world.later(**(later or {"seconds": 61}))
    await site.world.tick()


def said(app: App) -> list[tuple[str, str]]:
    """The alerts that came: the event and the name."""
    return [(body["type"], body["data"]["name"]) for _, _, body in app.got]


async def test_an_alert_comes_once_until_it_is_over(database_url: str) -> None:
    async with notifying(database_url, **ALERTING) as (site, app):
        await tick(site)
        assert app.got == []
        site.world.faults("drop_after")
        lost = await site.world.enqueue()
        for _ in range(3):
            await tick(site)
        assert said(app) == [("alert.raised", "queue: unknown")]
        url, headers, body = app.got[0]
        assert (url, headers["webhook-id"][:10]) == (SLACK, "msg_alert_")
        assert body["text"] == body["data"]["text"]
        assert body["text"].startswith("Taxiway: queue: unknown: 1 video may have been charged")
        assert "Fix: run `taxiway audit`" in body["text"]
        assert body["data"]["status"] == "warning"
        task = site.world.creates[-1].task_id
        bearer = {"authorization": f"Bearer {ADMIN_TOKEN}"}
        attached = await site.world.anyone.post(f"/videos/{lost}/attach", json={"task_id": task}, headers=bearer)
        assert attached.status_code == 200
        for _ in range(3):
            await tick(site)
        assert said(app) == [("alert.raised", "queue: unknown"), ("alert.cleared", "queue: unknown")]
        assert app.got[1][2]["text"].startswith("Over: Taxiway: queue: unknown: 1 video may")
        assert app.got[1][1]["webhook-id"] != headers["webhook-id"]
        assert app.got[1][2]["data"]["cleared_at"] > body["data"]["raised_at"]


async def test_each_condition_is_reported(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "ALERTS_SECONDS", 0.0)
    changes = {"max_credits_per_day": Decimal(60), "alert_credits_under": Decimal(50_000)}
    async with notifying(database_url, **(ALERTING | changes)) as (site, app):
        w = site.world
        await w.enqueue_many(2)
        await w.rows("UPDATE taxiway.maintenance SET due_at = taxiway.now() WHERE name = 'account'")
        await w.tick()
        await pausing.pause(w.ctx, "gen4.5", 3_600, "a fair")
        await models.pause(w.ctx.database, "gen4_turbo", 3_600, CIRCUIT, "the last: HTTP 502")
        await w.rows(
            "UPDATE taxiway.videos SET poll_after = taxiway.now() - interval '2 h' WHERE status = 'processing'"
        )
        await w.rows(
            "INSERT INTO taxiway.endpoints (kind, url, events, failures, failing_since, last_error) "
            "VALUES ('webhook', 'https://a.example.com/h', '{}', 9, taxiway.now(), 'HTTP 500'), "
            "('webhook', 'https://b.example.com/h', '{}', 0, NULL, NULL)"
        )
        await w.rows("UPDATE taxiway.endpoints SET disabled_at = taxiway.now() WHERE url LIKE '%b.example%'")
        w.ctx.outbox.is_configured = True
        named = {name for _, name in await evaluated(site, app)}
        assert named >= {
            "queue: stuck", "models: paused, gen4.5", "models: paused, gen4_turbo", "Runway: credits",
            "budget: MAX_CREDITS_PER_DAY", "webhooks: endpoint 2, a.example.com", "webhooks: endpoint 3, b.example.com",
        }  # fmt: skip


async def evaluated(site: Control, app: App) -> list[tuple[str, str]]:
    """What a request reports that finds the ticks stopped: no tick changes meanwhile what a test has set."""
    await site.world.rows("UPDATE taxiway.ticks SET started_at = started_at - interval '2 h'")
    await site.world.later(seconds=61)
    assert (await site.world.api.get("/videos")).status_code == 200
    return said(app)


async def test_ticks_that_have_stopped_are_reported_by_a_request(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "ALERTS_SECONDS", 0.0)
    async with notifying(database_url, **ALERTING) as (site, app):
        await site.world.api.get("/videos")
        assert app.got == []  # before the first tick, nothing has stopped
        await site.world.tick()
        await site.world.later(minutes=11)
        await site.viewer.get("/")
        assert app.got == []
        await site.world.api.get("/videos")
        await site.world.api.get("/videos")
        assert said(app) == [("alert.raised", "cron: last tick")]
        await site.world.later(minutes=2)
        await site.world.api.get("/videos")
        assert len(app.got) == 1
        await tick(site)
        assert said(app)[1:] == [("alert.cleared", "cron: last tick")]


async def test_an_alert_that_is_not_delivered_is_tried_again(database_url: str) -> None:
    async with notifying(database_url, **ALERTING) as (site, app):
        app.answers = [Response(status_code=500)]
        await pausing.pause(site.world.ctx, "gen4.5", 86_400, "a fair")
        await tick(site)
        await tick(site, seconds=10)
        assert said(app) == [("alert.raised", "models: paused, gen4.5")] * 2
        assert len({headers["webhook-id"] for _, headers, _ in app.got}) == 1


async def test_without_an_address_nothing_is_evaluated(database_url: str) -> None:
    async with notifying(database_url) as (site, _):
        await pausing.pause(site.world.ctx, "gen4.5", 86_400, "a fair")
        await tick(site)
        assert await site.world.rows("SELECT FROM taxiway.alerts") == []
        assert (await site.world.rows("SELECT taken_at FROM taxiway.maintenance WHERE name = 'alerts'"))[0][0] is None


def test_how_many_failures_are_too_many() -> None:
    cases = {(5, 10): CheckStatus.WARNING, (5, 11): CheckStatus.OK, (4, 4): CheckStatus.OK, (0, 0): CheckStatus.OK}
    for (failed, ended), status in cases.items():
        [check] = margins.failures(Margins(ended, failed, None))
        assert check.status is status, (failed, ended)


def test_credits_and_budgets_by_their_settings() -> None:
    plain, seen = settings("postgresql://x"), Margins(0, 0, Decimal(99))
    assert [*margins.credits(plain, seen), *margins.budgets(plain, {})] == []
    strict = settings(
        "postgresql://x", alert_credits_under=Decimal(100), max_credits_per_day=Decimal(100),
        max_credits_per_day_by_model={"gen4.5": Decimal(10)},
    )  # fmt: skip
    assert margins.credits(strict, Margins(0, 0, None)) == []
    assert [one.status for one in margins.credits(strict, seen)] == [CheckStatus.WARNING]
    assert [one.status for one in margins.credits(strict, Margins(0, 0, Decimal(100)))] == [CheckStatus.OK]
    for spent, expected in [("79.9", "ok"), ("80", "warning")]:
        found = list(margins.budgets(strict, {"gen4_turbo": Decimal(spent)}))
        assert [one.status.value for one in found] == [expected, "ok"]
    by_model = list(margins.budgets(strict, {"gen4.5": Decimal(8)}))[1]
    assert (by_model.status, by_model.message) == (CheckStatus.WARNING, "80% used: 8 of 10 credits ($0.10)")


def test_an_address_of_alerts_needs_a_secret_that_signs() -> None:
    for changes, words in [
        ({"alert_url": (SLACK,)}, "needs WEBHOOK_SECRETS"),
        ({"alert_url": ("http://a.example.com",), "webhook_secrets": (SECRET,)}, "https"),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match=words):
            settings("postgresql://x", **changes)


def test_what_is_in_its_address_is_a_secret() -> None:
    known = settings("postgresql://x", alert_url=(SLACK,), webhook_secrets=(SECRET,)).secrets
    assert "abcdefghijklmnopqrstuvwx" in known
