"""Runway's newest SDK against the catalogue: a model that is new, gone or changed, and a sentence that is another.

The newest `runwayml` comes from the registry. Where that cannot be reached, it is the installed one; the failure says
which it was. To make this pass again: read the difference, bring the catalogue up to date, require the new version,
and run `python -m tests.runway_types`. A difference that is meant goes into tests/drift_known.json with its reason.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.drift import changed_sentences, compare, known_differences, schemas, unknown
from tests.runway_types import SENTENCES, Bodies, Body, bodies

DOWNLOAD = (
    "-m",
    "pip",
    "download",
    "runwayml",
    "--no-deps",
    "--only-binary=:all:",
    "--retries=0",
    "--timeout=10",
    "-q",
)
READ = ("-m", "tests.runway_types", "--print")


@pytest.fixture(scope="module")
def newest(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Bodies]:
    """A version of the SDK, and what it says."""
    folder = tmp_path_factory.mktemp("sdk")
    subprocess.run([sys.executable, *DOWNLOAD, f"--dest={folder}"], check=False, capture_output=True, timeout=60)
    wheels = list(folder.glob("runwayml-*.whl"))
    installed = importlib.metadata.version("runwayml")
    if not wheels:
        return f"{installed} (installed; the registry cannot be reached)", bodies()
    version = wheels[0].name.split("-")[1]
    if version == installed:
        return f"{version} (the newest, and installed)", bodies()
    return f"{version} (the newest; installed is {installed})", read(wheels[0], folder / "unpacked")


def read(wheel: Path, folder: Path) -> Bodies:
    """What another version than the installed one says, read by a process that finds it first."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    environment = os.environ | {"PYTHONPATH": str(folder)}
    printed = subprocess.run([sys.executable, *READ], check=True, capture_output=True, text=True, env=environment)
    found = json.loads(printed.stdout)
    return {
        operation: {name: Body(*body) for name, body in by_name.items()} for operation, by_name in found.items()
    }  # fmt: skip


def test_the_catalogue_has_every_model_and_field_of_the_sdk(newest: tuple[str, Bodies]) -> None:
    version, sdk = newest
    lines = unknown(compare(schemas(), sdk), known_differences())
    assert not lines, "\n".join([f"runwayml {version} and the catalogue:", *lines])


def test_every_sentence_of_the_sdk_is_one_that_was_read(newest: tuple[str, Bodies]) -> None:
    version, sdk = newest
    lines = changed_sentences(sdk, json.loads(SENTENCES.read_text(encoding="utf-8")))
    assert not lines, "\n".join([f"runwayml {version} says what was not read yet:", *lines])


def test_another_version_is_read_as_the_installed_one_is(tmp_path: Path) -> None:
    """From a wheel made of the installed package, with one model that has another name."""
    wheel, package = tmp_path / "other.whl", Path(sys.modules["runwayml"].__file__ or "").parent
    with zipfile.ZipFile(wheel, "w") as archive:
        for file in package.rglob("*.py"):
            content = file.read_text(encoding="utf-8").replace('Literal["act_two"]', 'Literal["act_three"]')
            archive.writestr(f"runwayml/{file.relative_to(package)}", content)
    other = read(wheel, tmp_path / "unpacked")
    assert other["character_performance"].keys() == {"act_three"}
    assert other.keys() == bodies().keys()
    assert {**other, "character_performance": {}} == {**bodies(), "character_performance": {}}
