"""The catalogue as JSON Schema 2020-12, for editors, generators and other validators.

It says all that the check says where JSON Schema can: rules become `if`/`then` and `contains`; what it cannot say
stands in the description. It counts code points where Runway counts UTF-16 code units, so it refuses nothing that the
check takes: of a text of at least n units, at least half as many code points.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service.runway.assets import uri_schema
from service.runway.catalogue import paths
from service.runway.catalogue.load import Model
from service.runway.catalogue.rules import GIVEN, Rule, sentence

Schema = Mapping[str, Any]


def schema_of(model: Model) -> dict[str, Any]:
    """JSON Schema of the body that `build_request` takes for this model."""
    said, unsaid = [], []
    for rule in model.rules:
        found = _rule(rule, model.schema)
        said += found
        unsaid += [] if found else [sentence(rule)]
    fields = {name: _value(field) for name, field in model.fields.items()}
    named = {} if model.name == model.operation else {"model": {"const": model.name}}
    return {
        "type": "object",
        **({"description": " ".join(unsaid)} if unsaid else {}),
        "properties": named | fields,
        "required": [*named, *model.schema["required"]],
        "additionalProperties": False,
        **({"allOf": said} if said else {}),
    }


def _value(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_value(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: value if key in ("enum", "const", "default") else _value(value) for key, value in schema.items()}
    if "format" in found:
        return {
            **{key: value for key, value in found.items() if key not in ("format", "type")},
            **uri_schema(found["format"]),
        }
    if found.get("minLength", 0) > 1:
        found["minLength"] = (found["minLength"] + 1) // 2
    if "maxLength" in found:
        found["description"] = "The length is counted in UTF-16 code units."
    return found


def _rule(rule: Rule, schema: Schema) -> list[Schema]:
    """The rule as schemas that all hold; none if JSON Schema cannot say it."""
    if "when" in rule:
        conditions = [_condition(path, wish, schema) for path, wish in rule["when"].items()]
        return [{"if": _all(conditions), "then": _all(list(_demands(rule, schema)))}]
    if "count" in rule:
        names = rule["count"]
        return [{"properties": {names[0]: {"maxItems": rule["at_most"]}}}] if len(names) == 1 else []
    return [_at(rule["list"], one) for one in _list_rule(rule, schema)]


def _condition(path: str, wish: Any, schema: Schema) -> Schema:
    if wish == GIVEN:
        return _given(path, schema)
    default = (paths.schema_at(schema, path) or {}).get("default", paths.ABSENT)
    found = _at(path, {"enum": list(wish)})
    return found if default in wish else _all([_given(path, schema), found])


def _demands(rule: Rule, schema: Schema) -> list[Schema]:
    found = [_given(name, schema) for name in rule.get("need", ())]
    if "need_one" in rule:
        found.append({"anyOf": [_given(name, schema) for name in rule["need_one"]]})
    found += [{"not": _given(name, schema)} for name in rule.get("without", ())]
    for path, values in rule.get("only", {}).items():
        found.append(_at(path, {"enum": list(values)}))
        default = (paths.schema_at(schema, path) or {}).get("default", paths.ABSENT)
        found += [] if default is paths.ABSENT or default in values else [_given(path, schema)]
    return found


def _list_rule(rule: Rule, schema: Schema) -> list[Schema]:
    item = paths.schema_at(schema, rule["list"]) or {}
    if "distinct" in rule:
        values = paths.values_of(paths.schema_at(item, rule["distinct"]))
        return [_contains({rule["distinct"]: value}, schema={}, most=1) for value in values]
    if "contains" in rule:
        return [{"contains": _matches(rule["contains"], item)}]
    if "all_or_none" in rule:
        has_it = {"required": [rule["all_or_none"]]}
        return [{"anyOf": [{"items": has_it}, {"items": {"not": has_it}}]}]
    if "where" in rule:
        return [_contains(rule["where"], item, rule["at_most"])]
    return []


def _contains(wish: Mapping[str, Any], schema: Schema, most: int) -> Schema:
    return {"contains": _matches(wish, schema), "minContains": 0, "maxContains": most}


def _matches(wish: Mapping[str, Any], item: Schema) -> Schema:
    absent_counts = [
        name for name, value in wish.items() if (paths.schema_at(item, name) or {}).get("default") == value
    ]
    return {
        "properties": {name: {"const": value} for name, value in wish.items()},
        "required": [name for name in wish if name not in absent_counts],
    }


def _given(path: str, schema: Schema) -> Schema:
    name, _, rest = path.partition(".")
    if not rest:
        return {"required": [name]}
    inner = paths.schema_at(schema, name) or {}
    below = _given(rest, inner)
    is_list = any("items" in branch for branch in [inner, *inner.get("anyOf", ())])
    within = {"type": "array", "contains": below} if is_list else below
    return {"required": [name], "properties": {name: within}}


def _at(path: str, schema: Schema) -> Schema:
    """What holds for the field at this path, if it is there."""
    name, _, rest = path.partition(".")
    return {"properties": {name: _at(rest, schema) if rest else schema}}


def _all(schemas: list[Schema]) -> Schema:
    return schemas[0] if len(schemas) == 1 else {"allOf": schemas}
