"""What the catalogue's files may say, and nothing else: a closed subset of JSON Schema, rules between fields, prices.

A file is not loaded if it says more: a keyword that is not understood would be a check that is not made.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from service.runway.catalogue import paths, walk

Schema = Mapping[str, Any]
SCALARS = (str, bool, int, float)
FORMATS = ("image-uri", "video-uri", "audio-uri")
# Which keywords go with which type; and those that go without one.
BY_TYPE: dict[str, tuple[str, ...]] = {
    "string": ("minLength", "maxLength", "pattern", "format", "x-seconds"),
    "integer": ("minimum", "maximum", "exclusiveMinimum"),
    "number": ("minimum", "maximum", "exclusiveMinimum"),
    "boolean": (),
    "object": ("properties", "required", "additionalProperties", "x-seconds", "x-aspect"),
    "array": ("items", "minItems", "maxItems", "x-seconds"),
}
UNTYPED = ("enum", "const", "anyOf", "default", "x-deprecated", "x-aspect")
# The forms of a rule: the keys that it has.
WHEN = {"need", "need_one", "without", "only"}
LIST_RULES = (
    {"distinct"},
    {"contains"},
    {"all_or_none"},
    {"sum", "from", "to"},
    {"sum", "equals"},
    {"where", "at_most"},
)
QUANTITIES = ("seconds", "count", "characters", "either")


class CatalogueError(ValueError):
    """A file of the catalogue that says what it must not: `place`, a path from the file's name on, and why."""

    def __init__(self, place: str, why: str) -> None:
        super().__init__(f"{place} {why}")
        self.place, self.why = place, why


def check_file(said: Any, file: str) -> None:
    """The frame of one endpoint's file. Raises CatalogueError."""
    _keys(said, file, need=("output", "models"), may=("chosen_by", "needs_id"))
    _expect(isinstance(said["output"], str) and "/" in said["output"], f"{file}/output", "must be a media type")
    _expect(isinstance(said["models"], dict) and said["models"], f"{file}/models", "must be an object with a model")


def check_entry(entry: Any, place: str) -> None:
    """The frame of one model. Raises CatalogueError."""
    _keys(entry, place, need=("properties", "required"), may=("rules", "price", "strict", "outputs"))
    _expect(isinstance(entry["properties"], dict), f"{place}/properties", "must be an object")
    _expect(isinstance(entry.get("strict", True), bool), f"{place}/strict", "must be true or false")


def check_model(schema: Schema, rules: Iterable[Any], price: Any, outputs: Any, place: str) -> None:
    """All of one model, whose schema has no references left. Raises CatalogueError with the first place."""
    check_schema(schema, place)
    for number, rule in enumerate(rules):
        with _whole(f"{place}/rules/{number}"):
            _check_rule(rule, schema, f"{place}/rules/{number}")
    if price is not None:
        with _whole(f"{place}/price"):
            _check_price(price, schema, f"{place}/price")
    if outputs is not None:
        with _whole(f"{place}/outputs"):
            _table(outputs, schema, f"{place}/outputs", str)


@contextmanager
def _whole(place: str) -> Iterator[None]:
    """A part that is of another type than its form has is refused as well."""
    try:
        yield
    except (TypeError, AttributeError):
        raise CatalogueError(place, "has a part of the wrong type") from None


def check_schema(schema: Any, place: str) -> None:
    """One schema and those within it."""
    _expect(isinstance(schema, Mapping), place, "must be an object")
    kind = schema.get("type")
    _expect(kind is None or kind in BY_TYPE, f"{place}/type", f"must be one of {', '.join(BY_TYPE)}")
    known = ("type", *UNTYPED, *BY_TYPE.get(kind or "", ()))
    for keyword, value in schema.items():
        _expect(keyword in known, f"{place}/{keyword}", f"is no keyword here: there are {', '.join(known)}")
        if keyword != "type":
            KEYWORDS[keyword](value, f"{place}/{keyword}")
    if "default" in schema:
        for problem in walk.check(schema, schema["default"], ""):
            raise CatalogueError(f"{place}/default", problem.detail)
    named = schema.get("properties", {})
    for name in schema.get("required", ()):
        _expect(name in named, f"{place}/required", f"names {name}, which is not among the properties")
    if named:
        closed = schema.get("additionalProperties") is False
        _expect(closed, f"{place}/additionalProperties", "must be false beside properties")


def _schemas(value: Any, place: str) -> None:
    _expect(isinstance(value, dict), place, "must be an object")
    for name, one in value.items():
        check_schema(one, f"{place}/{name}")


def _any_of(value: Any, place: str) -> None:
    _expect(isinstance(value, list) and len(value) > 1, place, "must be a list of two schemas or more")
    for number, one in enumerate(value):
        check_schema(one, f"{place}/{number}")


def _scalars(value: Any, place: str) -> None:
    fine = isinstance(value, list) and value and all(isinstance(one, SCALARS) for one in value)
    _expect(fine, place, "must be a list of words, numbers, true or false")


def _names(value: Any, place: str) -> None:
    fine = isinstance(value, list) and all(isinstance(one, str) for one in value)
    _expect(fine, place, "must be a list of names")


def _scalar(value: Any, place: str) -> None:
    _expect(isinstance(value, SCALARS), place, "must be a word, a number, true or false")


def _count(value: Any, place: str) -> None:
    _expect(type(value) is int and value >= 0, place, "must be a whole number, 0 or more")


def _number(value: Any, place: str) -> None:
    _expect(type(value) in (int, float), place, "must be a number")


def _range(value: Any, place: str) -> None:
    fine = isinstance(value, list) and len(value) == 2 and all(type(one) in (int, float) for one in value)
    _expect(fine and value[0] <= value[1], place, "must be a list of two numbers, the smaller one first")


def _pattern(value: Any, place: str) -> None:
    try:
        re.compile(value)
    except (re.error, TypeError):
        raise CatalogueError(place, "must be a regular expression") from None


def _format(value: Any, place: str) -> None:
    _expect(value in FORMATS, place, f"must be one of {', '.join(FORMATS)}")


def _additional(value: Any, place: str) -> None:
    if value is not False:
        check_schema(value, place)


KEYWORDS: Mapping[str, Callable[[Any, str], None]] = {
    "enum": _scalars, "const": _scalar, "default": _scalar, "anyOf": _any_of, "properties": _schemas,
    "required": _names, "additionalProperties": _additional, "items": check_schema, "minItems": _count,
    "maxItems": _count, "minLength": _count, "maxLength": _count, "minimum": _number, "maximum": _number,
    "exclusiveMinimum": _number, "pattern": _pattern, "format": _format, "x-seconds": _range, "x-aspect": _range,
    "x-deprecated": _scalars,
}  # fmt: skip


def _check_rule(rule: Any, schema: Schema, place: str) -> None:
    _expect(isinstance(rule, dict), place, "must be an object")
    keys = set(rule)
    if "when" in keys:
        _expect(len(keys) > 1 and keys - {"when"} <= WHEN, place, f"must have `when` and of {', '.join(sorted(WHEN))}")
    elif "list" in keys:
        _expect(
            keys - {"list"} in LIST_RULES, place, "must be a list's rule: distinct, contains, all_or_none, sum, where"
        )
    else:
        _expect(keys == {"count", "at_most"}, place, "must have `when`, `list` or `count`")
    for path in _paths_of(rule):
        _known(path, schema, place)


def _paths_of(rule: Mapping[str, Any]) -> Iterator[str]:
    yield from rule.get("when", {})
    yield from rule.get("only", {})
    for key in ("need", "need_one", "without", "count"):
        yield from rule.get(key, ())
    if "list" in rule:
        yield rule["list"]
        for key in ("distinct", "all_or_none", "sum"):
            if key in rule:
                yield f"{rule['list']}.{rule[key]}"
        for key in ("contains", "where"):
            yield from (f"{rule['list']}.{name}" for name in rule.get(key, {}))
    if "equals" in rule:
        yield rule["equals"]


def _check_price(price: Any, schema: Schema, place: str) -> None:
    _keys(price, place, need=("add",), may=("minimum",))
    _positive(price.get("minimum", 1), f"{place}/minimum")
    _expect(isinstance(price["add"], list) and price["add"], f"{place}/add", "must be a list of terms")
    for number, term in enumerate(price["add"]):
        at = f"{place}/add/{number}"
        _keys(term, at, need=("rate",), may=("times", "each"))
        if isinstance(term["rate"], dict):
            _table(term["rate"], schema, f"{at}/rate", float)
        else:
            _positive(term["rate"], f"{at}/rate")
        _positive(term.get("each", 1), f"{at}/each")
        if "times" in term:
            _check_quantity(term["times"], schema, f"{at}/times")


def _check_quantity(times: Any, schema: Schema, place: str) -> None:
    if isinstance(times, str):
        _factor(times, schema, place)
        return
    _expect(isinstance(times, dict) and len(times) == 1, place, "must be a field, or one of " + ", ".join(QUANTITIES))
    [(kind, named)] = times.items()
    _expect(kind in QUANTITIES, place, f"must be one of {', '.join(QUANTITIES)}")
    for path in [named] if isinstance(named, str) else named:
        if kind == "either":
            _factor(path, schema, place)
        elif (kind, path) != ("seconds", "output"):
            _known(path, schema, place)


def _factor(path: str, schema: Schema, place: str) -> None:
    """A field that multiplies: if it could be 0 or less, a request would be free, or worse."""
    _known(path, schema, place)
    least = paths.least(paths.schema_at(schema, path))
    _expect(least is not None and least > 0, place, f"needs a minimum above 0 for {path}, or a price could be free")


def _table(table: Mapping[str, Any], schema: Schema, place: str, kind: type) -> None:
    """A table by a field's value, or by its megapixels, has an entry for all that the field may be."""
    _expect(isinstance(table.get("by"), str), f"{place}/by", "must name a field")
    path, megapixels = paths.by(table)
    _known(path, schema, place)
    rows = {key: value for key, value in table.items() if key != "by"}
    for key, value in rows.items():
        if kind is str:
            _expect(isinstance(value, str), f"{place}/{key}", "must be a media type")
        else:
            _expect(type(value) in (int, float) and value >= 0, f"{place}/{key}", "must be a number, 0 or more")
    if megapixels:
        _expect(all(re.fullmatch(r"\d+(\.\d+)?", key) for key in rows), place, "must have a number for each band")
        return
    missing = {paths.key(value) for value in paths.values_of(paths.schema_at(schema, path))} - {
        key.lower() for key in rows
    }
    _expect(not missing, place, f"lacks {', '.join(sorted(missing))} of {path}")


def _known(path: str, schema: Schema, place: str) -> None:
    _expect(paths.schema_at(schema, path) is not None, place, f"names {path}, which the model does not have")


def _positive(value: Any, place: str) -> None:
    _expect(type(value) in (int, float) and value > 0, place, "must be a number above 0")


def _keys(said: Any, place: str, *, need: tuple[str, ...], may: tuple[str, ...]) -> None:
    _expect(isinstance(said, dict), place, "must be an object")
    for key in need:
        _expect(key in said, place, f"lacks {key}")
    for key in said:
        _expect(key in need + may, f"{place}/{key}", f"is not known: there are {', '.join(need + may)}")


def _expect(fine: object, place: str, why: str) -> None:
    if not fine:
        raise CatalogueError(place, why)
