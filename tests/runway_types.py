"""What Runway's SDK says of every call that makes a task: fields, types and sentences, read from its source.

The simulator validates from it (service/simulator/types.json), and the test of drift compares the catalogue with it.
After an update of `runwayml`, read what has changed, then run `python -m tests.runway_types`: it writes the simulator's
file, and the hashes of the sentences (tests/drift_sentences.json). With `--print` it prints all that it has read as one
JSON document, which is how another version than the installed one is read.

A type is one of

    "string", "integer", "number", "boolean", "anything"    a JSON type
    "image", "video", "audio"                               a URI of such a file
    ["a", "b"]                                              one of these values
    {"list": T}, {"map": T}, {"any": [T, T]}                items, values, alternatives
    {"required": {"a": T}, "optional": {"b": T}}            an object
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import inspect
import json
import pkgutil
import re
import sys
import textwrap
import types
import typing
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import runwayml
import runwayml.resources
import typing_extensions

TYPES = Path(__file__).parents[1] / "service" / "simulator" / "types.json"
SENTENCES = Path(__file__).with_name("drift_sentences.json")
# What is POSTed and makes no task. Any other new endpoint is one that the catalogue may lack.
NO_TASKS = frozenset(
    {
        "avatars", "documents", "organization/usage", "realtime_sessions", "routers", "uploads", "voices",
        "voices/preview",
    }
)  # fmt: skip
CREATES = re.compile(r'self\._post\(\s*(?:path_template\()?"/v1/([^"]+)"(.*?)cast_to', re.DOTALL)
PARAMS = re.compile(r"(\w+_params)\.(\w+)")
KIND = re.compile(r"encoded (image|video|audio)\b|assets/inputs#(image|video|audio)s?\b")
LINE = 118
JSON_TYPES = {str: "string", int: "integer", float: "number", bool: "boolean", object: "anything"}

Type = Any


class Body(NamedTuple):
    """One body that an endpoint takes, and the sentences of its fields by their path."""

    type: Type
    sentences: dict[str, str]


Bodies = dict[str, dict[str, Body]]


def bodies() -> Bodies:
    """Every body that makes a task, by operation and model; `*` where the body names none."""
    creates = dict(_creates())
    return {operation: dict(_variants(creates[operation])) for operation in sorted(creates)}


def _creates() -> Iterator[tuple[str, Any]]:
    """Operations and the types of their parameters, as the SDK's own methods combine them."""
    for info in pkgutil.walk_packages(runwayml.resources.__path__, "runwayml.resources."):
        module = importlib.import_module(info.name)
        for path, call in CREATES.findall(inspect.getsource(module)):
            params = PARAMS.search(call)
            if params and path not in NO_TASKS:
                yield path.removesuffix("/{id}"), getattr(getattr(module, params[1]), params[2])


def _variants(params: Any) -> Iterator[tuple[str, Body]]:
    alternatives = typing.get_args(params) if _is_union(params) else (params,)
    for alternative in alternatives:
        sentences: dict[str, str] = {}
        body = _object(alternative, "", sentences)
        required = body.get("required", {})
        tag = required.get("model") or (required.get("mode") if len(alternatives) > 1 else None)
        for name in tag or ["*"]:
            yield name, Body(body, sentences)


def _object(cls: Any, path: str, sentences: dict[str, str]) -> Type:
    required: dict[str, Type] = {}
    optional: dict[str, Type] = {}
    sentences_of = _sentences(cls.__module__)[cls.__name__]
    for name, hint in typing_extensions.get_type_hints(cls, include_extras=True).items():
        must, alias, inner = _unwrapped(name, hint)
        place = f"{path}.{alias}" if path else alias
        sentence = sentences_of.get(name, "")
        if sentence:
            sentences[place] = sentence
        (required if must else optional)[alias] = _type(inner, place, _kind(alias, sentence), sentences)
    parts = {"required": dict(sorted(required.items())), "optional": dict(sorted(optional.items()))}
    return {part: fields for part, fields in parts.items() if fields} or parts


def _unwrapped(name: str, hint: Any) -> tuple[bool, str, Any]:
    """Whether the field must be there, its name in JSON, and its type alone."""
    must, alias = False, name
    while (origin := typing_extensions.get_origin(hint)) in (typing_extensions.Required, typing.Annotated):
        must = must or origin is typing_extensions.Required
        for extra in getattr(hint, "__metadata__", ()):
            alias = getattr(extra, "alias", None) or alias
        hint = typing_extensions.get_args(hint)[0]
    return must, alias, hint


def _type(hint: Any, path: str, kind: str | None, sentences: dict[str, str]) -> Type:
    origin, args = typing_extensions.get_origin(hint), typing_extensions.get_args(hint)
    if origin is typing.Literal:
        return list(args)
    if _is_union(hint):
        return {"any": [_type(arg, path, kind, sentences) for arg in args]}
    if origin is dict:
        return {"map": _type(args[1], f"{path}{{}}", kind, sentences)}
    if origin is not None:  # Iterable, or a sequence that is no text
        return {"list": _type(args[0], f"{path}[]", kind, sentences)}
    if hint in JSON_TYPES:
        return kind if hint is str and kind else JSON_TYPES[hint]
    return _object(hint, path, sentences)


def _is_union(hint: Any) -> bool:
    return typing_extensions.get_origin(hint) in (typing.Union, types.UnionType)


def _kind(alias: str, sentence: str) -> str | None:
    """The kind of file of a URI: the SDK has it in prose alone, or nowhere for the frames of a video."""
    if found := KIND.search(sentence):
        return found[1] or found[2]
    return "image" if alias == "promptImage" else None


@cache
def _sentences(module: str) -> dict[str, dict[str, str]]:
    """The string after each field of each class of a module; Python itself forgets them."""
    found: dict[str, dict[str, str]] = {}
    for cls in ast.parse(inspect.getsource(sys.modules[module])).body:
        if isinstance(cls, ast.ClassDef):
            found[cls.name] = dict(_fields(cls.body))
    return found


def _fields(body: list[ast.stmt]) -> Iterator[tuple[str, str]]:
    for field, after in pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            assert isinstance(field.target, ast.Name)
            yield field.target.id, " ".join(str(after.value.value).split())


def written(value: Any, indent: str = "") -> str:
    """JSON for people: what fits in a line stands in one."""
    line = json.dumps(value)
    if len(indent) + len(line) <= LINE or not isinstance(value, dict | list):
        return line
    deeper = f"{indent} "
    if isinstance(value, dict):
        items = [f"{json.dumps(key)}: {written(item, deeper)}" for key, item in value.items()]
        return f"{{\n{deeper}" + f",\n{deeper}".join(items) + f"\n{indent}}}"
    if any(isinstance(item, dict) for item in value):
        return f"[\n{deeper}" + f",\n{deeper}".join(written(item, deeper) for item in value) + f"\n{indent}]"
    return f"[\n{textwrap.fill(line[1:-1], LINE, initial_indent=deeper, subsequent_indent=deeper)}\n{indent}]"


def hashes(found: Bodies) -> dict[str, dict[str, str]]:
    """A short hash of every sentence, by body and path. Limits and prices stand in them alone."""
    return {
        f"{operation} {name}": {
            path: hashlib.sha256(sentence.encode()).hexdigest()[:8] for path, sentence in sorted(body.sentences.items())
        }
        for operation, by_name in found.items()
        for name, body in by_name.items()
    }


def sentences_file(found: Bodies) -> str:
    """The content of tests/drift_sentences.json: a line for each body."""
    lines = [f"{json.dumps(name)}: {json.dumps(paths)}" for name, paths in hashes(found).items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def types_file(found: Bodies) -> str:
    """The content of the simulator's types.json."""
    shapes = {operation: {name: body.type for name, body in by.items()} for operation, by in found.items()}
    return written(shapes) + "\n"


if __name__ == "__main__":
    if sys.argv[1:] == ["--print"]:
        print(json.dumps(bodies()))  # noqa: T201  # what its caller reads
    else:
        TYPES.write_text(types_file(bodies()), encoding="utf-8")
        SENTENCES.write_text(sentences_file(bodies()), encoding="utf-8")
