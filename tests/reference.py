"""`python -m tests.reference`: the tables of service/docs that are written out of the code, between their marks."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

from pydantic import AliasChoices

from service import errors, videos
from service.app import ENDPOINTS
from service.docs import FOLDER
from service.runway import catalogue
from service.settings import ENV_NAMES, Settings
from service.web import door, page
from service.web.endpoint import Endpoint
from service.web.openapi import NOT_DESCRIBED
from tests.commandline import commands
from tests.unit.test_catalogue_prices import COMPUTED, MEASURED

TIMES = " \u00d7 "
COMMAND = "python -m tests.reference"
LOGINS = {page.PUBLIC: "none", page.VIEWER: "login", page.ADMIN: "admin login"}


def table(heads: list[str], rows: list[list[str]]) -> str:
    """Markdown; a bar inside a cell is escaped."""
    lines = [" | ".join(cell.replace("|", "\\|") for cell in row) for row in [heads, *rows]]
    return "\n".join([f"| {lines[0]} |", "|" + "---|" * len(heads), *(f"| {line} |" for line in lines[1:])])


def code(*words: str) -> str:
    """Each of them as code, separated by commas."""
    return ", ".join(f"`{word}`" for word in words)


def shown(default: object) -> str:
    """A default: no `.0`, no capitals of Python's, and `none` for what is empty."""
    if isinstance(default, bool):
        return str(default).lower()
    if default is None or default in ("", (), {}):
        return "none"
    if isinstance(default, tuple):
        return ",".join(default)
    return str(int(default)) if isinstance(default, float) and default.is_integer() else str(default)


def settings() -> str:
    """Every setting with all its names, its default and its description."""
    rows = []
    for name, field in Settings.model_fields.items():
        alias = field.validation_alias
        names = [str(choice) for choice in alias.choices] if isinstance(alias, AliasChoices) else [ENV_NAMES[name]]
        rows.append([code(*names), shown(field.default), field.description or ""])
    return table(["setting", "default", "meaning"], rows)


def routes() -> str:
    """Every route with its credentials and its summary, as the tables of the API and of the page have them."""
    rows = [
        [code(f"{method} {at}{one.path}"), code(*(name.upper() for name in one.access.settings)) or "none", _does(one)]
        for at, endpoints in (("", ENDPOINTS), ("/v1", door.ENDPOINTS))
        for one in endpoints
        for method in one.methods
        if method not in NOT_DESCRIBED
    ]
    rows += [[code(f"{one.method} {one.path}"), LOGINS[one.access], _shows(one)] for one in page.SCREENS]
    return table(["route", "credentials", "does"], rows)


def _does(one: Endpoint) -> str:
    names = [parameter.name for parameter in one.parameters if parameter.where == "query"]
    names += one.query.model_fields if one.query else []
    return "; ".join(filter(None, [one.summary, code(*(f"?{name}=" for name in names))]))


def _shows(screen: page.Screen) -> str:
    """What the handler of a screen says in the first sentence of its docstring, behind its route."""
    module, _, function = screen.target.partition(".")
    handler: Any = getattr(import_module(f"{page.__name__}.{module}"), function)
    found = re.match(r"\w+ \S+: (.+?)\.(?:\s|$)", handler.__doc__ or "", re.DOTALL)
    assert found, f"the docstring of {screen.target} does not say what the route does"
    return found[1]


def command_line() -> str:
    """Every command: what it does, and a table of what it takes."""
    parts = []
    for name, command in sorted(commands().items()):
        words = " ".join(command.help.split())
        rows = [[_option(one), _default(one), one.help or ""] for one in command.params]
        assert all(row[2] for row in rows), f"an option of {name} has no help"
        parts.append(
            "\n\n".join([f"## {name}", words, *([table(["option", "default", "meaning"], rows)] if rows else [])])
        )
    return "\n\n".join(parts)


def _option(parameter: Any) -> str:
    options = [*parameter.opts, *parameter.secondary_opts]
    return code(*options) if options[0].startswith("-") else code(parameter.name.upper())


def _default(parameter: Any) -> str:
    if parameter.default is None or parameter.default is False or parameter.default in ((), []):
        return "required" if parameter.required else ""
    if parameter.default is True:
        return code(parameter.opts[0])
    return code(shown(getattr(parameter.default, "value", parameter.default)))


def codes() -> str:
    """Every `error_code` of Taxiway's own."""
    return table(["`error_code`", "meaning"], [[code(one), one.meaning] for one in videos.FailureCode])


NO_PROBLEMS = (errors.MigrationBlocked, errors.WouldWait)  # of the command line alone, and of Runway's own API


def problems() -> str:
    """The type of every problem document, with its status and its title."""
    rows = [
        [code(f"urn:taxiway:problem:{kind.slug}"), str(kind.status), kind("").title]
        for kind in _kinds(errors.TaxiwayError)
        if "slug" in vars(kind) and kind not in NO_PROBLEMS
    ]
    return table(["type", "status", "title"], rows)


def _kinds(root: type[errors.TaxiwayError]) -> Iterator[Any]:
    for kind in root.__subclasses__():
        if kind.__module__ == errors.__name__:
            yield kind
            yield from _kinds(kind)


# In which ways every model runs in the tests, and the test that does it, all of them in one file.
RUNS = "tests/web/test_every_model.py"
SHOWN_BY = {
    "API": "test_every_model_of_every_endpoint_makes_its_files",
    "/v1": "test_every_model_of_every_endpoint_by_runways_own_paths",
    "SDK": "test_every_model_of_every_endpoint_with_runways_sdk",
}
PRICES = "tests/unit/test_catalogue_prices.py::test_the_prices_that_are_known"
BY_BOUND = "by bound"


def models() -> str:
    """Every endpoint and model: what it makes, its price in credits, and how the tests run it."""
    pairs = catalogue.pairs(catalogue.PACKAGED)
    priced = sum(one.price is not None for one in pairs)
    tests = "\n".join(f"* {way}: `{RUNS}::{name}`" for way, name in SHOWN_BY.items())
    rows = [
        [code(one.key) + _form(one), _makes(one), _price(one.price) if one.price else BY_BOUND, ", ".join(SHOWN_BY)]
        for one in pairs
    ]
    return (
        f"{len(catalogue.operations(catalogue.PACKAGED))} endpoints, {len(pairs)} models: {priced} have a price, "
        f"{len(pairs) - priced} go by bound.\n{len(MEASURED)} prices are compared with what Runway charged, "
        f"{len(COMPUTED)} with what the published tables come to,\neach by its name: `{PRICES}`.\n"
        f"In {len(SHOWN_BY)} ways, the tests create each model at the simulator and wait for its files:\n\n{tests}\n\n"
    ) + table(["endpoint and model", "makes", "credits", "ran by"], rows)


def _form(one: catalogue.Model) -> str:
    """Which form of body, where an endpoint has several."""
    consts = (words["const"] for words in one.fields.values() if one.name == one.operation and "const" in words)
    return next((f" ({const})" for const in consts), "")


def _makes(one: catalogue.Model) -> str:
    kinds = [kind for field, kind in (one.outputs or {}).items() if field != "by"] or [one.output]
    words = {"*/*": "anything", "image/*": "images", "audio/*": "audio"}
    return ", ".join(words.get(kind) or code(kind) for kind in dict.fromkeys(kinds))


def _price(price: dict[str, Any]) -> str:
    terms = " + ".join(TIMES.join(filter(None, [_rate(term["rate"]), _quantity(term)])) for term in price["add"])
    return f"{terms}, at least {price['minimum']}" if "minimum" in price else terms


def _rate(rate: Any) -> str:
    if not isinstance(rate, dict):
        return str(rate)
    by, _, megapixels = rate["by"].partition(" ")
    rows = {key: value for key, value in rate.items() if key != "by"}
    if megapixels:
        bands = ", ".join(f"{value} up to {key}" for key, value in rows.items())
        return f"({by} in megapixels: {bands})"
    groups: dict[Any, list[str]] = {}
    for key, value in rows.items():
        groups.setdefault(value, []).append(key)
    return f"({by}: {', '.join(f'{value} for {_few(keys)}' for value, keys in groups.items())})"


def _few(keys: list[str]) -> str:
    return code(*keys) if len(keys) < 4 else f"{len(keys)} others"


def _quantity(term: dict[str, Any]) -> str:
    times = term.get("times")
    if times is None:
        return ""
    if isinstance(times, str):
        words = code(times)
    else:
        [(kind, named)] = times.items()
        names = [named] if isinstance(named, str) else named
        words = code(names[-1]) if kind == "either" else f"{kind} of {code(*names)}"
    return f"each {term['each']} {words}" if "each" in term else words


# Which page has which of them.
PARTS: dict[str, tuple[str, Callable[[], str]]] = {
    "settings": ("settings.md", settings),
    "models": ("models.md", models),
    "routes": ("routes.md", routes),
    "commands": ("commands.md", command_line),
    "codes": ("errors.md", codes),
    "problems": ("errors.md", problems),
}


def renewed(name: str, text: str) -> str:
    """The text of a page with this part as it is now."""
    begin, end = f"<!-- {name}: written by `{COMMAND}` -->", f"<!-- /{name} -->"
    marked = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    assert marked.search(text), f"there is no {begin}"
    whole = f"{begin}\n\n{PARTS[name][1]()}\n\n{end}"
    return marked.sub(lambda _: whole, text)


def write() -> None:
    """Renew all of them."""
    for name, (file, _) in PARTS.items():
        path = FOLDER / file
        path.write_text(renewed(name, path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    write()
