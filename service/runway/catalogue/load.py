"""The catalogue's files: one for each endpoint of Runway that makes a task, read when it is first asked for.

README.md beside them says how they read. What a file says is checked as it is loaded (strict.py), so that nothing else
has to doubt it. CATALOGUE_FILE is a JSON Merge Patch (RFC 7396) over all of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from service.runway.catalogue import strict
from service.runway.catalogue.strict import CatalogueError

Schema = dict[str, Any]
SHAPES, DEFAULTS = "shapes", "defaults"  # the files that are no endpoint's
REF = "#/$defs/"
UNNAMED = "*"  # the one entry of an endpoint whose body names none


@dataclass(frozen=True)
class Model:
    """What one model takes in one operation: `schema`, an object's, without references; `rules`; and its price.

    `price` None: unknown, so that a request needs a bound. `filled`: fields that Runway requires and a default fills.
    `output`: the media type of its files, unless `outputs`, a table by a field's value, has another.
    """

    operation: str
    name: str
    schema: Schema
    rules: tuple[dict[str, Any], ...] = ()
    price: dict[str, Any] | None = None
    filled: tuple[str, ...] = ()
    output: str = "*/*"
    outputs: dict[str, str] | None = None

    @property
    def fields(self) -> dict[str, Schema]:
        """The schema of each field of the body, `model` aside."""
        found: dict[str, Schema] = self.schema["properties"]
        return found

    @property
    def key(self) -> str:
        """The endpoint and the model in one, as settings name them: `recipes/product_ad`, `video_to_video/aleph2`."""
        return self.operation if self.name == self.operation else f"{self.operation}/{self.name}"

    @property
    def title(self) -> str:
        """The model in sentences."""
        return self.operation if self.name == self.operation else f"{self.name} in {self.operation}"


@dataclass(frozen=True)
class Operation:
    """One endpoint. `entries`: by the value of the body's field `chosen_by`; without that there is one entry.

    `needs_id`: its path ends with an id, which an operation carries behind its name.
    """

    name: str
    entries: dict[str, Model]
    chosen_by: str | None = "model"
    needs_id: bool = False

    @property
    def models(self) -> tuple[str, ...]:
        """Its models; one whose body names none has the operation's name."""
        return tuple(dict.fromkeys(model.name for model in self.entries.values()))


@dataclass
class Catalogue:
    """Every operation, by Runway's path after /v1/. `files`: parsed, or still to be read, by name without `.json`."""

    files: Mapping[str, Any]
    shapes: Mapping[str, Schema]
    _loaded: dict[str, Operation] = field(default_factory=dict, repr=False)

    @property
    def operations(self) -> tuple[str, ...]:
        """The names of the operations."""
        return tuple(name.replace(".", "/") for name in self.files)

    def operation(self, name: str) -> Operation | None:
        """The operation of this name, or of the name that stands before an id. Raises CatalogueError."""
        if (found := self._load(name)) is not None:
            return found
        head, _, id = name.partition("/")
        found = self._load(head) if id else None
        return found if found and found.needs_id else None

    def model(self, operation: str | None, name: str | None) -> Model | None:
        """What this model takes in this operation; of several entries without a name of their own, the first."""
        known = self.operation(operation or "")
        entries = known.entries.values() if known else ()
        return next((model for model in entries if model.name == name), None)

    def _load(self, name: str) -> Operation | None:
        if name not in self._loaded:
            file = name.replace("/", ".")
            if file not in self.files or name not in self.operations:
                return None
            self._loaded[name] = _operation(name, file, self.files[file], self.shapes)
        return self._loaded[name]


class _Packaged(dict[str, Any]):
    """The packaged files with our own defaults over them, each read when it is first asked for."""

    def __init__(self) -> None:
        self.folder = resources.files(__package__)
        names = sorted(one.name.removesuffix(".json") for one in self.folder.iterdir() if one.name.endswith(".json"))
        super().__init__(dict.fromkeys(name for name in names if name not in (SHAPES, DEFAULTS)))
        self.defaults: dict[str, Any] = self.read(DEFAULTS)

    def read(self, name: str) -> Any:
        return json.loads((self.folder / f"{name}.json").read_text(encoding="utf-8"))

    def __getitem__(self, name: str) -> Any:
        if super().__getitem__(name) is None:
            self[name] = merge(self.read(name), self.defaults.get(name, {}))
        return super().__getitem__(name)


def packaged() -> Catalogue:
    """The catalogue that is delivered with Taxiway."""
    files = _Packaged()
    return Catalogue(files, files.read(SHAPES)["$defs"])


def of_files(files: Mapping[str, Any]) -> Catalogue:
    """A catalogue of these files, `shapes` among them or not, all of it checked. Raises CatalogueError."""
    shapes = files.get(SHAPES, {"$defs": {}})
    if not isinstance(shapes, dict) or not isinstance(shapes.get("$defs"), dict):
        raise CatalogueError(SHAPES, "must be an object with `$defs`")
    found = Catalogue({name: file for name, file in files.items() if name != SHAPES}, shapes["$defs"])
    for name in found.operations:
        found.operation(name)
    return found


def overlaid(path: Path) -> Catalogue:
    """The packaged catalogue with the JSON Merge Patch of this file over it. Raises CatalogueError with the place."""
    try:
        patch = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise CatalogueError(str(path), f"cannot be read as JSON: {exc}") from None
    if not isinstance(patch, dict):
        raise CatalogueError(str(path), "must be an object: for each endpoint, what changes")
    base = _Packaged()
    whole = {SHAPES: base.read(SHAPES)} | {name: base[name] for name in base}
    try:
        return of_files(merge(whole, patch))
    except CatalogueError as exc:
        raise CatalogueError(f"{path}: {exc.place}", exc.why) from None


def merge(target: Any, patch: Any) -> Any:
    """`patch` applied to `target` as RFC 7396 says: objects are merged, null removes, all else replaces."""
    if not isinstance(patch, dict):
        return patch
    found = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            found.pop(key, None)
        else:
            found[key] = merge(found.get(key), value)
    return found


def _operation(name: str, file: str, said: Any, shapes: Mapping[str, Schema]) -> Operation:
    strict.check_file(said, file)
    chosen_by = said.get("chosen_by", None if UNNAMED in said["models"] else "model")
    entries = {}
    for key, entry in said["models"].items():
        place = f"{file}/models/{key}"
        strict.check_entry(entry, place)
        fields = {one: _resolved(it, shapes, f"{place}/properties/{one}") for one, it in entry["properties"].items()}
        filled = tuple(one for one in entry["required"] if "default" in fields.get(one, {}))
        required = [one for one in entry["required"] if one not in filled]
        model = Model(
            operation=name,
            name=key if chosen_by == "model" else name,
            schema={"type": "object", "properties": fields, "required": required, "additionalProperties": False},
            rules=tuple(entry.get("rules", ())),
            price=entry.get("price"),
            filled=filled,
            output=said["output"],
            outputs=entry.get("outputs"),
        )
        strict.check_model(model.schema, model.rules, model.price, model.outputs, place)
        entries[key] = model
    return Operation(name, entries, chosen_by, said.get("needs_id", False))


def _resolved(schema: Any, shapes: Mapping[str, Schema], place: str, within: tuple[str, ...] = ()) -> Any:
    """The schema with each reference replaced by the shape that it names; what stands beside it wins."""
    if isinstance(schema, list):
        return [_resolved(one, shapes, f"{place}/{number}", within) for number, one in enumerate(schema)]
    if not isinstance(schema, dict):
        return schema
    found = {
        key: _resolved(value, shapes, f"{place}/{key}", within) if key not in ("enum", "const", "default") else value
        for key, value in schema.items()
    }
    if "$ref" not in found:
        return found
    name = str(found.pop("$ref")).removeprefix(REF)
    if name not in shapes or name in within:
        raise CatalogueError(f"{place}/$ref", f"{name} is not a shape, or one that contains itself")
    return _resolved(shapes[name], shapes, f"{SHAPES}/$defs/{name}", (*within, name)) | found
