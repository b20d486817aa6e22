"""Every setting, from the environment, on one screen. What contradicts itself is refused, all of it at once.

A missing setting closes only what needs it: `Settings.need()` raises NotConfigured, which names it.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator
from decimal import Decimal
from functools import cached_property
from typing import Annotated, Literal

from pydantic import AfterValidator, AliasChoices, Field, ValidationInfo, field_validator
from pydantic_core import PydanticUseDefault
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from service import env_parsing
from service.actors import Key
from service.env_parsing import DEFAULT_EVENTS, RUNWAY_URL
from service.errors import NotConfigured
from service.redaction import Redactor
from service.webhooks import check_secret

log = logging.getLogger(__name__)

LEASE_MARGIN_SECONDS = 30  # a submission's deadline is this much later than its call's: time to save the answer
SHORTEST_SECRET = 16  # characters
LEAST_DIFFERENT = 10  # characters of it: 24 random bytes in hexadecimal have fewer once in a hundred million
MAKE_ANOTHER = "make one with `openssl rand -hex 24`"
YEAR_SECONDS = 366 * 86_400.0
Words = Annotated[tuple[str, ...], NoDecode]
Secrets = Annotated[tuple[str, ...], NoDecode]
SECRETS = ("api_keys", "cron_secret", "callback_secrets", "admin_tokens", "viewer_tokens", "webhook_secrets")
BY_NAME = ("max_credits_per_day_by_model", "max_credits_per_day_by_key", "max_credits_per_video")
LISTS = (*SECRETS, "webhook_private_hosts", "webhook_url", "webhook_events", "alert_url")
_env = AliasChoices


class Settings(BaseSettings):
    """The environment of one process. Lists are separated by commas; several secrets allow rotation.

    Each description is what the page `settings` says of it (`python -m tests.reference` writes that).
    """

    model_config = SettingsConfigDict(
        env_ignore_empty=True, extra="ignore", frozen=True, populate_by_name=True, allow_inf_nan=False
    )

    database_url: str | None = Field(
        None, description="PostgreSQL, as the host hands it out; see `taxiway docs database`"
    )
    migrate_database_url: str | None = Field(
        None,
        description="the same database as a role that may make and change the schema `taxiway`; "
        "`DATABASE_URL` by default",
    )
    database_pool_size: int = Field(5, ge=1, le=100, description="connections of one process at most")
    database_pooler: Literal["auto", "yes", "no"] = Field(
        "auto", description="whether a transaction pooler stands in between: `auto`, `yes`, `no`"
    )

    runway_key: Annotated[str, AfterValidator(env_parsing.header_text)] | None = Field(
        None,
        validation_alias=_env("RUNWAYML_API_SECRET", "RUNWAY_API_KEY", "RUNWAYML_API_KEY"),
        description="Runway's API key",
    )
    runway_url: Annotated[str, AfterValidator(env_parsing.runway_url)] = Field(
        RUNWAY_URL,
        validation_alias=_env("RUNWAYML_BASE_URL", "RUNWAY_BASE_URL"),
        description="Runway's API; `/v1` at the end is tolerated, the host `api.runwayml.com` is corrected "
        "with a warning",
    )
    runway_headers: Annotated[str, AfterValidator(env_parsing.header_lines)] = Field(
        "",
        validation_alias=_env("RUNWAYML_CUSTOM_HEADERS"),
        description="more headers for Runway, one `Name: value` a line",
    )
    runway_proxy: Annotated[str, AfterValidator(env_parsing.proxy_url)] | None = Field(
        None,
        description="the HTTP proxy for calls to Runway, such as `http://user:password@proxy.example.com:3128`; "
        "none but this one is used",
    )
    image_model: str = Field(
        "gen4_turbo",
        validation_alias=_env("RUNWAY_MODEL_ID"),
        description="model of an `image_to_video` that names none",
    )
    text_model: str = Field(
        "gen4.5",
        validation_alias=_env("RUNWAY_TEXT_MODEL_ID"),
        description="model of a `text_to_video` that names none",
    )
    catalogue_file: str | None = Field(
        None, description="a file that changes the catalogue of models; see `taxiway docs models`"
    )
    default_ratio: str = Field("1280:720", description="ratio of a request that names none")
    default_duration: int = Field(5, ge=1, le=60, description="seconds of video of a request that names none")

    api_keys: Secrets = Field(
        (),
        description="keys for `/videos`, a list of `NAME:SECRET`; each secret 16 characters or longer, ten of them "
        "different. The name stands in the history of what the key does. `shop+read:…` may only read, `shop+create:…` "
        "only enqueue, `shop+own:…` sees and changes only what it made; see `taxiway docs security`",
    )
    cron_secret: Secrets = Field(
        (), description="secrets for the tick routes, a list; each 16 characters or longer, ten of them different"
    )
    callback_secrets: Secrets = Field(
        (), description="secrets of callbacks, a list; `whsec_` and the base64 of 24 to 64 bytes"
    )
    admin_tokens: Secrets = Field(
        (),
        description="tokens of those who run it, a list: the page with all its actions, and every route that has to do "
        "with videos, models and ticks; each `NAME:SECRET`, as in `API_KEYS`, without scopes",
    )
    viewer_tokens: Secrets = Field(
        (), description="tokens with read-only access, a list of `NAME:SECRET`, as in `API_KEYS`, without scopes"
    )
    webhook_secrets: Secrets = Field(
        (),
        description="secrets of the webhooks that Taxiway sends, a list, formed as in `CALLBACK_SECRETS`; the first "
        "one signs. Without any, none is sent; see `taxiway docs webhooks`",
    )
    webhook_private_hosts: Words = Field(
        (), description="hosts, a list, where webhooks may go although they are not public, over http as well"
    )
    webhook_url: Words = Field((), description="addresses that get a webhook for every video, a list; https, no user")
    webhook_events: Words = Field(
        DEFAULT_EVENTS,
        description="what those get, a list; by default all but `video.processing` and `video.progress`",
    )
    alert_url: Words = Field(
        (), description="addresses, a list, to which problems are reported; see `taxiway docs webhooks`"
    )
    alert_credits_under: Decimal | None = Field(
        None, gt=0, description="fewer credits at Runway than this are a problem"
    )
    max_body_bytes: int = Field(4_500_000, ge=1_000, description="larger request bodies are refused with 413")
    prompt_column: str = Field(
        "prompt", description="what `taxiway link` proposes as the column of the prompt, where set"
    )
    image_column: str = Field(
        "image_url", description="what `taxiway link` proposes as the column of the image's address, where set"
    )
    tick_budget: float = Field(20, gt=0, le=3600, description="seconds after which a tick begins nothing new")
    post_timeout: float = Field(
        60, ge=10, le=300, description="seconds that one create may take in all (Runway fetches the image inside it)"
    )
    hard_limit: float | None = Field(None, description="seconds after which the platform kills a request; 25 or more")
    submit_concurrency: int = Field(
        20,
        ge=1,
        le=500,
        validation_alias=_env("SUBMIT_CONCURRENCY", "SUBMIT_SLOTS"),
        description="creates in flight at once, in one process",
    )
    poll_concurrency: int = Field(
        50,
        ge=1,
        le=500,
        validation_alias=_env("POLL_CONCURRENCY", "POLL_SLOTS"),
        description="polls at once, in one process",
    )
    submit_on_post: bool = Field(
        False,
        description="`true`: `POST /videos` also submits the video, in its turn, and answers when Runway's answer is "
        "stored; see `taxiway docs callers`",
    )
    submit_keepalive: bool = Field(
        False,
        description="`true` lets a connection carry several creates, for hundreds a second; see `taxiway docs scaling`",
    )
    worker_interval: float = Field(2, gt=0, le=60, description="seconds between two ticks of `taxiway worker`")
    queue_timeout: float = Field(
        7 * 86_400,
        gt=0,
        le=YEAR_SECONDS,
        validation_alias=_env("QUEUE_TIMEOUT", "QUEUE_PATIENCE"),
        description="seconds in the queue after which a video fails as `EXPIRED`",
    )
    task_timeout: float = Field(
        86_400,
        gt=0,
        le=YEAR_SECONDS,
        validation_alias=_env("TASK_TIMEOUT", "TASK_PATIENCE"),
        description="seconds at Runway after which a video fails as `TASK_TIMEOUT`",
    )
    link_rescue_after: float | None = Field(
        None,
        gt=0,
        le=YEAR_SECONDS,
        description="seconds after which a row of a linked table that your own code left at processing is taken over "
        "as `SUBMISSION_UNKNOWN`; never by default",
    )
    video_retention: float | None = Field(
        None,
        ge=86_400,
        description="seconds after its end, at least 86400, after which a video is removed; never by default. Its "
        "ledger stays; see `taxiway docs operating`",
    )
    input_retention: float | None = Field(
        None,
        ge=3_600,
        description="seconds after its end, at least 3600, after which a video's input is blanked, so that it cannot "
        "be retried; by default only the data URIs in it, after 7 days; see `taxiway docs security`",
    )
    task_retries: int = Field(2, ge=0, le=10, description="new tasks after failures that are Runway's own")
    unknown_policy: Literal["fail", "resubmit"] = Field(
        "fail",
        description="`fail`, or `resubmit`: send a video with an unknown outcome again, although it may cost twice",
    )
    unknown_resubmits: int = Field(1, ge=1, le=5, description="how often `resubmit` may do that for one video")
    max_credits_per_day: Decimal | None = Field(
        None, gt=0, description="credits that one day (UTC) may cost, for all models together"
    )
    max_credits_per_day_by_model: Annotated[dict[str, Decimal], NoDecode] = Field(
        {}, description="the same by model, such as `gen4_turbo=500,gen4.5=1000`"
    )
    max_credits_per_day_per_user: Decimal | None = Field(
        None, gt=0, description="credits that one day (UTC) may cost for the videos of one `user_id`; the rest waits"
    )
    max_in_flight_per_user: int | None = Field(
        None, ge=1, description="videos of one `user_id` that may be at Runway at once; see `taxiway docs users`"
    )
    max_credits_per_video: Annotated[dict[str, Annotated[Decimal, Field(gt=0)]], NoDecode] = Field(
        {},
        description="the most that one video may cost, by endpoint and model; the first that fits counts, as in "
        "`video_to_video/aleph2=500,recipes/*=300,*=1000`. It is also the quote of a model whose price is not known",
    )
    max_credits_per_day_by_key: Annotated[dict[str, Decimal], NoDecode] = Field(
        {},
        description="credits that a key may ask for in one day (UTC), by its name, such as `shop=500,blog=100`; what "
        "it enqueues or retries beyond is answered with 429",
    )
    max_queued: int | None = Field(
        None, ge=1, description="videos that may be queued; an enqueue beyond that is answered with 429"
    )
    event_retention: float = Field(
        YEAR_SECONDS,
        ge=8 * 86_400,
        description="seconds for which the history is kept, at least 8 days. Of a video that is still there, and of "
        "one that may still cost something, it stays for longer",
    )
    heartbeat_url: Annotated[str, AfterValidator(env_parsing.web_url)] | None = Field(
        None, description="called at the end of every tick; see `taxiway docs operating`"
    )
    log_format: Literal["console", "json"] = Field("console", description="`console`, or `json` for one object a line")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="`DEBUG`, `INFO`, `WARNING` or `ERROR`"
    )

    # Contradictions are complaints of the field that is declared last, so that they are named along with all others.

    @field_validator("*", mode="before")
    @classmethod
    def _blank_is_missing(cls, value: object) -> object:
        if isinstance(value, str) and value.isspace():
            raise PydanticUseDefault
        return value.strip() if isinstance(value, str) else value

    @field_validator(*LISTS, mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(filter(None, map(str.strip, value.split(",")))) if isinstance(value, str) else value

    @field_validator(*BY_NAME, mode="before")
    @classmethod
    def _by_model(cls, value: object) -> object:
        return env_parsing.credits_by_model(value) if isinstance(value, str) else value

    @field_validator("max_credits_per_day_by_key")
    @classmethod
    def _by_key(cls, value: dict[str, Decimal], info: ValidationInfo) -> dict[str, Decimal]:
        names = {key.name for name in ("api_keys", "admin_tokens") for key in info.data.get(name) or ()}
        if set(value) - names:
            raise ValueError("names a key that API_KEYS does not have: give the key that name, as in `shop:SECRET`")
        return value

    @field_validator("submit_keepalive")
    @classmethod
    def _no_proxy_between(cls, value: bool, info: ValidationInfo) -> bool:
        if value and info.data.get("runway_proxy"):
            raise ValueError(
                "must not be true with RUNWAY_PROXY: behind a proxy, an answer on a kept connection may belong to "
                "another request. Remove one of the two"
            )
        return value

    @field_validator("prompt_column", "image_column")
    @classmethod
    def _identifier(cls, value: str, info: ValidationInfo) -> str:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,62}", value):
            raise ValueError("must be the plain name of a column of the table videos")
        if info.field_name == "image_column" and value == info.data.get("prompt_column"):
            raise ValueError("and PROMPT_COLUMN name the same column")
        return value

    @field_validator("api_keys", "admin_tokens", "viewer_tokens")
    @classmethod
    def _named(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        default = str(info.field_name).removesuffix("s").replace("_", "-")
        keys = tuple(Key.of(entry, f"{default}-{n}") for n, entry in enumerate(value, start=1))
        complaints = []
        if info.field_name != "api_keys" and any(key.scopes for key in keys):
            complaints.append("has an entry with a scope: only API_KEYS have scopes")
        others = ("api_keys", "admin_tokens")
        taken = {one.name for name in others if name != info.field_name for one in info.data.get(name) or ()}
        if any(key.is_named and key.name in taken for key in keys):
            complaints.append("has a name that another setting has: one name must not have two meanings")
        _refuse(complaints)
        return keys

    @field_validator("api_keys", "cron_secret", "admin_tokens", "viewer_tokens")
    @classmethod
    def _strong_and_apart(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        complaints = []
        if any(len(secret) < SHORTEST_SECRET for secret in value):
            complaints.append(f"has an entry shorter than {SHORTEST_SECRET} characters: {MAKE_ANOTHER}")
        elif any(len(set(secret)) < LEAST_DIFFERENT for secret in value):
            complaints.append(f"has an entry of fewer than {LEAST_DIFFERENT} different characters: {MAKE_ANOTHER}")
        _refuse([*complaints, *_shared(value, info)])
        return value

    @field_validator("webhook_private_hosts", "webhook_url", "webhook_events", "alert_url")
    @classmethod
    def _webhooks(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        return env_parsing.of_webhooks(str(info.field_name), value, info.data)

    @field_validator("callback_secrets", "webhook_secrets")
    @classmethod
    def _webhook_secrets(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        complaints = list(dict.fromkeys(filter(None, map(check_secret, value))))
        if any(len(set(secret.removeprefix("whsec_"))) < LEAST_DIFFERENT for secret in value) and not complaints:
            complaints.append(f"has an entry of fewer than {LEAST_DIFFERENT} different characters: make it random")
        _refuse([*complaints, *_shared(value, info)])
        return value

    @field_validator("hard_limit")
    @classmethod
    def _hard_limit(cls, value: float | None, info: ValidationInfo) -> float | None:
        _refuse(env_parsing.hard_limit_complaints(value, info.data.get("tick_budget", 0)))
        return value

    @property
    def custom_headers(self) -> dict[str, str]:
        """RUNWAYML_CUSTOM_HEADERS as a mapping."""
        pairs = (line.split(":", 1) for line in self.runway_headers.splitlines() if ":" in line)
        return {name.strip(): value.strip() for name, value in pairs}

    @property
    def secrets(self) -> tuple[str, ...]:
        """Everything that must never appear in a log, a row or an answer."""
        tokens = (secret for name in SECRETS for secret in getattr(self, name))
        urls = filter(None, [self.database_url, self.migrate_database_url])
        passwords = [password for url in urls for password in env_parsing.passwords(url)]
        headers = [part for value in self.custom_headers.values() for part in env_parsing.credentials(value)]
        known = (self.heartbeat_url or "", *self.webhook_url, *self.alert_url)  # who knows such an address may call it
        places = [part for url in known for part in env_parsing.long_parts(url, SHORTEST_SECRET)]
        proxy = env_parsing.proxy_secrets(self.runway_proxy)
        found = (*tokens, *filter(None, [self.runway_key, self.heartbeat_url]), *places, *headers, *passwords, *proxy)
        return tuple(dict.fromkeys(found))

    @cached_property
    def redactor(self) -> Redactor:
        """Takes these secrets, and what looks like one, out of a text."""
        return Redactor(self.secrets)


def _shared(value: tuple[str, ...], info: ValidationInfo) -> Iterator[str]:
    """A complaint for each setting declared before this one that has a secret of it: each has one purpose."""
    others: dict[str, set[str | None]] = {"runway_key": {info.data.get("runway_key")}}
    others |= {name: set(info.data.get(name) or ()) for name in SECRETS if name != info.field_name}
    others |= {n: set(env_parsing.passwords(info.data.get(n) or "")) for n in ("database_url", "migrate_database_url")}
    why = {
        ("cron_secret", "api_keys"): ", so a client that may only enqueue could also run ticks: set another",
        ("api_keys", "runway_key"): ", so Taxiway may call itself: that is its own key in your app, and Runway's here",
    }
    for name in (name for name, secrets in others.items() if secrets & set(value)):
        words = why.get((str(info.field_name), name), ": one secret must not have two meanings")
        yield f"shares an entry with {ENV_NAMES[name]}{words}"


def _refuse(complaints: Iterable[str]) -> None:
    if text := "; ".join(complaints):
        raise ValueError(text)


ENV_NAMES = {
    name: str(alias.choices[0]) if isinstance(alias := field.validation_alias, AliasChoices) else name.upper()
    for name, field in Settings.model_fields.items()
}


def need(settings: Settings, *names: str) -> None:
    """Raise NotConfigured, naming every one of these settings that is missing."""
    missing = [ENV_NAMES[name] for name in names if not getattr(settings, name)]
    if missing:
        raise NotConfigured(f"set {' and '.join(missing)} in the environment", missing=missing)
