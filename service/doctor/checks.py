"""What is wrong with this installation, and how to fix it: settings and Runway. Pure.

Four things lose a video when an app calls Runway by itself, and each is named in these words where it shows: the
function ends with the response, the key is missing, the endpoint is wrong, a crash between call and save.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from urllib.parse import urlsplit

from pydantic import AliasChoices

from service.env_parsing import RUNWAY_URL, WRONG_RUNWAY_HOST
from service.environment import doubts
from service.errors import RunwayUnavailable
from service.redaction import Redactor
from service.runway.account import Account, Limits
from service.settings import ENV_NAMES, Settings

FEW_CREDITS = 120  # what ten seconds of gen4.5 cost


class CheckStatus(StrEnum):
    """How bad it is: a warning is for a person to judge, an error keeps videos from being made."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


SEVERITY = (CheckStatus.ERROR, CheckStatus.WARNING, CheckStatus.OK)


@dataclass(frozen=True)
class Check:
    """The result of one check: where, how bad it is, what it says, and the fix."""

    area: str
    name: str
    status: CheckStatus
    message: str
    fix: str = ""


def unchecked(area: str, name: str, why: str) -> Check:
    """What could not be checked, because of a problem that another check names."""
    return Check(area, name, CheckStatus.WARNING, f"not checked: {why}")


MAKE_A_SECRET = "make one with `openssl rand -hex 24`"  # noqa: S105  # advice, not a secret
# The settings that an installation has, in order: how bad it is without one, what that means, how to fix it.
WANTED = {
    "database_url": (CheckStatus.ERROR, "not set: there is no queue", "set it to the URL of your PostgreSQL database"),
    "runway_key": (
        CheckStatus.ERROR,
        "key missing: nothing can be sent to Runway",
        "make a key at https://dev.runwayml.com and set it",
    ),
    "api_keys": (
        CheckStatus.WARNING,
        "not set: /videos answers 503",
        f"{MAKE_A_SECRET}, unless your app only inserts rows itself",
    ),
    "cron_secret": (
        CheckStatus.WARNING,
        "not set: /process-queued answers 503",
        f"{MAKE_A_SECRET}, unless `taxiway worker` or `taxiway tick` does the work",
    ),
}
DOUBT_FIXES = {
    "SUBMIT_KEEPALIVE": "remove SUBMIT_KEEPALIVE, unless you need hundreds of creates a second",
    "RUNWAYML_API_SECRET": "copy the key again, whole, from https://dev.runwayml.com",
    "MAX_CREDITS_PER_DAY": "set it to what a bad day may cost at most; a credit is a cent",
}


def settings(loaded: Settings, environment: Mapping[str, str], unused: Collection[str] = frozenset()) -> list[Check]:
    """Every wanted setting, and what is allowed and probably a mistake. `environment`: as the process has it.

    `unused`: settings that this installation does without.
    """
    given = {name.upper(): value.strip() for name, value in environment.items() if value.strip()}
    doubtful = [
        *missing(loaded, unused),
        *_doubtful(loaded),
        *_endpoint(loaded, given),
        *_ambiguous(given),
        *_quoted(given),
    ]
    named = {check.name for check in doubtful}
    fine = [ENV_NAMES[name] for name in WANTED if ENV_NAMES[name] not in named]
    return [Check("settings", name, CheckStatus.OK, "set") for name in fine] + doubtful


def missing(loaded: Settings, unused: Collection[str]) -> list[Check]:
    """The wanted settings that are not set; what this installation does without is ok."""
    return [
        Check("settings", ENV_NAMES[name], CheckStatus.OK, "not set, and not used here")
        if name in unused else Check("settings", ENV_NAMES[name], *words)
        for name, words in WANTED.items()
        if not getattr(loaded, name)
    ]  # fmt: skip


def _doubtful(loaded: Settings) -> list[Check]:
    pairs = [doubt.split(" ", 1) for doubt in doubts(loaded)]
    return [
        Check("settings", name, CheckStatus.WARNING, words, DOUBT_FIXES.get(name, f"correct {name}"))
        for name, words in pairs
    ]


def _endpoint(loaded: Settings, given: Mapping[str, str]) -> list[Check]:
    """The host that refuses every key, which was replaced at load; and a path that is no part of the address."""
    name = next((name for name in _names("runway_url") if name in given), ENV_NAMES["runway_url"])
    fix = f"set {name}={RUNWAY_URL}, or remove it"
    if re.match(rf"https?://{re.escape(WRONG_RUNWAY_HOST)}(?![\w.-])", given.get(name, ""), re.IGNORECASE):
        words = f"wrong endpoint: it names {WRONG_RUNWAY_HOST}, which refuses every key; {RUNWAY_URL} is used instead"
        return [Check("settings", name, CheckStatus.WARNING, words, fix)]
    url = urlsplit(loaded.runway_url)
    if url.hostname == urlsplit(RUNWAY_URL).hostname and url.path:
        words = f"wrong endpoint: {url.path} is no part of the address, Taxiway adds the paths itself"
        return [Check("settings", name, CheckStatus.ERROR, words, fix)]
    return []


def _names(field: str) -> list[str]:
    """Every name under which a setting is looked for, the first that counts first."""
    alias = Settings.model_fields[field].validation_alias
    return [str(choice) for choice in alias.choices] if isinstance(alias, AliasChoices) else [ENV_NAMES[field]]


def _quoted(given: Mapping[str, str]) -> list[Check]:
    """Values in quotation marks, which a shell would remove, and `docker --env-file` and many dashboards do not."""
    names = [name for field in Settings.model_fields for name in _names(field)]
    words = "begins and ends with a quotation mark, which counts as part of the value"
    fix = "remove the quotes: `docker --env-file` and hosts' dashboards take a value as it stands"
    return [
        Check("settings", name, CheckStatus.WARNING, words, f"{fix} ({name})")
        for name in dict.fromkeys(names)
        if (value := given.get(name)) and len(value) > 1 and value[0] == value[-1] and value[0] in "\"'`"
    ]


def _ambiguous(given: Mapping[str, str]) -> list[Check]:
    """Settings that are given under several names, with different values."""
    found = []
    for field in Settings.model_fields:
        first, *others = [name for name in _names(field) if name in given] or [""]
        for name in (name for name in others if given[name] != given[first]):
            words = f"ignored: {first} is set to something else, and counts"
            found.append(Check("settings", name, CheckStatus.WARNING, words, f"remove {name}, or make both the same"))
    return found


def refused(complaints: Iterable[str]) -> list[Check]:
    """The complaints of settings that contradict themselves. Nothing else can be checked with them."""
    known = set(ENV_NAMES.values())
    found = []
    for complaint in complaints:
        name = complaint.partition(" ")[0]
        words = complaint.partition(" ")[2] if name in known else complaint
        where = name if name in known else "environment"
        found.append(Check("settings", where, CheckStatus.ERROR, words, f"correct it, or remove {where}"))
    return found


def callbacks(loaded: Settings) -> Check:
    """Whether callbacks are taken. Nothing depends on them."""
    taken = "the secret is set" if loaded.callback_secrets else "no secret, so none are taken"
    return Check("callbacks", ENV_NAMES["callback_secrets"], CheckStatus.OK, f"{taken}; not needed, Runway sends none")


def account(loaded: Settings, seen: Account) -> list[Check]:
    """What `GET /v1/organization` says: credits left, the tier's limits for what is used."""
    found = [
        Check("Runway", "endpoint", CheckStatus.OK, f"{loaded.runway_url} answers"),
        Check("Runway", "key", CheckStatus.OK, "accepted"),
        credits(seen.credits, loaded.alert_credits_under or FEW_CREDITS),
    ]
    return found + [_limits(seen, model) for model in dict.fromkeys([loaded.image_model, loaded.text_model])]


def credits(left: Decimal | None, few: Decimal | int) -> Check:
    """Credits left at Runway; None: its number cannot be read. Fewer than `few` are a warning."""
    if left is None:
        return unchecked("Runway", "credits", "Runway's number cannot be read")
    status = CheckStatus.ERROR if left <= 0 else CheckStatus.WARNING if left < few else CheckStatus.OK
    fix = "" if status is CheckStatus.OK else "buy credits at https://dev.runwayml.com"
    return Check("Runway", "credits", status, f"{left:f} left", fix)


def _limits(seen: Account, model: str) -> Check:
    limits = seen.models.get(model)
    if limits is None:
        fix = "raise the tier at https://dev.runwayml.com, or use another model"
        return Check("Runway", model, CheckStatus.WARNING, "the account's tier does not name this model", fix)
    at_once, daily, made = (_number(limits, name) for name in ("at_once", "a_day", "made_today"))
    words = f"{at_once} at once, {daily} a day ({made} made)"
    if limits.a_day is not None and limits.made_today is not None and limits.made_today >= limits.a_day:
        fix = "wait, videos stay queued; or raise the tier at https://dev.runwayml.com"
        return Check("Runway", model, CheckStatus.WARNING, f"the day's limit is reached: {words}", fix)
    return Check("Runway", model, CheckStatus.OK, words)


def _number(limits: Limits, name: str) -> str:
    value = getattr(limits, name)
    return "?" if name in limits.unreadable else "any number" if value is None else f"{value:f}"


def no_account(loaded: Settings, exc: RunwayUnavailable) -> list[Check]:
    """Why Runway did not describe the account, by its status and its words."""
    name, status, words, fix = _refusal(loaded, exc.extra.get("runway_status"), exc.detail)
    others = [other for other in ("endpoint", "key", "credits") if other != name]
    reached = name != "endpoint"
    fine = [Check("Runway", "endpoint", CheckStatus.OK, f"{loaded.runway_url} answers")] if reached else []
    left = [unchecked("Runway", other, words.partition(":")[0]) for other in others if other != "endpoint"]
    return [*fine, Check("Runway", name, status, f"{words}: {exc.detail}", fix), *left]


def _refusal(loaded: Settings, answered: object, detail: str) -> tuple[str, CheckStatus, str, str]:
    """Which check failed, how badly, in which words, and how to fix it."""
    url, key, headers = (ENV_NAMES[name] for name in ("runway_url", "runway_key", "runway_headers"))
    correct = f"correct {url}, whose right value is {RUNWAY_URL}, or remove it"
    strange = "Incorrect hostname" in detail or re.search(r"<(!doctype|html)\b", detail, re.IGNORECASE)
    match answered:
        case None if loaded.runway_url == RUNWAY_URL:
            reach = "let this machine reach it: name resolution, firewall, proxy"
            return "endpoint", CheckStatus.ERROR, "Runway does not answer", reach
        case None:
            return "endpoint", CheckStatus.ERROR, "wrong endpoint, or it does not answer", correct
        case 508:
            fix = f"set {url}={RUNWAY_URL} and {key} to Runway's key here; set the door's address in your app alone"
            return "endpoint", CheckStatus.ERROR, f"{url} leads to a Taxiway, which would call itself", fix
        case int() if answered >= 500 or answered == 429:
            return "endpoint", CheckStatus.WARNING, "Runway is busy or down", "wait: videos stay queued meanwhile"
        case 401 | 403 if not strange:
            fix = f"make a new key at https://dev.runwayml.com and set {key}"
            return "key", CheckStatus.ERROR, "key refused", fix
        case 400 if not strange:
            return "headers", CheckStatus.ERROR, "the request's headers are refused", f"correct {headers}"
        case _:
            return "endpoint", CheckStatus.ERROR, "wrong endpoint", correct


def as_json(checks: Sequence[Check]) -> str:
    """The checks as one JSON list."""
    return json.dumps([dataclasses.asdict(check) for check in checks], ensure_ascii=False)


def fit_to_show(checks: Iterable[Check], redact: Redactor) -> list[Check]:
    """Without secrets, and each on one line: some of the words are a stranger's."""

    def shown(text: str) -> str:
        return " ".join("".join(c if c.isprintable() else " " for c in redact(text)).split())

    return [dataclasses.replace(check, message=shown(check.message), fix=shown(check.fix)) for check in checks]


def ranked(checks: Iterable[Check]) -> list[Check]:
    """The checks with the errors first, then the warnings, each kind in its order."""
    return sorted(checks, key=lambda check: SEVERITY.index(check.status))


def worst(checks: Iterable[Check]) -> CheckStatus:
    """The status of the worst of them; ok without any."""
    return next((check.status for check in ranked(checks)), CheckStatus.OK)


def as_table(checks: Sequence[Check]) -> str:
    """The checks in aligned columns, problems first, the fix of each below it, and a last line that counts them."""
    sorted_ = ranked(checks)
    rows = [("STATUS", "AREA", "CHECK"), *((one.status.value, one.area, one.name) for one in sorted_)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    starts = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    lines = [f"{starts[0]}  MESSAGE"]
    for start, check in zip(starts[1:], sorted_, strict=True):
        lines.append(f"{start}  {check.message}")
        if check.fix:
            lines.append(f"{' ' * len(start)}  fix: {check.fix}")
    return "\n".join([*lines, "", counted(checks)])


def counted(checks: Sequence[Check]) -> str:
    """`1 error, 2 warnings, 9 ok`."""
    errors, warnings, fine = (sum(one.status is status for one in checks) for status in SEVERITY)
    return f"{_counted(errors, 'error')}, {_counted(warnings, 'warning')}, {fine} ok"


def _counted(count: int, word: str) -> str:
    return f"{count} {word if count == 1 else word + 's'}"
