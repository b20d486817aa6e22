"""`taxiway recipe`: ready-made configuration for what calls Taxiway, as texts in service/recipes/.

Each is valid as it stands, with an example's address in it, and that is what gets replaced. A recipe is Markdown, with
one fenced block for each file (```json vercel.json), or one file that is printed as it is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from service.commands.console import fail

FOLDER = Path(__file__).parents[1] / "recipes"
EXAMPLE_URL = "https://taxiway.example.com"
# What may stand in it is harmless in every language that it is put into: shell, JSON, YAML, TOML and SQL.
URL = re.compile(r"https?://[A-Za-z0-9.-]+(:\d{1,5})?(/[A-Za-z0-9._~-]+)*/?")
BLOCK = re.compile(r"^```(\w+) (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

cli = typer.Typer()


@dataclass(frozen=True)
class Recipe:
    """One text. `source`: its file's name; `summary`: a sentence for the list."""

    name: str
    source: str
    summary: str
    text: str

    def files(self) -> dict[str, str]:
        """The files that it is made of, by name."""
        return {name: content for _, name, content in BLOCK.findall(self.text)} or {self.source: self.text}


def recipes(url: str = EXAMPLE_URL) -> dict[str, Recipe]:
    """All of them by name, for the Taxiway at this address, which has no slash at its end."""
    return {path.stem: _read(path, url) for path in sorted(FOLDER.iterdir()) if path.is_file()}


def _read(path: Path, url: str) -> Recipe:
    text = path.read_text(encoding="utf-8").replace(EXAMPLE_URL, url)
    text = text.replace(urlsplit(EXAMPLE_URL).netloc, urlsplit(url).netloc)  # where a host stands alone
    heading = text.partition("\n")[0].lstrip("# ")
    return Recipe(path.stem, path.name, heading.removeprefix(f"{path.stem}: "), text)


@cli.command()
def recipe(
    name: Annotated[str | None, typer.Argument(help="Whose; without it, all of them are listed.")] = None,
    url: Annotated[str, typer.Option(help="Where your Taxiway is.")] = EXAMPLE_URL,
    file: Annotated[str | None, typer.Option(help="Print this file of it and nothing else.")] = None,
) -> None:
    """Print ready-made configuration for a host or for a cron service that calls."""
    if not URL.fullmatch(url):
        fail(f"taxiway: --url must be the plain address of your Taxiway, such as {EXAMPLE_URL}")
    known = recipes(url.rstrip("/"))
    if name is None:
        width = max(map(len, known))
        print("\n".join(f"{one.name:<{width}}  {one.summary}" for one in known.values()))
        return
    if name not in known:
        fail(f"taxiway: there is no recipe {name!r}; there are: {', '.join(known)}")
    if file is None:
        print(known[name].text.rstrip("\n"))
        return
    files = known[name].files()
    if file not in files:
        fail(f"taxiway: {name} has no file {file!r}; it has: {', '.join(files)}")
    print(files[file].rstrip("\n"))
