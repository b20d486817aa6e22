"""The README says what is there: every route, setting and command, and nothing that is not."""

from __future__ import annotations

import ast
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from pydantic import AliasChoices
from starlette.routing import Route

from service import videos
from service.app import ROUTES
from service.commands.recipe import recipes
from service.settings import ENV_NAMES, Settings
from service.web import openapi, page
from service.web.models import RetryRequest, VideoRequest
from service.web.videos import new_video
from tests.commandline import calls, commands, options, parse

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
SECTIONS = {
    title: body
    for title, _, body in (part.partition("\n") for part in re.split(r"^##+ ", TEXT, flags=re.MULTILINE)[1:])
}
BASH = [re.sub(r"^ +", "", block, flags=re.MULTILINE) for block in re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL)]
LARGEST_PICTURE_BYTES = 150_000
TEST_LINE = "python3 -m venv .venv && .venv/bin/pip install -e '.[dev]' && .venv/bin/pytest"
RUN_LINE = "python3 -m venv .venv && .venv/bin/pip install -e '.[local]' && .venv/bin/taxiway dev"


def table(title: str) -> list[list[str]]:
    """The rows of the first table of a section, without its head."""
    found = re.search(r"^\|.*\n\|[-|]+\n((?:\|.*\n)+)", SECTIONS[title], re.MULTILINE)
    assert found, f"the section {title} has no table"
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in found[1].splitlines()]


def code(cell: str) -> list[str]:
    """What stands in backticks."""
    return re.findall(r"`([^`]+)`", cell)


def test_it_opens_with_the_problem_the_promise_and_the_two_lines() -> None:
    opening = TEXT.partition("\n## ")[0]
    order = ["frozen", "never stuck", "paid at most once", "no work after a response", RUN_LINE, TEST_LINE]
    places = [re.search(re.escape(words), opening, re.IGNORECASE) for words in order]
    assert all(places)
    assert [place.start() for place in places if place] == sorted(place.start() for place in places if place)


def test_the_gate_runs_the_test_line() -> None:
    gate = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    places = [gate.find(part) for part in TEST_LINE.split(" && ")]
    assert -1 not in places


def names(routes: list[Route]) -> set[str]:
    """`GET /videos`, without the second spelling that ends with a slash."""
    return {
        f"{method} {route.path}"
        for route in routes
        for method in (route.methods or set()) - {"HEAD", "OPTIONS"}
        if route.path == "/" or not route.path.endswith("/")
    }


def test_every_route() -> None:
    served = names(ROUTES)
    written = [name for row in table("Routes") for name in code(row[0])]
    documented = {f"{verb.upper()} {path}" for path, verbs in openapi.build()["paths"].items() for verb in verbs}
    assert set(written) == served
    assert len(written) == len(served)
    # What people look at is not for programs.
    assert {name for name in documented if not name.startswith("PARAMETERS ")} == served - names(page.ROUTES)


def accepted(name: str) -> list[str]:
    """The names of one setting, in the order in which they count."""
    alias = Settings.model_fields[name].validation_alias
    return [str(choice) for choice in alias.choices] if isinstance(alias, AliasChoices) else [ENV_NAMES[name]]


def written_default(value: object) -> str:
    """A default as the table has it: no `.0`, and `none` for what is empty."""
    if value is None or value in ("", (), {}):
        return "none"
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def test_every_setting_with_its_names_and_its_default() -> None:
    written = [(code(row[0]), row[1]) for row in table("Settings")]
    fields = Settings.model_fields.items()
    assert written == [(accepted(name), written_default(field.default)) for name, field in fields]
    assert all(row[2] for row in table("Settings"))


def test_every_command_with_its_options() -> None:
    written = {code(row[0])[0]: set(code(row[1])) for row in table("Commands")}
    assert written == {name: options(command) for name, command in commands().items()}


def test_every_recipe() -> None:
    calling = [name for name, recipe in recipes().items() if recipe.source.endswith(".md")]
    assert [code(row[0]) for row in table("3. Something that calls it")] == [[name] for name in calling]
    assert all(f"`{name}`" in TEXT or f"recipe {name}" in TEXT for name in recipes())


def test_the_nextjs_app_is_the_one_that_is_tested() -> None:
    blocks = re.findall(
        r"^`([^`]+)`: [^\n]+\n\n```(?:tsx?|json)\n(.*?)```$", SECTIONS["Next.js"], re.MULTILINE | re.DOTALL
    )
    app = ROOT / "tests" / "nextjs"
    for path, text in blocks:
        assert text == (app / path).read_text(encoding="utf-8"), path
    shown = {path for path, _ in blocks}
    there = {path.relative_to(app).as_posix() for path in app.rglob("*") if path.is_file()}
    scaffold = {"package.json", "package-lock.json", "tsconfig.json", "next.config.mjs", "app/layout.tsx"}
    assert shown == there - scaffold


def test_every_reason_of_our_own() -> None:
    reasons = {
        value for name, value in vars(videos).items() if name.isupper() and isinstance(value, str) and name == value
    }
    assert {code(line)[0] for line in re.findall(r"^\| `[A-Z_]+` \|.*$", TEXT, re.MULTILINE)} >= reasons


def test_every_transition() -> None:
    written = {(source, code(row[1])[0]) for row in table("What happens to a video") for source in code(row[0])}
    assert written == {(source.value, target.value) for (source, _), target in videos.TRANSITIONS.items()}


def test_every_line_of_the_procfile_has_its_bullet() -> None:
    processes = re.findall(r"^(\w+):", (ROOT / "Procfile").read_text(encoding="utf-8"), re.MULTILINE)
    bullets = re.findall(r"^\* `(\w+)`: ", SECTIONS["Architecture"], re.MULTILINE)
    assert bullets[: len(processes)] == processes


def test_every_call_of_the_command_line_is_understood() -> None:
    inline = [span for span in code(re.sub(r"```.*?```", "", TEXT, flags=re.DOTALL)) if " COMMAND" not in span]
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
    asked = new_video(VideoRequest.model_validate(body), Settings(), None, "")
    assert asked.quoted_credits > 0


@pytest.mark.parametrize("body", [body for path, body in bodies() if path.endswith("/retry")])
def test_every_retry_is_one_that_would_be_taken(body: Any) -> None:
    assert RetryRequest.model_validate(body).accept_double_charge


def test_every_constraint_and_index_is_in_the_schema() -> None:
    schema = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "migrations").glob("*.sql"))
    named = set(re.findall(r"`((?:videos|submissions)_\w+)`", TEXT))
    assert len(named) > 5
    assert {name for name in named if not re.search(rf"\b{name}\b", schema)} == set()


def test_every_link_and_every_file_is_there() -> None:
    targets = re.findall(r"\]\(([^)]+)\)", TEXT)
    anchors = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in SECTIONS}
    for target in targets:
        if target.startswith("#"):
            assert target[1:] in anchors, target
        elif not target.startswith("https://"):
            assert (ROOT / target).exists(), target
    for path in re.findall(r"`((?:service|tests|migrations)/[\w/.]+)[`:]", TEXT):
        assert (ROOT / path).exists(), path


def test_every_picture_is_there_and_small() -> None:
    shown = set(re.findall(r"\.pictures/[\w.-]+", TEXT))
    assert len(shown) >= 3
    for path in sorted(shown):
        content = (ROOT / path).read_bytes()
        assert content.startswith(b"\x89PNG")
        assert len(content) < LARGEST_PICTURE_BYTES, path
    kept = {f".pictures/{path.name}" for path in (ROOT / ".pictures").iterdir()}
    assert kept == shown  # the repository keeps every version for good


def test_every_test_that_is_named_is_there() -> None:
    rows = table("Promises")
    for row in rows:
        assert code(row[2]), f"no test for: {row[0]}"
        for name in code(row[2]):
            path, _, test = name.partition("::")
            tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
            names = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
            assert test.rpartition("::")[2] in names, name


def test_every_module_is_listed() -> None:
    tree = next(block for block in re.findall(r"```text\n(.*?)```", TEXT, re.DOTALL) if block.startswith("service/"))
    listed = set(re.findall(r"^  (\w+)(?:\.py|/) ", tree, re.MULTILINE))
    there = {
        path.stem for path in (ROOT / "service").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert listed == there - {"__init__"}
    for folder in ("steps", "operations"):
        line = next(line for line in tree.splitlines() if line.startswith(f"  {folder}/"))
        modules = {path.stem for path in (ROOT / "service" / folder).glob("[a-z]*.py")}
        assert modules <= set(re.findall(r"\w+", line))
