"""What is shipped, and how the parts may lean on each other."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from zipfile import ZipFile

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from service.docs import NAMES
from tests.commandline import calls, parse

ROOT = Path(__file__).parents[2]
SERVICE = ROOT / "service"
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(SERVICE.rglob("*.py"))
}

TOP_LEVEL = {
    "service", "tests", "migrations", "Procfile", "pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md",
    "requirements.txt",
}  # fmt: skip

# Each may import from its own row and from the rows above it.
LAYERS: tuple[set[str], ...] = (
    {
        "actors",
        "deadline",
        "docs",
        "env_parsing",
        "environment",
        "errors",
        "event_loop",
        "events",
        "link_mapping",
        "logs",
        "redaction",
        "response_parsing",
        "settings",
        "videos",
        "webhooks",
    },
    {"store", "runway"},
    {"link_requests", "ssrf"},
    {"installer"},
    {"context"},
    {"operations"},
    {"steps"},
    {"tick_report"},
    {"heartbeat"},
    {"tick", "worker", "doctor", "alerting"},
    {"web"},
    {"app"},
    {"connections"},
    {"serving"},
    {"commands"},
    {"simulator"},
    {"local"},
    {"__main__"},
)
NEVER = {("steps", "web"), ("store", "runway"), ("runway", "store")}

LONGEST_MODULE_LINES = 400
LONGEST_FUNCTION_LINES = 60


def part_of(module: str) -> str:
    """`steps` of `service.steps.submit`."""
    return module.split(".")[1]


@cache
def imported(module: str) -> list[tuple[str, bool]]:
    """The full names that a module imports, and whether only when a function runs."""
    return list(_imported(module))


def _imported(module: str) -> Iterator[tuple[str, bool]]:
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    lazy = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, id(node) in lazy) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            source = node.module or ""
            whole = [name for alias in node.names if (name := f"{source}.{alias.name}") in MODULES]
            yield from ((name, id(node) in lazy) for name in whole or [source])


def own_imports(module: str) -> list[tuple[str, bool]]:
    """Those of them that are ours, below the package itself."""
    return [(name, lazy) for name, lazy in imported(module) if name.startswith("service.")]


class TestDirection:
    """Imports run one way: from what runs to what is."""

    def test_every_part_has_its_layer(self) -> None:
        placed = {part for layer in LAYERS for part in layer}
        assert {part_of(module) for module in MODULES if "." in module} == placed

    def test_nothing_imports_upwards(self) -> None:
        rank = {part: number for number, layer in enumerate(LAYERS) for part in layer}
        upward = [
            f"{module} imports {name}"
            for module in MODULES
            if "." in module
            for name, _ in own_imports(module)
            if rank[part_of(name)] > rank[part_of(module)] or (part_of(module), part_of(name)) in NEVER
        ]
        assert upward == []

    def test_there_is_no_circle(self) -> None:
        graph = {module: {name for name, _ in own_imports(module)} for module in MODULES if "." in module}
        TopologicalSorter(graph).prepare()

    def test_one_module_knows_the_archived_driver(self) -> None:
        knowing = [
            module for module in MODULES for name, _ in imported(module) if name.partition(".")[0] == "databases"
        ]
        assert knowing == ["service.store.database"]

    def test_what_only_a_laptop_has_is_imported_only_when_asked_for(self) -> None:
        asking = {
            (module, lazy)
            for module in MODULES
            if "." in module and part_of(module) not in {"local", "simulator"}
            for name, lazy in own_imports(module)
            if part_of(name) in {"local", "simulator"}
        }
        assert asking == {("service.__main__", True)}

    def test_the_simulator_knows_nothing_of_the_service(self) -> None:
        foreign = [
            f"{module} imports {name}"
            for module in MODULES
            if "." in module and part_of(module) == "simulator"
            for name, _ in imported(module)
            if name.partition(".")[0] == "service" and not name.startswith("service.simulator.")
        ]
        assert foreign == []


def test_statements_read_the_time_in_one_place() -> None:
    """A test lets time pass by replacing `taxiway.now()`; what reads PostgreSQL's own clock would stay behind."""
    files = [*SERVICE.joinpath("store").rglob("*.py"), *SERVICE.joinpath("installer").rglob("*.py")]
    files += sorted((ROOT / "migrations").glob("*.sql"))
    own = re.compile(r"(?<![\w.])now\(\)|\bCURRENT_TIMESTAMP\b|\bCURRENT_DATE\b|\bLOCALTIMESTAMP\b")
    found = [
        f"{path.relative_to(ROOT)}:{number}: write taxiway.now() instead of {word}"
        for path in files
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        for word in own.findall(re.sub(r"`[^`]*`", "", line))
    ]
    assert found == []


def test_handlers_leave_nothing_running() -> None:
    """No work after a response: nothing in the HTTP surface starts what it does not await."""
    starters = {"create_task", "ensure_future", "run_in_executor", "BackgroundTask", "BackgroundTasks", "Thread"}
    found = [
        f"{module}: {name}"
        for module, path in MODULES.items()
        if "." in module and part_of(module) in {"web", "app"}
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        for name in [getattr(node, "attr", getattr(node, "id", getattr(node, "name", None)))]
        if name in starters
    ]
    assert found == []


class TestSize:
    """Short enough to be read at once."""

    def test_of_modules(self) -> None:
        lengths = {module: len(path.read_text(encoding="utf-8").splitlines()) for module, path in MODULES.items()}
        assert {module: lines for module, lines in lengths.items() if lines > LONGEST_MODULE_LINES} == {}

    def test_of_functions(self) -> None:
        long = [
            f"{module}.{node.name}"
            for module, path in MODULES.items()
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            if (node.end_lineno or 0) - node.lineno + 1 > LONGEST_FUNCTION_LINES
        ]
        assert long == []


class TestTopLevel:
    """What stands at the top of the repository."""

    def test_holds_what_it_should_and_nothing_else(self) -> None:
        listed = subprocess.run(
            ["git", "-c", "safe.directory=*", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
        )
        names = {name.partition("/")[0] for name in listed.stdout.split("\0") if name}
        assert {name for name in names if not name.startswith(".")} <= TOP_LEVEL

    def test_the_procfile_runs_commands_that_exist(self) -> None:
        lines = (ROOT / "Procfile").read_text(encoding="utf-8").splitlines()
        processes = dict(line.split(": ", 1) for line in lines)
        assert list(processes) == ["release", "web", "worker", "poller"]
        for command in processes.values():
            assert command.startswith("python -m service ")
            [call] = calls(command)
            parse(call)


def project() -> dict[str, object]:
    """The table [project] of pyproject.toml."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        table: dict[str, object] = tomllib.load(file)["project"]
    return table


LOCK = (ROOT / "requirements.txt").read_text(encoding="utf-8")
PINNED = {canonicalize_name(found[1]): found[2] for found in re.finditer(r"^([\w.-]+)==(\S+)", LOCK, re.MULTILINE)}


class TestLock:
    """requirements.txt: the plain install, pinned and hashed, for hosts that install by it."""

    def test_has_every_dependency_inside_its_range(self) -> None:
        dependencies = project()["dependencies"]
        assert isinstance(dependencies, list)
        assert dependencies
        for line in dependencies:
            wanted = Requirement(line)
            assert wanted.specifier.contains(PINNED[canonicalize_name(wanted.name)]), line

    def test_has_nothing_of_the_extras(self) -> None:
        extras = project()["optional-dependencies"]
        assert isinstance(extras, dict)
        names = {canonicalize_name(Requirement(line).name) for lines in extras.values() for line in lines}
        assert names & set(PINNED) == set()

    def test_names_no_place_and_hashes_everything(self) -> None:
        entries = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", LOCK, flags=re.MULTILINE)).splitlines()
        assert len(entries) == len(PINNED)
        for entry in entries:
            assert re.fullmatch(r"[\w.-]+==\S+( ; [^\\]+?)? *( *--hash=sha256:[0-9a-f]{64})+", entry), entry

    def test_installs_by_its_hashes_and_is_enough(self, tmp_path: Path) -> None:
        """A plain install: every door opens with what the lock file names, and nothing else."""
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-warn-conflicts"]
        lock = ["--require-hashes", "--no-compile", "--target", str(tmp_path), "-r", str(ROOT / "requirements.txt")]
        subprocess.run([*pip, *lock], check=True)
        doors = "import service.app, service.commands, service.worker, service.runway.transport"
        code = f"import sys; sys.path[:0] = {[str(tmp_path), str(ROOT)]}; {doors}; print(*sys.modules)"
        loaded = subprocess.run([sys.executable, "-I", "-S", "-c", code], check=True, capture_output=True, text=True)
        assert not {"aiohttp", "httpx_aiohttp", "pytest", "respx"} & set(loaded.stdout.split())
        assert not list(tmp_path.glob("aiohttp*"))


def test_the_wheel_brings_everything_that_is_read_at_run_time(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--quiet", "--wheel-dir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    [wheel] = tmp_path.glob("*.whl")
    with ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    code = {path.relative_to(ROOT).as_posix() for path in MODULES.values()}
    data = {
        path.relative_to(ROOT).as_posix()
        for path in SERVICE.rglob("*")
        if path.is_file() and path.suffix not in {".py", ".pyc"}
    }
    migrations = {f"service/migrations/{path.name}" for path in (ROOT / "migrations").glob("*.sql")}
    assert {f"service/docs/{name}.md" for name in NAMES} <= data
    assert migrations
    assert names == code | data | migrations
