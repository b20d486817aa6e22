"""The README and service/docs say what is there: every route, setting and command, and nothing that is not."""

from __future__ import annotations

import ast
import json
import re
import shlex
from functools import cache
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from service import docs, videos
from service.commands.recipe import recipes
from service.context import build
from service.operations.enqueuing import price
from service.settings import Settings
from service.web.markdown import anchor
from service.web.schemas import RetryRequest, VideoRequest
from tests import reference
from tests.commandline import calls, parse

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = {path.stem: path for path in docs.FOLDER.glob("*.md")}
TEXTS = {path: path.read_text(encoding="utf-8") for path in (README, *PAGES.values())}
ALL = "\n".join(TEXTS.values())
BASH = [re.sub(r"^ +", "", block, flags=re.MULTILINE) for block in re.findall(r"```bash\n(.*?)```", ALL, re.DOTALL)]
LONGEST_SUMMARY = 120  # characters: a line of `taxiway docs`


def section(page: str, title: str) -> str:
    """What stands under a heading of a page."""
    found = re.split(rf"^##+ {re.escape(title)}\n", TEXTS[PAGES[page]], flags=re.MULTILINE)
    assert len(found) == 2, f"{page} has no section {title}"
    return re.split(r"^##+ ", found[1], flags=re.MULTILINE)[0]


def table(text: str) -> list[list[str]]:
    """The rows of the first table of a text, without its head."""
    found = re.search(r"^\|.*\n\|[-|]+\n((?:\|.*\n)+)", text, re.MULTILINE)
    assert found, "there is no table"
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in found[1].splitlines()]


def code(cell: str) -> list[str]:
    """What stands in backticks."""
    return re.findall(r"`([^`]+)`", cell)


def test_every_page_has_its_place_its_title_and_a_line() -> None:
    assert sorted(docs.NAMES) == sorted(PAGES)
    pages = docs.pages()
    assert len({page.title for page in pages}) == len(pages)
    for page in pages:
        assert len(page.summary) < LONGEST_SUMMARY, page.name
        assert page.summary.endswith("."), page.name
        assert page.text.startswith(f"# {page.title}\n\n"), page.name
        assert "<!--" not in page.text, page.name


@pytest.mark.parametrize("name", reference.PARTS)
def test_what_is_written_out_of_the_code_is_up_to_date(name: str) -> None:
    text = TEXTS[docs.FOLDER / reference.PARTS[name][0]]
    assert text == reference.renewed(name, text), f"run `{reference.COMMAND}`"


def test_every_setting_says_what_it_means() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_every_recipe() -> None:
    calling = [name for name, recipe in recipes().items() if recipe.source.endswith(".md")]
    assert [code(row[0]) for row in table(TEXTS[PAGES["callers"]])] == [[name] for name in calling]
    assert all(f"`{name}`" in ALL or f"recipe {name}" in ALL for name in recipes())


def test_the_nextjs_app_is_the_one_that_is_tested() -> None:
    blocks = re.findall(
        r"^`([^`]+)`: [^\n]+\n\n```(?:tsx?|json)\n(.*?)```$", TEXTS[PAGES["nextjs"]], re.MULTILINE | re.DOTALL
    )
    app = ROOT / "tests" / "nextjs"
    for path, text in blocks:
        assert text == (app / path).read_text(encoding="utf-8"), path
    shown = {path for path, _ in blocks}
    there = {path.relative_to(app).as_posix() for path in app.rglob("*") if path.is_file()}
    scaffold = {"package.json", "package-lock.json", "tsconfig.json", "next.config.mjs", "app/layout.tsx"}
    assert shown == there - scaffold


def test_every_transition() -> None:
    written = {(source, code(row[1])[0]) for row in table(section("videos", "States")) for source in code(row[0])}
    assert written == {(source.value, target.value) for (source, _), target in videos.TRANSITIONS.items()}


def test_every_line_of_the_procfile_has_its_bullet() -> None:
    processes = re.findall(r"^(\w+):", (ROOT / "Procfile").read_text(encoding="utf-8"), re.MULTILINE)
    bullets = re.findall(r"^\* `(\w+)`: ", section("architecture", "Processes"), re.MULTILINE)
    assert bullets[: len(processes)] == processes


def test_every_call_of_the_command_line_is_understood() -> None:
    prose = re.sub(r"```.*?```", "", ALL, flags=re.DOTALL)
    inline = [span.replace(" VIDEO", f" {UUID(int=0)}") for span in code(prose) if " COMMAND" not in span]
    found = [call for piece in [*BASH, *inline] for call in calls(piece)]
    assert len(found) > 10
    for call in found:
        parse(call)


def bodies() -> list[tuple[str, Any]]:
    """The JSON that is sent by `curl -d`, with the path that it is sent to."""
    found = []
    for block in BASH:
        words = shlex.split(block.replace("\\\n", " "))
        if "-d" in words:
            [url] = [word for word in words if word.startswith("http")]
            found.append((re.sub(r"^https?://[^/]+", "", url), json.loads(words[words.index("-d") + 1])))
    return found


@pytest.mark.parametrize("body", [body for path, body in bodies() if path == "/videos"])
def test_every_request_is_one_that_would_be_queued(body: Any) -> None:
    assert price(build(Settings()), VideoRequest.model_validate(body).spec()).quoted_credits > 0


@pytest.mark.parametrize("body", [body for path, body in bodies() if path.endswith("/retry")])
def test_every_retry_is_one_that_would_be_taken(body: Any) -> None:
    assert RetryRequest.model_validate(body).accept_double_charge


def test_every_constraint_and_index_is_in_the_schema() -> None:
    schema = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "migrations").glob("*.sql"))
    named = set(re.findall(r"`((?:videos|submissions)_\w+)`", ALL))
    assert len(named) > 5
    assert {name for name in named if not re.search(rf"\b{name}\b", schema)} == set()


def anchors(path: Path) -> set[str]:
    """The places of a document that a link may lead to."""
    text = re.sub(r"```.*?```", "", TEXTS[path], flags=re.DOTALL)
    return {anchor(title.replace("`", "")) for title in re.findall(r"^#+ (.+)$", text, re.MULTILINE)}


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_every_link_and_every_file_is_there(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", TEXTS[path]):
        if target.startswith("https://"):
            continue
        file, _, place = target.partition("#")
        leads_to = (path.parent / file).resolve() if file else path
        assert leads_to.exists(), target
        assert not place or place in anchors(leads_to), target
    for named in re.findall(r"`((?:service|tests|migrations)/[\w/.]+)[`:]", TEXTS[path]):
        assert (ROOT / named).exists(), named


@pytest.mark.parametrize("page", docs.NAMES)
def test_a_page_needs_no_html_and_no_alignment(page: str) -> None:
    text = re.sub(r"```.*?```|`[^`\n]*`", "", docs.read(page).text, flags=re.DOTALL)
    assert re.findall(r"</?[a-z]+[ >/]", text) == []  # it would be shown as text
    assert re.findall(r"^\|[-|]*:[-:|]*\|$", text, re.MULTILINE) == []  # it would be an inline style


@cache
def functions(path: Path) -> set[str]:
    """The names of all functions in a module."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize(("page", "column"), [("promises", 2), ("security", 3)])
def test_every_test_that_is_named_is_there(page: str, column: int) -> None:
    for row in table(TEXTS[PAGES[page]]):
        assert code(row[column]), f"no test for: {row}"
        for name in code(row[column]):
            path, _, test = name.partition("::")
            assert test.rpartition("::")[2] in functions(ROOT / path), name


def test_every_model_is_listed() -> None:
    text = section("models", "All of them")
    rows = table(text)
    names = [code(row[0])[0] for row in rows]
    endpoints = {re.sub(r"^((?:generate|recipes)/\w+|\w+).*", r"\1", name) for name in names}
    prices = [row[2] for row in rows]
    assert (len(endpoints), len(rows), prices.count("by bound")) == (26, 111, 38)
    assert all(re.search(r"\d", price) for price in prices if price != "by bound")
    assert {row[3] for row in rows} == {"API, /v1, SDK"}
    tests = re.findall(r"`(tests/\S+)::(\w+)`", text)
    assert len(tests) == 4
    assert all(test in functions(ROOT / path) for path, test in tests)


def test_every_module_is_listed() -> None:
    tree = next(block for block in re.findall(r"```text\n(.*?)```", ALL, re.DOTALL) if block.startswith("service/"))
    listed = set(re.findall(r"^  (\w+)(?:\.py|/) ", tree, re.MULTILINE))
    there = {
        path.stem for path in (ROOT / "service").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert listed == there - {"__init__"}
    for folder in ("steps", "operations"):
        line = next(line for line in tree.splitlines() if line.startswith(f"  {folder}/"))
        modules = {path.stem for path in (ROOT / "service" / folder).glob("[a-z]*.py")}
        assert modules <= set(re.findall(r"\w+", line))
