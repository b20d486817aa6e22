"""Names and scopes of keys: what each may do, what it sees, and its limits."""

from __future__ import annotations

import json
import logging
from typing import Any
from uuid import UUID

import httpx
import pytest
from pydantic import ValidationError

from service.actors import Key
from service.settings import Settings
from service.web.attempts import LINES_A_MINUTE, RefusedLog
from tests.world import IMAGE, World, world

pytestmark = pytest.mark.anyio

SECRETS = {name: f"{name}-secret-0123456789" for name in ("shop", "blog", "reader", "maker", "mine")}
KEYS = (
    f"shop:{SECRETS['shop']}", f"blog:{SECRETS['blog']}", f"reader+read:{SECRETS['reader']}",
    f"maker+create:{SECRETS['maker']}", f"mine+own:{SECRETS['mine']}",
)  # fmt: skip
BODY = {"input": {"promptText": "a boat", "promptImage": IMAGE}}


async def call(w: World, name: str, method: str, path: str, **options: Any) -> httpx.Response:
    headers = {"Authorization": f"Bearer {SECRETS[name]}"} | options.pop("headers", {})
    return await w.anyone.request(method, path, headers=headers, **options)


async def made(w: World, name: str, **options: Any) -> UUID:
    response = await call(w, name, "POST", "/videos", json=BODY, **options)
    assert response.status_code == 202, response.text
    return UUID(response.json()["id"])


@pytest.mark.parametrize(("entry", "secret", "name", "scopes"), [
    ("just-a-secret-0123456789", "just-a-secret-0123456789", "api-key-1", set()),
    ("shop:secret", "secret", "shop", set()),
    ("shop:se:cret", "se:cret", "shop", set()),  # only the first colon ends the name
    ("shop+read+own:secret", "secret", "shop", {"read", "own"}),
])  # fmt: skip
def test_an_entry_is_a_name_and_a_secret(entry: str, secret: str, name: str, scopes: set[str]) -> None:
    key = Key.of(entry, "api-key-1")
    assert (str(key), key.name, set(key.scopes), key.is_named) == (secret, name, scopes, entry != secret)


@pytest.mark.parametrize(("values", "words"), [
    ({"api_keys": "shop+fly:secret-0123456789abc"}, "scope 'fly'"),
    ({"api_keys": "http://secret-0123456789abc,poll:secret-0123456789abd"}, "reserved"),
    ({"api_keys": "my shop:secret-0123456789abc"}, "NAME:SECRET"),
    ({"api_keys": "shop:short"}, "shorter than 16"),
    ({"admin_tokens": "ops+read:secret-0123456789abc"}, "only API_KEYS have scopes"),
    ({"api_keys": "ops:secret-0123456789abc", "admin_tokens": "ops:secret-0123456789abd"}, "two meanings"),
    ({"api_keys": "a:secret-0123456789abc", "max_credits_per_day_by_key": "b=5"}, "names a key"),
])  # fmt: skip
def test_what_contradicts_itself_is_refused(values: dict[str, str], words: str) -> None:
    with pytest.raises(ValidationError, match=words) as refused:
        Settings(**values)  # type: ignore[arg-type]  # as the environment has them
    assert "secret-0123456789abc" not in str(refused.value.errors(include_input=False)[0]["msg"])


async def test_scopes(database_url: str) -> None:
    async with world(database_url, api_keys=KEYS) as w:
        video = await made(w, "maker")
        for name, method, path, expected in (
            ("reader", "GET", f"/videos/{video}", 200), ("reader", "GET", "/videos", 200),
            ("reader", "POST", "/videos", 403), ("reader", "POST", f"/videos/{video}/cancel", 403),
            ("reader", "POST", "/bulk/cancel", 403), ("reader", "POST", "/uploads", 403),
            ("maker", "GET", f"/videos/{video}", 403),
            ("maker", "GET", "/videos", 403), ("maker", "POST", "/quotes", 200),
            ("maker", "POST", f"/videos/{video}/cancel", 403), ("shop", "POST", f"/videos/{video}/cancel", 200),
        ):  # fmt: skip
            response = await call(w, name, method, path, json=BODY if method == "POST" else None)
            assert response.status_code == expected, (name, method, path, response.text)
            if expected == 403:
                assert response.json()["type"].endswith("forbidden")
                assert name in response.json()["detail"]


async def test_own_sees_and_changes_only_what_it_made(database_url: str) -> None:
    async with world(database_url, api_keys=KEYS) as w:
        others, own = await made(w, "shop"), await made(w, "mine")
        assert (await w.row(own))["created_by"] == "mine"
        listed = (await call(w, "mine", "GET", "/videos")).json()["videos"]
        assert [video["id"] for video in listed] == [str(own)]
        assert (await call(w, "mine", "GET", f"/videos?q={others}")).json()["videos"] == []
        for method, path in (
            ("GET", ""), ("GET", "/file"), ("GET", "/submissions"), ("GET", "/events"), ("POST", "/cancel"),
            ("POST", "/retry"),
        ):  # fmt: skip
            assert (await call(w, "mine", method, f"/videos/{others}{path}")).status_code == 404, path
        cancelled = await call(w, "mine", "POST", "/bulk/cancel", json={"filter": {}})
        assert cancelled.json()["done"] == 1
        assert [(await w.row(id))["status"] for id in (others, own)] == ["queued", "cancelled"]


async def test_each_key_has_its_own_idempotency_keys(database_url: str) -> None:
    async with world(database_url, api_keys=KEYS) as w:
        same = {"headers": {"Idempotency-Key": "order 1"}}
        first = await made(w, "shop", **same)
        assert await made(w, "shop", **same) == first
        assert await made(w, "blog", **same) != first


async def test_a_full_queue_answers_429(database_url: str) -> None:
    async with world(database_url, api_keys=KEYS, max_queued=2) as w:
        same = {"headers": {"Idempotency-Key": "order 1"}}
        first = await made(w, "shop", **same)
        await made(w, "shop")
        refused = await call(w, "blog", "POST", "/videos", json=BODY)
        assert (refused.status_code, refused.headers["content-type"]) == (429, "application/problem+json")
        assert int(refused.headers["retry-after"]) > 0
        assert "MAX_QUEUED" in refused.json()["detail"]
        assert await made(w, "shop", **same) == first, "a repeat adds nothing"
        await call(w, "shop", "POST", f"/videos/{first}/cancel")
        await made(w, "blog")


async def test_credits_of_a_day_by_key(database_url: str) -> None:
    async with world(database_url, api_keys=KEYS, max_credits_per_day_by_key={"shop": 50}) as w:
        first = await made(w, "shop")
        await made(w, "shop")
        refused = await call(w, "shop", "POST", "/videos", json=BODY)
        assert refused.status_code == 429
        assert "50 of its 50 credits" in refused.json()["detail"]
        assert 0 < int(refused.headers["retry-after"]) <= 86_400
        await made(w, "blog")
        await w.rows("UPDATE taxiway.videos SET status = 'failed', finished_at = taxiway.now() WHERE id = $1", first)
        asked: tuple[tuple[str, dict[str, Any]], ...] = (
            (f"/videos/{first}/retry", {}),
            ("/bulk/retry", {"filter": {}}),
        )
        for path, body in asked:
            assert (await call(w, "shop", "POST", path, json=body)).status_code == 429, path
        assert (await call(w, "blog", "POST", f"/videos/{first}/retry")).status_code == 202
        await w.later(days=1)
        await made(w, "shop")


async def test_refused_keys_and_logins_are_logged_a_few_a_minute(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with world(database_url, admin_tokens=("ops:admin-token-0123456789",)) as w:
        with caplog.at_level(logging.WARNING):
            for _ in range(20):
                wrong = {"Authorization": "Bearer wrong-0123456789"}
                assert (await w.anyone.get("/videos", headers=wrong)).status_code == 401
        lines = [record.getMessage() for record in caplog.records if "No valid key" in record.getMessage()]
        assert len(lines) == LINES_A_MINUTE
        assert "wrong-0123456789" not in json.dumps(lines)


def test_what_was_not_logged_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    refused = RefusedLog(lambda: now)
    with caplog.at_level(logging.WARNING):
        for _ in range(20):
            refused.add("key_refused", "No valid key")
        now = 61.0
        refused.add("key_refused", "No valid key")
    assert [record.getMessage() for record in caplog.records] == [
        *["No valid key"] * LINES_A_MINUTE, "No valid key (and 15 more since the last line)",
    ]  # fmt: skip
