"""The command line in this process: as its user at a terminal or in a pipe would see it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import anyio.to_thread
import pytest
import typer.main
import typer.testing
from typer.testing import CliRunner, Result

from service.__main__ import cli
from tests.world import RUNWAY_KEY

NOBODY_LISTENS = "http://127.0.0.1:9"

# The parser of all commands is made once in a process, as in use: that takes ten times as long as most calls of it.
typer.testing._get_command = cache(typer.main.get_command)  # type: ignore[attr-defined]


def invoke(url: str | None, *arguments: object, answers: str | None = None, **environment: str) -> Result:
    """Run a command to its end, with this database and a Runway that nobody has started unless one is named."""
    env: dict[str, str | None] = {"RUNWAYML_API_SECRET": RUNWAY_KEY, "RUNWAYML_BASE_URL": NOBODY_LISTENS}
    env |= {"DATABASE_URL": url, "COLUMNS": "200", "NO_COLOR": "1"} | environment
    return CliRunner().invoke(cli, [str(word) for word in arguments], env=env, input=answers)


async def taxiway(url: str | None, *arguments: object, answers: str | None = None, **environment: str) -> Result:
    """The same in a thread: a command runs a loop of its own, while this one may be serving."""
    return await anyio.to_thread.run_sync(lambda: invoke(url, *arguments, answers=answers, **environment))


def printed(result: Result) -> list[Any]:
    """What a command said in JSON, one value a line; it has succeeded."""
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def complaint(result: Result, code: int = 1) -> str:
    """The one line with which a command ended."""
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    [line] = result.stderr.splitlines()
    return line


@contextmanager
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Somebody looks at what is printed inside."""
    with monkeypatch.context() as patch:
        patch.setattr("service.commands.output.on_terminal", lambda **_: True)
        yield
