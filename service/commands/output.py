"""What commands print: tables for people at a terminal, one JSON object a line for pipes and with --json.

`rich` is imported where it is used: `tick` and `web` start without it. It respects NO_COLOR and the terminal's width.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.logs import one_line

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table
    from rich.text import Text

AsJson = Annotated[bool, typer.Option("--json", help="One line of JSON for each, for programs; also when piped.")]

Watch = Annotated[bool, typer.Option("--watch", help="Go on, and show what changes, until Ctrl-C.")]
Every = Annotated[float, typer.Option(min=0.2, help="Seconds between two rounds of --watch.")]

LEAST_WIDE = 12  # characters of a column that takes what room is left
STYLES = {
    "queued": "cyan", "processing": "yellow", "completed": "green", "failed": "red", "cancelled": "dim",
    "paused": "yellow", "open": "green", "unknown": "red", "accepted": "green",
}  # fmt: skip


def on_terminal(*, stderr: bool = False) -> bool:
    """Whether stdout, or stderr, is a terminal and not a pipe or a file."""
    return (sys.stderr if stderr else sys.stdout).isatty()


def prints_table(as_json: bool) -> bool:
    """Whether to print tables: at a terminal, unless --json."""
    return not as_json and on_terminal()


def console(*, stderr: bool = False) -> Console:
    """Where rich writes to: no guessing at what is a number or a path."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, markup=False)


def say(text: str) -> None:
    """A remark for people; never on stdout, which may be a pipe."""
    print(text, file=sys.stderr)


def print_json(rows: Iterable[Mapping[str, Any]]) -> None:
    """One object a line."""
    for row in rows:
        print(json.dumps(row, default=str))


def table(
    headings: Sequence[str], rows: Iterable[Sequence[object]], *, wide: Sequence[str] = (), folded: Sequence[str] = ()
) -> Table:
    """Rows under headings. `wide`: columns that take what room is left; `folded`: that are never cut short, but wrap.

    Nor is an id cut short, in the column `video`: it gets copied. No column is narrower than its heading.
    """
    from rich import box
    from rich.table import Table

    cells = [[text(cell) for cell in row] for row in rows]
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, expand=bool(wide))
    for place, heading in enumerate(headings):
        least = max([len(heading), *(len(row[place]) for row in cells if heading == "video")])
        if heading in folded:
            made.add_column(heading, overflow="fold", min_width=least)
        elif heading in wide:
            made.add_column(heading, no_wrap=True, overflow="ellipsis", ratio=1, min_width=max(least, LEAST_WIDE))
        else:
            made.add_column(heading, no_wrap=True, overflow="ellipsis", min_width=least)
    for row in cells:
        made.add_row(*row)
    return made


def pairs(rows: Iterable[tuple[str, object]]) -> Table:
    """What is known of one thing: a name and a value a line; values wrap, and what is empty is left out."""
    from rich.table import Table

    made = Table.grid(padding=(0, 2))
    made.add_column(style="dim", no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in rows:
        if value not in (None, ""):
            made.add_row(name, text(value))
    return made


def text(value: object) -> Text:
    """A value as it may be shown to a terminal: nothing in it that moves cursors, and a word's own colour."""
    from rich.text import Text

    shown = "" if value is None else one_line(str(value))
    return Text(shown, style=STYLES.get(shown, ""))


def credits(amount: float | None) -> str | None:
    """`25`, or `12.5`."""
    return None if amount is None else f"{amount:g}"


def cost(row: Mapping[str, Any]) -> str | None:
    """The cost of a video or a submission, `25`; the most that it may be, `max 25`, until Runway has reported it."""
    if row["cost_credits"] is not None:
        return credits(row["cost_credits"])
    if row.get("outcome") in ("not_sent", "rejected"):
        return "0"
    return None if row["quoted_credits"] is None else f"max {row['quoted_credits']:g}"


def ago(when: datetime | str | None, now: datetime | None = None) -> str:
    """How long before `now` (default: the present) that was, in the largest unit: `3 min`."""
    if when is None:
        return ""
    moment = datetime.fromisoformat(when) if isinstance(when, str) else when
    return span(((now or datetime.now(UTC)) - moment).total_seconds())


def until(when: str | None) -> str:
    """How long from now on; nothing for what is over."""
    seconds = 0.0 if when is None else (datetime.fromisoformat(when) - datetime.now(UTC)).total_seconds()
    return span(seconds) if seconds > 0 else ""


UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"))


def span(seconds: float) -> str:
    """Seconds in the largest unit that fits: `45 s`, `3 min`, `2 h`, `5 d`."""
    size, unit = next(((size, unit) for size, unit in UNITS if abs(seconds) >= size), (1, "s"))
    return f"{seconds / size:.0f} {unit}"


Rows = list[dict[str, Any]]


async def watch(
    fetch: Callable[[], Awaitable[Rows]], key: str, draw: Callable[[Rows], RenderableType],
    pause: Callable[[], Awaitable[object]], *, as_table: bool, has_ended: Callable[[], bool] = lambda: False,
) -> None:  # fmt: skip
    """Fetch and print again and again, until Ctrl-C or until it has ended: a table that is kept up to date.

    Without `as_table`, every row that is new or has changed, the oldest first; the field `key` identifies a row.
    """
    if not as_table:
        seen: dict[Any, dict[str, Any]] = {}
        while True:
            latest = {row[key]: row for row in await fetch()}
            print_json(row for name, row in reversed(latest.items()) if seen.get(name) != row)
            sys.stdout.flush()
            if has_ended():
                return
            seen = latest
            await pause()
    from rich.live import Live

    with Live(console=console(), auto_refresh=False, screen=True) as live:
        while True:
            live.update(draw(await fetch()), refresh=True)
            if has_ended():
                return
            await pause()
