"""What every test may ask for: a database of its own, on a real PostgreSQL, and a clean environment."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import AliasChoices

from service import event_loop
from service.installer.migrate import migrate
from service.local.postgres import Server
from service.settings import ENV_NAMES, Settings
from tests import memory_disk
from tests.database import execute, temporary_database
from tests.pool import Pool
from tests.world import World, world

# No caller can end these: sse-starlette's, playwright's for a request that comes while a page closes, and, without a
# name, the loop's own for a generator that was dropped.
STAY_WITH_THE_LOOP = {"_shutdown_watcher", "_on_route", ""}

# A shell starts what it puts in the background with both ignored, and so would be the processes that tests start.
for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGQUIT, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, handler)

# Counting takes about as long as the tests do: 297 s instead of 180 for the four folders of every day. What these run,
# the others count.
UNCOUNTED = (
    *(f"tests/{folder}/" for folder in ("benchmarks", "browser", "cluster", "crash")),
    *(
        f"tests/system/test_{name}.py"
        for name in (
            "ai_sdk", "attack", "bounds", "callback_storm", "cases_runway", "cases_strangers", "drift", "drizzle",
            "litellm", "load", "many_webhooks", "memory", "one_tick_a_day", "outages", "packaging",
            "runway_sdk_node", "values",
        )
    ),
)  # fmt: skip


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """The garbage collector passes over what is made here, now and later: modules and tests stay to the end."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """No coverage of those."""
    for item in items:
        if item.nodeid.startswith(UNCOUNTED):
            item.add_marker("no_cover")


def environment_names() -> set[str]:
    """Every name under which the product looks for a setting."""
    names = set(ENV_NAMES.values())
    for field in Settings.model_fields.values():
        if isinstance(field.validation_alias, AliasChoices):
            names.update(choice for choice in field.validation_alias.choices if isinstance(choice, str))
    return names


@pytest.fixture(scope="session")
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    """The product's own event loop. A test of what lies under HTTP runs on asyncio's as well: Windows has no other."""
    return "asyncio", {"loop_factory": getattr(request, "param", event_loop.factory)()}


@pytest.fixture(scope="session", autouse=True)
async def loop(anyio_backend: str) -> AsyncIterator[asyncio.AbstractEventLoop]:
    """The event loop of all tests and fixtures of this process: a connection belongs to one, and outlives its test."""
    yield asyncio.get_running_loop()  # noqa: PT022  # anyio ends the loop when the last such fixture has ended


@pytest.fixture(autouse=True)
def no_task_left(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """A test that leaves a task in the loop fails: it would go on beside the tests after it."""
    before = asyncio.all_tasks(loop)
    yield
    left = asyncio.all_tasks(loop) - before
    for task in left:
        task.cancel()
    if left:
        loop.run_until_complete(asyncio.wait(left))
    assert {getattr(task.get_coro(), "__name__", "") for task in left} <= STAY_WITH_THE_LOOP, left


@pytest.fixture(autouse=True)
def clean_environment(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the developer's shell has set, tests see nothing of it."""
    if request.node.get_closest_marker("no_cover"):
        monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)  # their processes count nothing either
    for name in environment_names():
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture(autouse=True)
def kept_log() -> Iterator[None]:
    """A command that configures its log in this process takes nothing from the tests after it."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture(scope="session")
def server_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A PostgreSQL server whose user may create databases: the one named, else an embedded one."""
    named = os.environ.get("TEST_DATABASE_URL")
    if named:
        yield named
        return
    with memory_disk.running(tmp_path_factory.mktemp("postgres")) as server:
        yield server.url("postgres")


async def _migrated(url: str) -> None:
    """The newest schema. Nobody looks at the account at Runway by the clock: tests that want it make it due."""
    await migrate(url)
    await execute(url, "UPDATE taxiway.maintenance SET due_at = 'infinity' WHERE name = 'account'")


@pytest.fixture(scope="session")
def template_name(server_url: str) -> Iterator[str]:
    """A database that was migrated once, to be copied."""
    with temporary_database(server_url, fill=_migrated) as url:
        yield url.partition("?")[0].rpartition("/")[2]


@pytest.fixture(scope="session")
def pool(server_url: str, template_name: str, loop: asyncio.AbstractEventLoop) -> Iterator[Pool]:
    """The databases that the tests of this process hand on to each other."""
    pool = Pool(server_url, template_name, loop)
    try:
        yield pool
    finally:
        pool.close()


@pytest.fixture
def database_url(pool: Pool) -> Iterator[str]:
    """A migrated database for this test alone; its pool stays connected to it, and so do `world` and its tests."""
    url = pool.take()
    try:
        yield url
    finally:
        pool.give_back(url)


@pytest.fixture
def own_database_url(server_url: str, template_name: str) -> Iterator[str]:
    """The same without a pool: nothing else is connected, so that it can be copied, and its connections counted."""
    with temporary_database(server_url, template=template_name) as url:
        yield url


@pytest.fixture
async def w(database_url: str) -> AsyncIterator[World]:
    """A whole Taxiway on a database of this test's own. `world(…)` makes one with other settings."""
    async with world(database_url) as one:
        yield one


@pytest.fixture
def empty_database_url(server_url: str) -> Iterator[str]:
    """An empty database of this test's own."""
    with temporary_database(server_url) as url:
        yield url


@pytest.fixture
def data_folder(tmp_path: Path) -> Path:
    """Where `taxiway dev` would keep its things; not made yet."""
    return tmp_path / "data"


@pytest.fixture
def make_server(data_folder: Path) -> Iterator[Callable[..., Server]]:
    """Makes servers of the data folder, without fsync unless told, and removes them in the end."""
    made: list[Server] = []

    def make(**options: Any) -> Server:
        made.append(Server(data_folder, **({"durable": False} | options)))
        return made[-1]

    yield make
    for server in reversed(made):
        server.remove()
