"""Rules between fields: each says what goes with what, as a check of a body and as a sentence.

A field that is not given counts as its default, where it has one; `given` means that the body itself has it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from service.errors import Problem
from service.runway.catalogue import paths
from service.runway.catalogue.walk import wanted
from service.runway.messages import as_text, listed, truncate

Rule = Mapping[str, Any]
Schema = Mapping[str, Any]
GIVEN = "given"


def check(rules: Iterable[Rule], schema: Schema, body: Mapping[str, Any], pointer: str) -> Iterator[Problem]:
    """What a body, each field of which is right by itself, breaks of these rules."""
    for rule in rules:
        if "when" in rule:
            if all(_holds(path, wish, schema, body) for path, wish in rule["when"].items()):
                yield from _check_when(rule, schema, body, pointer)
        elif "count" in rule:
            count = sum(count_at(body, path) for path in rule["count"])
            if count > rule["at_most"]:
                words = f"{_joined(rule['count'], 'and')} have {count} items: at most {rule['at_most']} go"
                yield Problem(_at(pointer, schema, rule["count"][0]), words)
        else:
            for found in paths.given_at(body, rule["list"]):
                if isinstance(found, list) and (broken := _broken(rule, schema, body, found)):
                    yield Problem(_at(pointer, schema, rule["list"]), broken)


def count_at(body: Mapping[str, Any], path: str) -> int:
    """How many things a body has at this path: the items of a list, or the one thing that stands there."""
    return sum(len(value) if isinstance(value, list) else 1 for value in paths.given_at(body, path))


def sentence(rule: Rule) -> str:
    """The rule in words."""
    if "when" in rule:
        return f"Where {condition(rule)}: {'; '.join(_demands(rule))}."
    if "count" in rule:
        return f"At most {rule['at_most']} of {_joined(rule['count'], 'and')} together."
    name = rule["list"]
    if "distinct" in rule:
        return f"In {name}, no {rule['distinct']} twice."
    if "contains" in rule:
        return f"In {name}, an item whose {_pairs(rule['contains'])}."
    if "all_or_none" in rule:
        return f"In {name}, {rule['all_or_none']} in all items, or in none."
    if "where" in rule:
        return f"In {name}, at most {rule['at_most']} items whose {_pairs(rule['where'])}."
    whole = rule.get("equals") or f"{rule['from']} to {rule['to']}"
    return f"In {name}, {rule['sum']} adds up to {whole}."


def condition(rule: Rule) -> str:
    """When the rule holds, in words."""
    return " and ".join(
        f"{path} is given" if wish == GIVEN else f"{path} is {_joined(wish, 'or')}"
        for path, wish in rule["when"].items()
    )


def _demands(rule: Rule) -> Iterator[str]:
    for name in rule.get("need", ()):
        yield f"{name} is required"
    if "need_one" in rule:
        yield f"one of {_joined(rule['need_one'], 'or')} is required"
    for name in rule.get("without", ()):
        yield f"{name} does not go"
    for name, values in rule.get("only", {}).items():
        yield f"{name} is {_joined(values, 'or')}"


def _holds(path: str, wish: Any, schema: Schema, body: Mapping[str, Any]) -> bool:
    if wish == GIVEN:
        return paths.is_given(body, path)
    return any(value in wish for value in paths.values_at(body, schema, path) if not isinstance(value, list | dict))


def _check_when(rule: Rule, schema: Schema, body: Mapping[str, Any], pointer: str) -> Iterator[Problem]:
    why, first = condition(rule), next(iter(rule["when"]))
    for name in rule.get("need", ()):
        if not paths.is_given(body, name):
            field = paths.schema_at(schema, name) or {}
            yield Problem(_at(pointer, schema, name), f"is missing where {why}: give {wanted(field)}")
    if "need_one" in rule and not any(paths.is_given(body, name) for name in rule["need_one"]):
        words = f"needs {_joined(rule['need_one'], 'or')} where {why}: add one of them"
        yield Problem(_at(pointer, schema, first), words)
    for name in rule.get("without", ()):
        if paths.is_given(body, name):
            yield Problem(_at(pointer, schema, name), f"does not go where {why}: leave it out")
    for name, values in rule.get("only", {}).items():
        for value in paths.values_at(body, schema, name):
            if value in values:
                continue
            if rule["when"][first] == GIVEN:
                words = f"goes only with {name} {_joined(values, 'or')}: set that, or leave {first} out"
                yield Problem(_at(pointer, schema, first), words)
            else:
                words = f"must be one of {listed(values)} where {why}; got {truncate(value)}"
                yield Problem(_at(pointer, schema, name), words)


def _broken(rule: Rule, schema: Schema, body: Mapping[str, Any], items: list[Any]) -> str | None:
    """What these items break of a list's rule, as a sentence."""
    item = paths.schema_at(schema, rule["list"]) or {}
    if "distinct" in rule:
        found = paths.given_at(items, rule["distinct"])
        twice = len(set(map(as_text, found))) < len(found)
        return f"has the same {rule['distinct']} twice: give each item its own" if twice else None
    if "contains" in rule:
        has_one = any(_matches(one, rule["contains"], item) for one in items)
        return None if has_one else f"needs an item whose {_pairs(rule['contains'])}: add it"
    if "all_or_none" in rule:
        some = sum(rule["all_or_none"] in one for one in items)
        words = f"has {rule['all_or_none']} in some items only: give it in all of them, or in none"
        return words if 0 < some < len(items) else None
    if "where" in rule:
        count = sum(_matches(one, rule["where"], item) for one in items)
        words = f"has {count} items whose {_pairs(rule['where'])}: at most {rule['at_most']} go"
        return words if count > rule["at_most"] else None
    return _broken_sum(rule, schema, body, items)


def _broken_sum(rule: Rule, schema: Schema, body: Mapping[str, Any], items: list[Any]) -> str | None:
    total = sum(paths.given_at(items, rule["sum"]))
    least, most = rule.get("from"), rule.get("to")
    if "equals" in rule:
        whole = paths.values_at(body, schema, rule["equals"])
        least = most = whole[0] if whole else total
    if least <= total <= most:
        return None
    wanted = f"{rule['equals']}, {least}" if "equals" in rule else f"{least} to {most}"
    return f"has {total} in all as {rule['sum']}: it must add up to {wanted}"


def _matches(item: Any, wish: Mapping[str, Any], schema: Schema) -> bool:
    return all(value in paths.values_at(item, schema, name) for name, value in wish.items())


def _pairs(wish: Mapping[str, Any]) -> str:
    return " and ".join(f"{name} is {as_text(value)}" for name, value in wish.items())


def _joined(values: Iterable[Any], word: str) -> str:
    return f" {word} ".join(map(as_text, values))


def _at(pointer: str, schema: Schema, path: str) -> str:
    """The JSON pointer of a path, as far as it is one: up to a list."""
    found = []
    for name in path.split("."):
        found.append(name)
        here = paths.schema_at(schema, ".".join(found)) or {}
        if "items" in here or any("items" in branch for branch in here.get("anyOf", ())):
            break
    return f"{pointer}/{'/'.join(found)}"
