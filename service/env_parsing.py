"""Reading single values of the environment. Pure: text in, the value out, or ValueError with words for its owner."""

from __future__ import annotations

import base64
import logging
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from service.redaction import SHORTEST_SECRET

log = logging.getLogger(__name__)

SHORTEST_HARD_LIMIT_SECONDS = 25  # a POST needs 10 s at the least, saving its answer and the rest of a tick 15
RUNWAY_URL = "https://api.dev.runwayml.com"
WRONG_RUNWAY_HOST = "api.runwayml.com"  # answers 401 "Incorrect hostname for API key" to every key
# The events that webhooks report.
DEFAULT_EVENTS = ("video.completed", "video.failed", "video.cancelled", "video.settled", "group.ended")
EVENTS = (*DEFAULT_EVENTS, "video.processing", "video.progress")
# What Taxiway sets itself, and what would change how a request is framed.
RESERVED_HEADERS = re.compile(
    "authorization|x-runway-version|content-.*|accept|accept-encoding|user-agent|host|connection|cookie|expect|te|"
    "trailer|transfer-encoding|upgrade|keep-alive|proxy-.*"
)


def _http_url(value: str) -> SplitResult | None:
    """The parts of an http or https URL with a host; None if it is none. No error of it repeats what was given."""
    try:
        url = urlsplit(value)
        return url if url.scheme in ("http", "https") and url.hostname and url.port != 0 else None
    except ValueError:
        return None


def runway_url(value: str) -> str:
    """The address of Runway's API, without the `/v1` that many add; the host that refuses every key is replaced."""
    url = _http_url(value)
    if url is None or re.search(r"[^!-~]|[@?#]", value):
        raise ValueError(f"must be a URL such as {RUNWAY_URL}, without a user, a query or a fragment")
    if url.hostname == WRONG_RUNWAY_HOST:
        log.warning(
            "RUNWAYML_BASE_URL names %s, which refuses every API key; using %s instead. "
            "Correct or remove the setting.", WRONG_RUNWAY_HOST, RUNWAY_URL,
        )  # fmt: skip
        return RUNWAY_URL
    return value.rstrip("/").removesuffix("/v1").rstrip("/")


def web_url(value: str) -> str:
    """An address that can be called: http or https, without a user or a fragment."""
    url = _http_url(value)
    if url is None or re.search(r"[^!-~]|[#]", value) or "@" in url.netloc:
        raise ValueError("must be a URL such as https://hc-ping.com/your-check, without a user or a fragment")
    return value


def of_webhooks(name: str, value: tuple[str, ...], others: Mapping[str, Any]) -> tuple[str, ...]:
    """One of the settings about the webhooks that Taxiway sends. `others`: those that were read before it."""
    if name == "webhook_private_hosts":
        if any(not re.fullmatch(r"[A-Za-z0-9._:\[\]-]+", host) for host in value):
            raise ValueError("must be a list of hosts such as localhost,10.0.0.7, without a scheme, a port or a path")
        return tuple(host.lower().strip("[]").removesuffix(".") for host in value)
    if name == "webhook_events":
        if unknown := [event for event in value if event not in EVENTS]:
            raise ValueError(f"names {unknown[0]!r}, which is no event; there are {', '.join(EVENTS)}")
        return value
    for url in value:
        parts = _http_url(url)
        if parts is None or re.search(r"[^!-~]|#", url) or "@" in parts.netloc:
            raise ValueError("must be a list of addresses such as https://example.com/hook, without a user or fragment")
        if parts.scheme != "https" and (parts.hostname or "") not in others.get("webhook_private_hosts", ()):
            raise ValueError("must be https: name the host in WEBHOOK_PRIVATE_HOSTS if it is your own network's")
    if value and not others.get("webhook_secrets"):
        raise ValueError("needs WEBHOOK_SECRETS, which sign: make one with `echo whsec_$(openssl rand -base64 32)`")
    return value


def header_text(value: str) -> str:
    """What a header can carry as it is."""
    if not re.fullmatch(r"[!-~]+", value):
        raise ValueError("has a blank or a character outside ASCII in it, which no header can carry")
    return value


def proxy_url(value: str) -> str:
    """The address of an HTTP proxy, with or without a user."""
    url = _http_url(value)
    if url is None or re.search(r"[^!-~]|[?#]", value) or url.path not in ("", "/") or url.netloc.count("@") > 1:
        raise ValueError(
            "must be the URL of an HTTP proxy such as http://user:password@proxy.example.com:3128, "
            "its user and password percent-encoded"
        )
    return value


def proxy_secrets(value: str | None) -> tuple[str, ...]:
    """The user and password in a proxy's URL, in each form in which they may be written, unless too short to be one."""
    user, at, _ = urlsplit(value or "").netloc.rpartition("@")
    if not at:
        return ()
    password = user.partition(":")[2]
    forms = (basic_credentials(user), user, password, unquote(password))
    return tuple(form for form in forms if len(form) >= SHORTEST_SECRET)


def basic_credentials(user: str) -> str:
    """What a percent-encoded `user:password` is in a header: base64."""
    name, _, password = user.partition(":")
    return base64.b64encode(f"{unquote(name)}:{unquote(password)}".encode()).decode()


def header_lines(value: str) -> str:
    """Lines of the form `Name: value`, none of them a header that Taxiway sets itself."""
    for line in filter(None, map(str.strip, value.splitlines())):
        if not re.fullmatch(r"[A-Za-z0-9-]+\s*:[ -~\t]*", line):
            raise ValueError("must be lines of the form `Name: value`, in ASCII")
        name = line.partition(":")[0].rstrip()
        if RESERVED_HEADERS.fullmatch(name.lower()):
            raise ValueError(f"must not name {name}: it is set by Taxiway")
    return value


def credits_by_model(value: str) -> dict[str, str]:
    """`gen4_turbo=500,gen4.5=1000` as a mapping."""
    pairs = [part.partition("=") for part in value.split(",") if part.strip()]
    if not all(name.strip() and re.fullmatch(r"\s*\d+(\.\d+)?\s*", amount) for name, _, amount in pairs):
        raise ValueError("must be a list such as gen4_turbo=500,gen4.5=1000")
    return {name.strip(): amount.strip() for name, _, amount in pairs}


def hard_limit_complaints(value: float | None, tick_budget: float) -> Iterator[str]:
    """What is wrong with these seconds after which the platform kills a request."""
    if value is None:
        return
    if value < SHORTEST_HARD_LIMIT_SECONDS:
        sooner = f"is {value:g} s, and a platform that kills sooner than {SHORTEST_HARD_LIMIT_SECONDS} s"
        yield f"{sooner} cannot finish a call to Runway: use a longer limit, or `taxiway worker`"
    if value <= tick_budget:
        yield "must be longer than TICK_BUDGET, or the platform kills every tick"


def passwords(url: str) -> list[str]:
    """The password of a database's URL, as it stands there and as it is meant; nothing if there is none."""
    authority, _, query = url.partition("://")[2].partition("?")
    found = [authority.partition("/")[0].rpartition("@")[0].partition(":")[2]]
    found += [value for name, value in parse_qsl(query) if name.lower() in ("password", "sslpassword")]
    return [form for text in found if text for form in dict.fromkeys((text, unquote(text)))]


def credentials(value: str) -> list[str]:
    """A header's value, and what follows the scheme in one such as `Bearer abc`."""
    scheme, _, rest = value.partition(" ")
    return [value, rest] if scheme.isalpha() and rest and " " not in rest else [value]


def long_parts(url: str, shortest: int) -> list[str]:
    """The parts of an address's path that are long enough to be secrets."""
    return [part for part in urlsplit(url).path.split("/") if len(part) >= shortest]
