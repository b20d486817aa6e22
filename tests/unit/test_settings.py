"""The environment, right and wrong: everything that is wrong is named at once, and no secret is repeated."""

from __future__ import annotations

import logging
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from service.env_parsing import RUNWAY_URL
from service.environment import RENAMED, doubts, load
from service.errors import BadSettings, NotConfigured
from service.settings import ENV_NAMES, LEASE_MARGIN_SECONDS, Settings, need

KEY = "key_" + "0a" * 64
LONG = "0123456789abcdef"
OTHER = "0246813579xyzabc"
CALLBACK = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
CANARY = "Canary7"

Environment = Callable[..., None]


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Environment:
    """Set variables for one test."""

    def put(**variables: str) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return put


def complaints(environment: Environment, **variables: str) -> list[str]:
    """What `load` has to say against this environment."""
    environment(**variables)
    with pytest.raises(BadSettings) as caught:
        load()
    return caught.value.complaints


class TestDefaults:
    def test_an_empty_environment_will_do(self) -> None:
        settings = load()
        assert (settings.database_url, settings.runway_key, settings.hard_limit) == (None, None, None)
        assert (settings.runway_url, settings.image_model, settings.text_model) == (
            RUNWAY_URL,
            "gen4_turbo",
            "gen4.5",
        )
        assert (settings.tick_budget, settings.post_timeout) == (20, 60)
        assert (settings.queue_timeout, settings.task_timeout) == (604_800, 86_400)
        assert (settings.unknown_policy, settings.unknown_resubmits) == ("fail", 1)
        assert (settings.secrets, settings.custom_headers) == ((), {})

    def test_empty_counts_as_missing(self, environment: Environment) -> None:
        environment(**dict.fromkeys(ENV_NAMES.values(), ""))
        assert load() == Settings()

    def test_blank_counts_as_missing(self, environment: Environment) -> None:
        environment(**dict.fromkeys(ENV_NAMES.values(), " \t\n "))
        assert load() == Settings()

    def test_what_is_around_a_value_is_no_part_of_it(self, environment: Environment) -> None:
        environment(RUNWAYML_API_SECRET=f" {KEY}\n", UNKNOWN_POLICY=" resubmit ", POST_TIMEOUT=" 90 ")
        settings = load()
        assert (settings.runway_key, settings.unknown_policy, settings.post_timeout) == (KEY, "resubmit", 90)

    def test_settings_do_not_change(self) -> None:
        with pytest.raises(ValueError, match="frozen"):
            setattr(Settings(), "tick_budget", 3)  # noqa: B010  # the type checker knows already


class TestNames:
    @pytest.mark.parametrize(
        ("name", "field", "value"),
        [
            ("RUNWAYML_API_SECRET", "runway_key", KEY),
            ("RUNWAY_API_KEY", "runway_key", KEY),
            ("RUNWAYML_API_KEY", "runway_key", KEY),
            ("runwayml_api_secret", "runway_key", KEY),
            ("RUNWAYML_BASE_URL", "runway_url", "http://127.0.0.1:9"),
            ("RUNWAY_BASE_URL", "runway_url", "http://127.0.0.1:9"),
            ("RUNWAY_MODEL_ID", "image_model", "gen4.5"),
            ("RUNWAY_TEXT_MODEL_ID", "text_model", "veo3.1"),
            ("RUNWAYML_CUSTOM_HEADERS", "runway_headers", "A: b"),
            ("RUNWAY_PROXY", "runway_proxy", "http://user:p%40ss@proxy.example.com:3128"),
            ("DATABASE_URL", "database_url", "postgresql://localhost/app"),
        ],
    )
    def test_every_name_of_a_setting(self, environment: Environment, name: str, field: str, value: str) -> None:
        environment(**{name: value})
        assert getattr(load(), field) == value

    def test_the_first_name_wins_and_an_empty_one_does_not_count(self, environment: Environment) -> None:
        environment(RUNWAYML_API_SECRET="", RUNWAY_API_KEY=KEY, RUNWAYML_API_KEY="other")
        assert load().runway_key == KEY
        environment(RUNWAYML_API_SECRET="first")
        assert load().runway_key == "first"

    def test_what_is_missing_is_named_in_the_environments_words(self) -> None:
        with pytest.raises(NotConfigured) as caught:
            need(Settings(database_url="x"), "database_url", "runway_key", "cron_secret")
        assert caught.value.detail == "set RUNWAYML_API_SECRET and CRON_SECRET in the environment"
        assert caught.value.extra == {"missing": ["RUNWAYML_API_SECRET", "CRON_SECRET"]}

    def test_nothing_is_missing(self) -> None:
        need(Settings(database_url="x"), "database_url")


class TestLists:
    def test_secrets_are_separated_by_commas(self, environment: Environment) -> None:
        other = "fedcba9876543210"
        environment(
            API_KEYS=f" {LONG} ,, {other},",
            CALLBACK_SECRETS=CALLBACK,
            RUNWAY_API_KEY=KEY,
            CRON_SECRET=OTHER,
        )
        settings = load()
        assert settings.api_keys == (LONG, other)
        assert settings.secrets == (LONG, other, OTHER, CALLBACK, KEY)

    def test_only_commas(self, environment: Environment) -> None:
        environment(CRON_SECRET=" , ,")
        assert load().cron_secret == ()

    def test_headers(self, environment: Environment) -> None:
        environment(RUNWAYML_CUSTOM_HEADERS="X-Runway-On-Behalf-Of: someone\n\n  X-Other :a:b ")
        assert load().custom_headers == {"X-Runway-On-Behalf-Of": "someone", "X-Other": "a:b"}

    def test_credits_by_model(self, environment: Environment) -> None:
        environment(MAX_CREDITS_PER_DAY="1000", MAX_CREDITS_PER_DAY_BY_MODEL="gen4_turbo=500, gen4.5 = 99.5,")
        settings = load()
        assert settings.max_credits_per_day == 1000
        assert settings.max_credits_per_day_by_model == {"gen4_turbo": 500, "gen4.5": Decimal("99.5")}


class TestRunwayUrl:
    @pytest.mark.parametrize(
        ("given", "used"),
        [
            (RUNWAY_URL, RUNWAY_URL),
            (f" {RUNWAY_URL}/ ", RUNWAY_URL),
            (f"{RUNWAY_URL}/v1", RUNWAY_URL),
            (f"{RUNWAY_URL}/v1/", RUNWAY_URL),
            ("http://127.0.0.1:8001/v1//", "http://127.0.0.1:8001"),
            ("http://[::1]:8001", "http://[::1]:8001"),
            ("https://proxy.example.com/runway/v1", "https://proxy.example.com/runway"),
            ("https://proxy.example.com/runwayv1", "https://proxy.example.com/runwayv1"),
        ],
    )
    def test_with_and_without_v1(
        self, environment: Environment, given: str, used: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        environment(RUNWAYML_BASE_URL=given)
        assert load().runway_url == used
        assert caplog.records == []

    @pytest.mark.parametrize(
        "given",
        ["https://api.runwayml.com/v1", "http://API.RunwayML.com", "https://api.runwayml.com:443/v1/"],
    )
    def test_the_wrong_host_is_corrected_with_one_warning(
        self, environment: Environment, given: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        environment(RUNWAY_BASE_URL=given)
        assert load().runway_url == RUNWAY_URL
        (warning,) = caplog.records
        assert warning.levelno == logging.WARNING
        assert (
            "api.runwayml.com, which refuses every API key; using https://api.dev.runwayml.com" in warning.getMessage()
        )

    @pytest.mark.parametrize(
        "given",
        [
            "api.dev.runwayml.com",
            "ftp://api.dev.runwayml.com",
            "https://",
            "https:///v1",
            f"https://{CANARY}:99999",
            f"https://host:{CANARY}",
            "https://host:0",
            f"https://[{CANARY}",
            f"https://{CANARY}\u2100.com",
            f"https://user:{CANARY}@api.dev.runwayml.com",
            f"https://{CANARY}@api.dev.runwayml.com",
            f"https://api.dev.runwayml.com/?key={CANARY}",
            f"https://api.dev.runwayml.com/#{CANARY}",
            f"https://api.dev.runwayml.com/{CANARY} v1",
        ],
    )
    def test_what_is_no_plain_url(self, environment: Environment, given: str) -> None:
        (complaint,) = complaints(environment, RUNWAYML_BASE_URL=given)
        assert complaint.startswith("RUNWAYML_BASE_URL must be a ")
        assert CANARY not in complaint


MEANINGS = ": one secret must not have two meanings"
LOOP = ", so Taxiway may call itself: that is its own key in your app, and Runway's here"


class TestDoubts:
    @pytest.mark.parametrize(
        ("key", "warned"),
        [
            (KEY, False),
            (None, False),
            (KEY.upper(), True),
            (KEY + "0", True),
            (KEY[:-1], True),
            ("sk-something", True),
            (f'"{KEY}"', True),
        ],
    )
    def test_a_key_of_another_form(self, key: str | None, warned: bool) -> None:
        assert bool(doubts(Settings(runway_key=key, max_credits_per_day=Decimal(1)))) is warned

    def test_a_simulator_takes_any_key(self) -> None:
        assert doubts(Settings(runway_key="anything", runway_url="http://127.0.0.1:8001")) == []

    def test_the_key_goes_out_encrypted(self) -> None:
        limited = Settings(runway_key=KEY, runway_url="http://api.dev.runwayml.com", max_credits_per_day=Decimal(1))
        (doubt,) = doubts(limited)
        assert RUNWAY_URL in doubt

    def test_a_real_key_without_a_limit(self) -> None:
        (doubt,) = doubts(Settings(runway_key=KEY))
        assert doubt.startswith("MAX_CREDITS_PER_DAY is not set")

    def test_connections_that_carry_several_creates(self) -> None:
        (doubt,) = doubts(Settings(submit_keepalive=True))
        assert doubt.startswith("SUBMIT_KEEPALIVE lets one connection carry several creates")

    def test_they_are_said_once_and_repeat_nothing(
        self, environment: Environment, caplog: pytest.LogCaptureFixture
    ) -> None:
        environment(RUNWAYML_API_SECRET=CANARY, MAX_CREDITS_PER_DAY="1")
        assert load().runway_key == CANARY
        (warning,) = caplog.records
        assert "RUNWAYML_API_SECRET" in warning.getMessage()
        assert CANARY not in warning.getMessage()


NUMBERS = {
    "DATABASE_POOL_SIZE": ["0", "101", "1.5"],
    "DEFAULT_DURATION": ["0", "61"],
    "MAX_BODY_BYTES": ["999"],
    "TICK_BUDGET": ["0", "-1", "3601", "inf", "nan"],
    "POST_TIMEOUT": ["9.9", "300.1", "nan"],
    "HARD_LIMIT": ["inf", "nan"],
    "SUBMIT_CONCURRENCY": ["0", "501"],
    "POLL_CONCURRENCY": ["0", "501"],
    "WORKER_INTERVAL": ["0", "61"],
    "QUEUE_TIMEOUT": ["0", "inf", "1e300"],
    "TASK_TIMEOUT": ["0", "inf", "1e300"],
    "VIDEO_RETENTION": ["0", "86399", "inf"],
    "INPUT_RETENTION": ["0", "3599", "inf"],
    "TASK_RETRIES": ["-1", "11"],
    "UNKNOWN_RESUBMITS": ["0", "6"],
    "MAX_CREDITS_PER_DAY": ["0", "-1", "inf", "nan"],
}
CHOICES = ["DATABASE_POOLER", "UNKNOWN_POLICY", "LOG_FORMAT", "LOG_LEVEL"]


class TestMalformed:
    @pytest.mark.parametrize(
        ("name", "value"), [(name, value) for name, values in NUMBERS.items() for value in [*values, CANARY]]
    )
    def test_numbers(self, environment: Environment, name: str, value: str) -> None:
        (complaint,) = complaints(environment, **{name: value})
        assert complaint.startswith(f"{name} ")
        assert CANARY not in complaint

    @pytest.mark.parametrize("name", CHOICES)
    def test_choices(self, environment: Environment, name: str) -> None:
        (complaint,) = complaints(environment, **{name: CANARY})
        assert complaint.startswith(f"{name} input should be '")
        assert CANARY not in complaint

    @pytest.mark.parametrize("name", ["PROMPT_COLUMN", "IMAGE_COLUMN"])
    @pytest.mark.parametrize("value", ["a b", "1a", "a;--", '"a"', "ä", "a" * 64, "videos.prompt"])
    def test_columns(self, environment: Environment, name: str, value: str) -> None:
        assert complaints(environment, **{name: value}) == [
            f"{name} must be the plain name of a column of the table videos"
        ]

    @pytest.mark.parametrize("value", ["a", "_a", "A1", "a" * 63])
    def test_a_column(self, environment: Environment, value: str) -> None:
        environment(PROMPT_COLUMN=value)
        assert load().prompt_column == value

    @pytest.mark.parametrize(
        "value", ["no colon", "a b: c", "A: b\nbad", f"X-Token: {CANARY}ä", f": {CANARY}", "A: \x07"]
    )
    def test_headers(self, environment: Environment, value: str) -> None:
        (complaint,) = complaints(environment, RUNWAYML_CUSTOM_HEADERS=value)
        assert complaint == "RUNWAYML_CUSTOM_HEADERS must be lines of the form `Name: value`, in ASCII"

    @pytest.mark.parametrize(
        "name",
        [
            "Authorization",
            "x-runway-version",
            "Content-Length",
            "TRANSFER-ENCODING",
            "Host",
            "Connection",
            "Cookie",
        ],
    )
    def test_headers_that_are_not_the_operators(self, environment: Environment, name: str) -> None:
        (complaint,) = complaints(environment, RUNWAYML_CUSTOM_HEADERS=f"X-Fine: 1\n{name} : {CANARY}")
        assert complaint == f"RUNWAYML_CUSTOM_HEADERS must not name {name}: it is set by Taxiway"

    @pytest.mark.parametrize("value", [f"{CANARY} {CANARY}", f"{CANARY}ä", f"{CANARY}\n{CANARY}", f"{CANARY}\x07"])
    def test_a_key_that_no_header_can_carry(self, environment: Environment, value: str) -> None:
        (complaint,) = complaints(environment, RUNWAY_API_KEY=value)
        assert complaint.startswith("RUNWAYML_API_SECRET has a blank or a character outside ASCII")
        assert CANARY not in complaint

    @pytest.mark.parametrize(
        "value",
        [
            CANARY,
            f"socks5://{CANARY}:1080",
            f"http://{CANARY}:0",
            f"http://{CANARY}:x",
            f"http://{CANARY}/path",
            f"http://proxy/?{CANARY}",
            f"http://proxy/#{CANARY}",
            f"http://a b@{CANARY}",
            f"http://user:p@ss@{CANARY}:1",
            f"http://[{CANARY}",
            "http://",
        ],
    )
    def test_a_proxy(self, environment: Environment, value: str) -> None:
        (complaint,) = complaints(environment, RUNWAY_PROXY=value)
        assert complaint.startswith("RUNWAY_PROXY must be the URL of an HTTP proxy such as ")
        assert CANARY not in complaint

    def test_a_proxy_between_creates_that_share_a_connection(self, environment: Environment) -> None:
        (complaint,) = complaints(environment, RUNWAY_PROXY="http://proxy:3128", SUBMIT_KEEPALIVE="true")
        assert complaint.startswith("SUBMIT_KEEPALIVE must not be true with RUNWAY_PROXY")
        environment(RUNWAY_PROXY="http://proxy:3128", SUBMIT_KEEPALIVE="false")
        assert load().submit_keepalive is False

    @pytest.mark.parametrize("value", ["gen4_turbo", "gen4_turbo=", "=5", "gen4_turbo=-5", "gen4_turbo=1e9", "a=1;b=2"])
    def test_credits_by_model(self, environment: Environment, value: str) -> None:
        (complaint,) = complaints(environment, MAX_CREDITS_PER_DAY_BY_MODEL=value)
        assert complaint.startswith("MAX_CREDITS_PER_DAY_BY_MODEL must be a list such as ")


class TestSecrets:
    @pytest.mark.parametrize("name", ["API_KEYS", "CRON_SECRET"])
    @pytest.mark.parametrize(("length", "good"), [(1, False), (15, False), (16, True)])
    def test_their_length(self, environment: Environment, name: str, length: int, good: bool) -> None:
        value = f"{OTHER},{CANARY + '0123456789':.{length}}"
        if good:
            environment(**{name: value})
            load()
        else:
            (complaint,) = complaints(environment, **{name: value})
            assert complaint.startswith(f"{name} has an entry shorter than 16 characters")
            assert CANARY not in complaint

    def test_a_client_that_may_enqueue_may_not_run_the_cron(self, environment: Environment) -> None:
        found = complaints(environment, API_KEYS=f"{LONG},{OTHER}", CRON_SECRET=f"{OTHER[::-1]},{LONG}")
        assert found == [
            "CRON_SECRET shares an entry with API_KEYS, so a client that may only enqueue could also run ticks: "
            "set another"
        ]

    @pytest.mark.parametrize("name", ["API_KEYS", "CRON_SECRET", "ADMIN_TOKENS", "VIEWER_TOKENS"])
    @pytest.mark.parametrize(("value", "good"), [("abcdefghi" * 9, False), ("abcdefghij" * 2, True)])
    def test_few_different_characters(self, environment: Environment, name: str, value: str, good: bool) -> None:
        if good:
            environment(**{name: value})
            load()
        else:
            (complaint,) = complaints(environment, **{name: f"{LONG},{value}"})
            assert complaint.startswith(f"{name} has an entry of fewer than 10 different characters: make one with ")
            assert value not in complaint

    def test_a_callback_secret_of_one_character(self, environment: Environment) -> None:
        (complaint,) = complaints(environment, CALLBACK_SECRETS="whsec_" + "A" * 40)
        assert complaint == "CALLBACK_SECRETS has an entry of fewer than 10 different characters: make it random"

    def test_one_secret_for_two_purposes(self, environment: Environment) -> None:
        """Each of them also as Runway's key, or as the database's password."""
        found = complaints(
            environment, RUNWAYML_API_SECRET=LONG, DATABASE_URL=f"postgresql://a:{OTHER}@h/d",
            MIGRATE_DATABASE_URL=f"postgresql://b:{CALLBACK}@h/d", API_KEYS=f"{LONG},{CALLBACK}", CRON_SECRET=OTHER,
            CALLBACK_SECRETS=CALLBACK, ADMIN_TOKENS=CALLBACK, VIEWER_TOKENS=LONG,
        )  # fmt: skip
        assert found == [
            f"{name} "
            + "; ".join(
                f"shares an entry with {one}"
                + (LOOP if (name, one) == ("API_KEYS", "RUNWAYML_API_SECRET") else MEANINGS)
                for one in other
            )
            for name, other in {
                "API_KEYS": ["RUNWAYML_API_SECRET", "MIGRATE_DATABASE_URL"],
                "CRON_SECRET": ["DATABASE_URL"],
                "CALLBACK_SECRETS": ["MIGRATE_DATABASE_URL"],
                "ADMIN_TOKENS": ["MIGRATE_DATABASE_URL"],
                "VIEWER_TOKENS": ["RUNWAYML_API_SECRET"],
            }.items()
        ]

    def test_what_is_scrubbed(self) -> None:
        """Also the passwords of both databases, as they stand in the URL and as they are meant, and custom headers."""
        settings = Settings(
            database_url="postgresql://app:p%40ssword-1@h/d", migrate_database_url="postgresql://h/d?password=other-pass",
            runway_headers="X-A: a-token-for-the-gateway\nX-B: Bearer another-token", heartbeat_url="https://h.example/uuid",
        )  # fmt: skip
        assert settings.secrets == (
            "https://h.example/uuid", "a-token-for-the-gateway", "Bearer another-token", "another-token",
            "p%40ssword-1", "p@ssword-1", "other-pass",
        )  # fmt: skip

    @pytest.mark.parametrize("value", [CANARY, f"whsec_{CANARY}", "whsec_!", f"{CALLBACK},{CANARY}"])
    def test_callback_secrets(self, environment: Environment, value: str) -> None:
        (complaint,) = complaints(environment, CALLBACK_SECRETS=value)
        assert complaint.startswith("CALLBACK_SECRETS must be whsec_ and the base64 of 24 to 64 random bytes")
        assert CANARY not in complaint


class TestContradictions:
    @pytest.mark.parametrize(
        ("limit", "budget", "words"),
        [
            ("24.9", "20", ["sooner than 25 s"]),
            ("25", "20", []),
            ("25", "24.9", []),
            ("25", "25", ["longer than TICK_BUDGET"]),
            ("30", "31", ["longer than TICK_BUDGET"]),
            ("31", "30", []),
            ("10", "20", ["sooner than 25 s", "longer than TICK_BUDGET"]),
            ("-1", "20", ["sooner than 25 s", "longer than TICK_BUDGET"]),
        ],
    )
    def test_the_hard_limit(self, environment: Environment, limit: str, budget: str, words: list[str]) -> None:
        if words:
            (complaint,) = complaints(environment, HARD_LIMIT=limit, TICK_BUDGET=budget)
            assert complaint.startswith("HARD_LIMIT ")
            assert [word for word in ("sooner than 25 s", "longer than TICK_BUDGET") if word in complaint] == words
        else:
            environment(HARD_LIMIT=limit, TICK_BUDGET=budget)
            assert load().hard_limit == float(limit)

    def test_the_default_budget_counts(self, environment: Environment) -> None:
        assert "longer than TICK_BUDGET" in complaints(environment, HARD_LIMIT="20")[0]

    def test_a_post_timeout_beyond_the_hard_limit_is_shortened_not_refused(self, environment: Environment) -> None:
        environment(HARD_LIMIT="30", POST_TIMEOUT="300")
        assert load().post_timeout == 300

    @pytest.mark.parametrize(
        "columns",
        [
            {"PROMPT_COLUMN": "a", "IMAGE_COLUMN": "a"},
            {"PROMPT_COLUMN": "image_url"},
            {"IMAGE_COLUMN": "prompt"},
        ],
    )
    def test_one_column_for_two(self, environment: Environment, columns: dict[str, str]) -> None:
        assert complaints(environment, **columns) == ["IMAGE_COLUMN and PROMPT_COLUMN name the same column"]

    def test_everything_at_once(self, environment: Environment) -> None:
        """Malformed and contradictory settings alike, each by its name in the environment."""
        wrong: dict[str, Any] = {
            "DATABASE_POOL_SIZE": CANARY,
            "RUNWAYML_API_SECRET": f"{CANARY} x",
            "RUNWAYML_BASE_URL": CANARY,
            "RUNWAYML_CUSTOM_HEADERS": CANARY,
            "API_KEYS": CANARY,
            "CRON_SECRET": CANARY,
            "CALLBACK_SECRETS": CANARY,
            "IMAGE_COLUMN": "prompt",
            "HARD_LIMIT": "10",
            "UNKNOWN_POLICY": CANARY,
            "LOG_LEVEL": CANARY,
        }
        found = complaints(environment, **wrong)
        assert [complaint.split(" ")[0] for complaint in found] == list(wrong)
        assert CANARY not in " ".join(found)

    def test_what_is_malformed_contradicts_nothing_else(self, environment: Environment) -> None:
        found = complaints(environment, TICK_BUDGET=CANARY, HARD_LIMIT="25", PROMPT_COLUMN="a b", IMAGE_COLUMN="b")
        assert [complaint.split(" ")[0] for complaint in found] == ["PROMPT_COLUMN", "TICK_BUDGET"]


def test_a_submission_outlasts_its_call_by_more_than_the_schema_asks() -> None:
    assert LEASE_MARGIN_SECONDS >= 5


@pytest.mark.parametrize(
    ("proxy", "hidden"),
    [
        (None, set()),
        ("http://proxy:3128", set()),
        ("http://u:p@proxy:3128", set()),
        ("http://long-user@proxy:3128", {"long-user", "bG9uZy11c2VyOg=="}),
        (
            "https://user:p%40ss-word@proxy",
            {"user:p%40ss-word", "p%40ss-word", "p@ss-word", "dXNlcjpwQHNzLXdvcmQ="},
        ),
    ],
)
def test_what_a_proxy_is_shown_is_a_secret(proxy: str | None, hidden: set[str]) -> None:
    """In each form; but what is too short to be one would tear every text apart."""
    assert set(Settings(runway_proxy=proxy).secrets) == hidden


class TestTokensOfThePage:
    """Who may run it, and who may look."""

    def test_one_secret_has_one_meaning(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("API_KEYS", LONG)
        monkeypatch.setenv("ADMIN_TOKENS", LONG)
        monkeypatch.setenv("VIEWER_TOKENS", LONG)
        with pytest.raises(BadSettings) as refused:
            load()
        assert refused.value.complaints == [
            "ADMIN_TOKENS shares an entry with API_KEYS: one secret must not have two meanings",
            "VIEWER_TOKENS shares an entry with API_KEYS: one secret must not have two meanings",
        ]

    def test_they_are_secrets(self) -> None:
        tokens = Settings(admin_tokens=(LONG,), viewer_tokens=(OTHER,))
        assert {LONG, OTHER} <= set(tokens.secrets)


class TestRenamed:
    """Settings that had another name."""

    @pytest.mark.parametrize(("old", "new"), RENAMED.items())
    def test_the_old_name_counts(self, environment: Environment, old: str, new: str) -> None:
        environment(**{old: "77"})
        field = next(name for name, env in ENV_NAMES.items() if env == new)
        assert getattr(load(), field) == 77

    @pytest.mark.parametrize(("old", "new"), RENAMED.items())
    def test_both_with_one_value_are_accepted(self, environment: Environment, old: str, new: str) -> None:
        environment(**{old: " 77 ", new: "77"})
        field = next(name for name, env in ENV_NAMES.items() if env == new)
        assert getattr(load(), field) == 77

    @pytest.mark.parametrize(("old", "new"), RENAMED.items())
    def test_both_with_different_values_are_refused(self, environment: Environment, old: str, new: str) -> None:
        why = f"{new} and {old}, its old name, are set to different values: remove {old}"
        assert complaints(environment, **{old: "77", new: "78"}) == [why]

    def test_every_complaint_comes_at_once(self, environment: Environment) -> None:
        found = complaints(environment, POLL_SLOTS="1", POLL_CONCURRENCY="2", TICK_BUDGET="-1")
        assert [complaint.split()[0] for complaint in found] == ["POLL_CONCURRENCY", "TICK_BUDGET"]
