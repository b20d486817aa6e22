"""What every command shares: a context from the environment, errors in one line, exit codes, questions."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import replace
from typing import Any, NoReturn
from uuid import UUID

import typer

from service import context as contexts
from service import event_loop, logs
from service.actors import cli_user
from service.commands import beside
from service.context import Context
from service.errors import BadSettings, DatabaseUnavailable, MigrationBlocked, NotConfigured, TaxiwayError

log = logging.getLogger(__name__)

CTRL_C = 130  # as shells have it: 128 and the number of SIGINT


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn what went wrong into a line on stderr and exit code 1; never a traceback. Ctrl-C ends with 130."""
    try:
        yield
    except MigrationBlocked as exc:
        from service.installer.migrate import explain

        fail(explain(exc))
    except BadSettings as exc:
        fail("\n".join(f"taxiway: {complaint}" for complaint in exc.complaints))
    except DatabaseUnavailable as exc:
        fail(logs.one_line(f"taxiway: {exc.title}: {exc.detail}; check DATABASE_URL, and ask `taxiway doctor`"))
    except NotConfigured as exc:
        here = ", or start `taxiway dev` in this folder" if exc.extra.get("missing") == ["DATABASE_URL"] else ""
        fail(logs.one_line(f"taxiway: {exc.title}: {exc.detail}{here}"))
    except TaxiwayError as exc:
        fail(logs.one_line(f"taxiway: {exc.title}: {exc.detail}"))
    except (typer.Exit, typer.Abort, typer.BadParameter, BrokenPipeError):
        raise
    except KeyboardInterrupt:
        raise typer.Exit(CTRL_C) from None
    except Exception as exc:
        log.debug("the trace of the defect", exc_info=True)
        fail(f"taxiway: this is a defect ({type(exc).__name__}: {exc}); LOG_LEVEL=DEBUG shows where")


def fail(text: str) -> NoReturn:
    """Say why, and end with exit code 1."""
    print(text, file=sys.stderr)
    raise typer.Exit(1)


def may_be_paid(video_id: UUID | None) -> str:
    """What stands in the way of making this video again, and what to do about it."""
    return (
        f"taxiway: Runway may have taken and charged {video_id} already. If its task is in Runway's Request "
        f"History: `taxiway attach {video_id} TASK`. To pay a second time if need be: --accept-double-charge"
    )


def confirm(question: str, *, yes: bool) -> None:
    """Ask on stderr, unless `yes`. Anything but yes ends with exit code 1, and nothing is done."""
    if yes:
        return
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    try:
        answer = sys.stdin.readline()
    except KeyboardInterrupt:
        print(file=sys.stderr)
        raise typer.Exit(CTRL_C) from None
    if not answer:
        fail("\ntaxiway: stdin ended before you answered, so nothing was done; --yes does it without asking")
    if answer.strip().lower() not in ("y", "yes"):
        fail("taxiway: nothing was done")


def find_context() -> Context:
    """The context of the environment; without DATABASE_URL, that of the `taxiway dev` beside it."""
    ctx = contexts.from_environment()
    if ctx.settings.database_url:
        return ctx
    stack = beside.find()
    return ctx if stack is None else contexts.build(stack.applied(ctx.settings))


def open_context() -> Context:
    """`find_context` with the log configured, for a command."""
    return _logging(replace(find_context(), actor=cli_user()))


def own_context() -> Context:
    """The context of the environment alone, with the log configured, for a process that stays."""
    return _logging(contexts.from_environment())


def _logging(ctx: Context) -> Context:
    logs.configure(ctx.settings.log_format, ctx.settings.log_level, ctx.settings.secrets)
    return ctx


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Nothing is logged meanwhile, unless LOG_LEVEL=DEBUG: what a command shows is all that it says."""
    if os.environ.get("LOG_LEVEL", "").strip().upper() == "DEBUG":
        yield
        return
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def run(work: Callable[[Context], Coroutine[Any, Any, Any]]) -> Any:
    """Run one piece of work with a context, and close it."""

    async def inside(ctx: Context) -> Any:
        try:
            return await work(ctx)
        finally:
            await ctx.database.close()

    with one_line_errors():
        return event_loop.run(inside(open_context()))


def run_quietly(work: Callable[[Context], Coroutine[Any, Any, Any]]) -> Any:
    """`run` for commands that people read: without the log."""
    with quiet():
        return run(work)
