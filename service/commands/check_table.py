"""Checks at a terminal: problems first, in colour unless NO_COLOR is set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from service.commands.output import text
from service.doctor.checks import Check, CheckStatus, counted, ranked

if TYPE_CHECKING:
    from rich.console import RenderableType

STYLES = {CheckStatus.ERROR: "bold red", CheckStatus.WARNING: "yellow", CheckStatus.OK: "green"}


def drawn(checks: Sequence[Check], heading: str | None = None) -> RenderableType:
    """A line for each check, with its fix below, and a last line that counts them."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold", min_width=12)
    grid.add_column(overflow="fold", ratio=1)
    for check in ranked(checks):
        words = text(check.message)
        if check.fix:
            words = Text("\n").join([words, Text("fix: ", style="bold") + text(check.fix)])
        grid.add_row(Text(check.status.value, style=STYLES[check.status]), f"{check.area}: {check.name}", words)
    return Group(*([Text(heading, style="bold")] if heading else []), grid, Text(""), Text(counted(checks)))
