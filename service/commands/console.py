"""What every command shares: a house from the environment, errors in one line, output for people or for pipes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, NoReturn

import typer

from service import house as houses
from service import logs
from service.errors import BadSettings, MigrationBlocked, TaxiwayError
from service.house import House

log = logging.getLogger(__name__)


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn what went wrong into a line on stderr and exit code 1; never a traceback."""
    try:
        yield
    except MigrationBlocked as exc:
        from service.store.migrate import explain

        fail(explain(exc))
    except BadSettings as exc:
        fail("\n".join(f"taxiway: {complaint}" for complaint in exc.complaints))
    except TaxiwayError as exc:
        fail(f"taxiway: {exc.title}: {exc.detail}")
    except (typer.Exit, typer.Abort):
        raise
    except Exception as exc:
        log.debug("the trace of the defect", exc_info=True)
        fail(f"taxiway: this is a defect ({type(exc).__name__}: {exc}); LOG_LEVEL=DEBUG shows where")


def fail(text: str) -> NoReturn:
    """Say why, and end with exit code 1."""
    print(text, file=sys.stderr)
    raise typer.Exit(1)


def open_house() -> House:
    """The house of this process, with its log configured."""
    house = houses.from_environment()
    logs.configure(house.settings.log_format, house.settings.log_level, house.settings.secrets)
    return house


def run(work: Callable[[House], Coroutine[Any, Any, Any]]) -> Any:
    """Run one piece of work with a house, and close it."""

    async def inside(house: House) -> Any:
        try:
            return await work(house)
        finally:
            await house.database.close()

    with one_line_errors():
        return asyncio.run(inside(open_house()))
