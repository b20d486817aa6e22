"""A cluster whose commits wait for no standby: it loses some, a worker notices, and the judge finds what follows.

These are the controls of the other tests: with nothing to find here, those would prove nothing.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

from service.doctor import storage
from service.doctor.checks import CheckStatus
from service.store import doctor_queries
from tests.cluster.moments import COUNT, Record, database, enqueue, fail_over, most_creates, run_soak
from tests.cluster.nodes import Cluster
from tests.crash.accounts import settle
from tests.crash.soak_options import Options
from tests.database import connected
from tests.world import world

pytestmark = [pytest.mark.anyio, pytest.mark.cluster]

ADMIN = "admin-token-for-tests-1"
LAGGING = "SELECT count(*) FROM pg_stat_replication WHERE flush_lsn IS DISTINCT FROM pg_current_wal_lsn()"
PROMPTS = "SELECT id, prompt FROM taxiway.videos"


async def test_an_asynchronous_cluster_loses_commits(
    asynchronous: Cluster, tmp_path: Path, record_property: Record
) -> None:
    """The control: the same judge finds something where there is something to be found."""
    options = Options(videos=25, rows=0, processes=2, minutes=8, cluster=True, asynchronous=True)
    result, table = await run_soak(asynchronous, options, tmp_path, record_property)
    assert not result.passed, table
    assert result.commits_lost, table


async def test_rows_that_come_back_after_a_failover_are_noticed_before_they_are_sent_again(
    asynchronous: Cluster,
) -> None:
    """What happens without the pause is the control: the judge must find it."""
    made = asynchronous
    async with database(made, keeps=False) as url, world(url, admin_tokens=(ADMIN,)) as w:
        facts = await doctor_queries.durability(w.ctx.database)
        [warning] = [one for one in storage.durability(facts) if one.name == "standbys"]
        assert (warning.status, "asynchronous" in warning.message) == (CheckStatus.WARNING, True)
        await enqueue(w)
        await w.tick()
        await enqueue(w)
        primary = await made.primary()

        async def have_all() -> bool:
            async with connected(primary.url()) as connection:
                return bool(await connection.fetchval(LAGGING) == 0)

        await made.until(have_all, "level with its primary")
        primary.wire.stall()
        await w.tick()
        assert len(w.creates) == 2 * COUNT
        await fail_over(made, primary, w)
        for _ in range(3):
            assert (await w.tick())["submit"]["claimed"] == 0
        assert len(w.creates) == 2 * COUNT, "none is sent a second time"
        health = (await w.api.get("/health")).json()
        assert [one["reason"] for one in health["models_paused"]] == ["restored"]
        [detail] = [row["detail"] for row in await w.rows("SELECT detail FROM taxiway.models WHERE model = 'all'")]
        assert "Submissions that this process made are missing" in detail
        admin = {"authorization": f"Bearer {ADMIN}"}
        assert (await w.anyone.post("/models/all/resume", headers=admin)).status_code == 200
        await w.finish()
        assert most_creates(w) == 2, "an operator who resumes blindly pays twice"
        async with connected(url) as connection:
            prompts = {row["id"]: row["prompt"] for row in await connection.fetch(PROMPTS)}
            judged = await settle(connection, [asdict(entry) for entry in w.creates], prompts)
        assert len({words.partition(":")[0] for words in judged.paid_twice}) == COUNT
