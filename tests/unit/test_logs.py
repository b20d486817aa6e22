"""What gets into the log, in both forms: one line an event, and nobody's secrets."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest

from service.logs import RUNWAY, VIDEO, ConsoleFormatter, JsonFormatter, configure, event
from service.redaction import Redactor

KEY = "key_" + "0a" * 64
MINE = 'a secret with "quotes", a \\ and an ä'
ID = UUID("17f20503-6c24-4c16-946b-35dbbce2af2f")
IMAGE = "data:image/png;base64,"

HIDDEN = {
    "a known secret": MINE,
    "a key": KEY,
    "a key of another size": "key_" + "f" * 16,
    "a webhook secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "a signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    "a bearer token": "Bearer abcdefghijklmnop0123",
    "basic credentials": "authorization: basic dXNlcjpwYXNzd29yZA==",
    "a password in a URL": "postgresql://app:hunter2@db.example.com/app",
    "a user that is a token": "https://sometoken@example.com/",
    "an output's signature": "https://example.com/a.mp4?x=1&_jwt=eyJhbGciOiJ9.eyJleHAi.c2ln",
    "an image": IMAGE + "iVBORw0KGgo=",
    "an image, loudly": "DATA:IMAGE/PNG;BASE64,iVBORw0KGgo=",
    "an image with parameters": "data:image/png;charset=utf-8;base64,iVBORw0KGgo=",
    "an image in percent signs": "data:image/png;base64,iVBORw0%2BKGgo",
    "an image in plain text": "data:image/svg+xml,%3Csvg/iVBORw",
}
PARTS = [
    "a secret with",
    KEY,
    "f" * 16,
    "MfKQ",
    "g0hM",
    "abcdef",
    "dXNl",
    "hunter2",
    "sometoken",
    "eyJ",
    "iVBOR",
]
CONTROLS = [*map(chr, range(0x20)), "\x7f", "\x85", "\x9b", "\u2028", "\u2029", "\u202e", "\u2066", "\ud800"]

Formatter = ConsoleFormatter | JsonFormatter


@pytest.fixture(params=[ConsoleFormatter, JsonFormatter])
def formatter(request: pytest.FixtureRequest) -> Formatter:
    """Both forms."""
    made: Formatter = request.param(Redactor([MINE, "", "short"]))
    return made


def record(message: str, *args: Any, exc_info: Any = None, **extra: Any) -> logging.LogRecord:
    """One record, as `event` makes them."""
    made = logging.LogRecord("service.test", logging.WARNING, __file__, 1, message, args, exc_info)
    made.created, made.msecs = 1_795_600_000.25, 250.0
    made.__dict__.update(extra)
    return made


def raised(exc: Exception) -> Any:
    """The exc_info of an exception with a traceback."""
    try:
        raise exc
    except Exception:
        return sys.exc_info()


class TestSecrets:
    @pytest.mark.parametrize("text", HIDDEN.values(), ids=HIDDEN.keys())
    def test_in_messages_arguments_ids_and_tracebacks(self, formatter: Formatter, text: str) -> None:
        lines = [
            formatter.format(record(f"before {text} after")),
            formatter.format(record("before %s after", text)),
            formatter.format(record("before", ids={"task": text, "object": {"deep": [text]}})),
            formatter.format(record("before", exc_info=raised(ValueError(f"a {text} b")))),
            formatter.format(record("too %d few %s", text)),
        ]
        for line in lines:
            assert not [part for part in PARTS if part in line]

    def test_what_stays(self) -> None:
        redact = Redactor([MINE, "short", "1234567", "12345678"])
        assert redact(f"x {MINE} y") == "x [secret] y"
        assert redact(f"{IMAGE}AAAA' and more") == f"{IMAGE}[…]' and more"
        assert redact("postgresql://a:b@host/db") == "postgresql://[secret]@host/db"
        assert redact("https://x.y/a?_jwt=abc&b=1") == "https://x.y/a?_jwt=[secret]&b=1"
        assert redact("1234567 12345678") == "1234567 [secret]"
        for harmless in (
            "short",
            "key_abc",
            "data: none",
            "a bearer of news",
            "https://api.dev.runwayml.com/v1/x",
            "",
        ):
            assert redact(harmless) == harmless

    def test_longer_secrets_first(self) -> None:
        assert Redactor(["abcdefgh", "abcdefgh-and-more"])("abcdefgh-and-more") == "[secret]"

    def test_without_known_secrets(self) -> None:
        assert Redactor()(f"is {KEY}") == "is [secret]"

    def test_a_large_image_takes_no_time(self) -> None:
        assert Redactor([MINE])(IMAGE + "A" * 5_000_000) == f"{IMAGE}[…]"


class TestLines:
    @pytest.mark.parametrize("control", CONTROLS, ids=ascii)
    def test_nothing_from_outside_forges_a_line(self, formatter: Formatter, control: str) -> None:
        forged = f"a{control}12:00:00.000 ERROR   forged"
        line = formatter.format(record(forged, ids={"task": forged}))
        assert control not in line
        assert len(line.splitlines()) == 1
        assert line.encode()

    def test_a_traceback_passes_for_nothing_else(self) -> None:
        text = ConsoleFormatter(Redactor()).format(
            record("failed", exc_info=raised(ValueError("a\n12:00:00.000 ERROR b")))
        )
        first, *rest = text.splitlines()
        assert first.endswith("failed")
        assert all(line.startswith("    | ") for line in rest)
        assert rest[-1] == "    | 12:00:00.000 ERROR b"

    def test_a_traceback_in_json_stays_one_line(self) -> None:
        text = JsonFormatter(Redactor()).format(record("failed", exc_info=raised(ValueError("a\nb"))))
        assert len(text.splitlines()) == 1
        traceback = json.loads(text)["traceback"]
        assert traceback[0].startswith("Traceback")
        assert traceback[-2:] == ["ValueError: a", "b"]

    def test_console(self) -> None:
        made = record("Status now %s", "processing", prefix=VIDEO, ids={"video": ID, "submission": 7, "task": None})
        line = ConsoleFormatter(Redactor()).format(made)
        assert line == f"09:46:40.250 WARNING [Video Generation] Status now processing video={ID} submission=7"

    @pytest.mark.parametrize(
        ("value", "shown"),
        [("a b", '"a b"'), ("a=b", '"a=b"'), ('"', '"\\""'), ("", '""'), ("ä", "ä"), (1.5, "1.5")],
    )
    def test_a_value_is_no_other_pair(self, value: object, shown: str) -> None:
        assert ConsoleFormatter(Redactor()).format(record("m", ids={"a": value})).endswith(f"m a={shown}")

    def test_json(self) -> None:
        made = record(
            "größer",
            prefix=RUNWAY,
            event="accepted",
            ids={"video": ID, "n": 7, "gone": None, "level": "mine"},
        )
        line = JsonFormatter(Redactor()).format(made)
        assert json.loads(line) == {
            "time": "2026-11-25T09:46:40.250Z",
            "level": "warning",
            "logger": "service.test",
            "event": "accepted",
            "message": "[Runway API] größer",
            "video": str(ID),
            "n": 7,
        }

    def test_somebody_elses_record(self, formatter: Formatter) -> None:
        line = formatter.format(record("plain"))
        assert "plain" in line
        if isinstance(formatter, JsonFormatter):
            assert json.loads(line)["event"] == "service.test"


@pytest.fixture
def root() -> Iterator[None]:
    """The root logger and the chatty ones, put back afterwards."""
    names = [None, "databases", "httpx", "httpcore", "asyncio"]
    levels = {name: logging.getLogger(name).level for name in names}
    handlers = logging.getLogger().handlers[:]
    logging.getLogger().handlers[:] = []
    yield
    logging.getLogger().handlers[:] = handlers
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


@pytest.mark.usefixtures("root")
class TestConfigure:
    def test_json_to_stderr(self, capsys: pytest.CaptureFixture[str]) -> None:
        configure("json", "INFO", [MINE])
        log = logging.getLogger("service.test")
        event(log, VIDEO, "starting", f"Starting with {MINE}", video=ID)
        event(log, VIDEO, "starting", "not seen", level=logging.DEBUG)
        said = capsys.readouterr()
        assert said.out == ""
        (line,) = said.err.splitlines()
        assert json.loads(line)["message"] == "[Video Generation] Starting with [secret]"
        assert json.loads(line)["video"] == str(ID)

    def test_console_to_stderr(self, capsys: pytest.CaptureFixture[str]) -> None:
        configure("console", "WARNING", [])
        event(logging.getLogger("service.test"), RUNWAY, "x", "A line", level=logging.ERROR)
        assert capsys.readouterr().err.endswith("ERROR   [Runway API] A line\n")

    @pytest.mark.parametrize(
        ("level", "quiet"),
        [("DEBUG", logging.WARNING), ("WARNING", logging.WARNING), ("ERROR", logging.ERROR)],
    )
    def test_what_others_say_in_detail_stays_out(self, level: str, quiet: int) -> None:
        """`databases` logs the arguments of every query at DEBUG."""
        configure("console", level, [])
        for name in ("databases", "httpx", "httpcore", "asyncio"):
            assert logging.getLogger(name).level == quiet
