"""`taxiway docs`: the documentation of this version, as it is served at /docs/NAME."""

from __future__ import annotations

from typing import Annotated

import typer

from service.commands.console import fail
from service.commands.output import console, prints_table
from service.docs import NAMES, no_such_page, pages, read

cli = typer.Typer()


def _names() -> list[str]:
    return list(NAMES)


@cli.command()
def docs(
    name: Annotated[
        str | None, typer.Argument(help="Which page; without it, all of them are listed.", autocompletion=_names)
    ] = None,
) -> None:
    """Print a page of the documentation: laid out at a terminal, as Markdown in a pipe."""
    if name is None:
        width = max(map(len, NAMES))
        print("\n".join(f"{page.name:<{width}}  {page.summary}" for page in pages()))
        return
    if name not in NAMES:
        fail(f"taxiway: {no_such_page(name)}")
    text = read(name).text
    if not prints_table(as_json=False):
        print(text.rstrip("\n"))
        return
    from rich.markdown import Markdown

    console().print(Markdown(text))
