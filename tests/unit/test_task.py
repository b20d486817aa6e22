"""Every state and failure that Runway documents, and what nobody documented."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError

from service.response_parsing import LONGEST_ADDRESS
from service.runway.task import OUTPUT_LIFE_SECONDS, RETRY_DELAYS_SECONDS, Task, Verdict, judge, url_expiry
from service.videos import Event, FailureCode

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
ID = "17f20503-6c24-4c16-946b-35dbbce2af2f"
FILE = "https://dnznrvs05pmza.cloudfront.net/a.mp4"


def read(**fields: Any) -> Task:
    """A task as it comes over the wire."""
    return Task.model_validate_json(json.dumps({"id": ID, "status": "RUNNING"} | fields))


def verdict(task: Task | None, *, overdue: bool = False, retries_left: int = 2, task_retries: int = 0) -> Verdict:
    """The judgement at NOW."""
    return judge(task, overdue=overdue, retries_left=retries_left, task_retries=task_retries, now=NOW)


def failed(code: object) -> Task:
    """A task that failed with this code."""
    return read(status="FAILED", failure="not for users", failureCode=code)


def signed(claims: object) -> str:
    """An output URL as Runway signs them."""
    text = claims if isinstance(claims, str) else json.dumps(claims)
    middle = base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")
    return f"{FILE}?_jwt=eyJhbGciOiJIUzI1NiJ9.{middle}.c2lnbmF0dXJl"


class TestReading:
    def test_every_documented_field(self) -> None:
        task = read(
            status="SUCCEEDED",
            createdAt="2026-11-23T11:59:00.123Z",
            output=[FILE],
            cost={"credits": 25},
            estimatedCost={"credits": 30.5},
            somethingNew={"a": [1]},
        )
        assert task.created_at == datetime(2026, 11, 23, 11, 59, 0, 123_000, UTC)
        assert (task.output, task.failure_code) == ([FILE], None)
        assert task.cost is not None
        assert task.estimated_cost is not None
        assert (task.cost.credits, task.estimated_cost.credits) == (Decimal(25), Decimal("30.5"))

    @pytest.mark.parametrize("name", ["progress", "createdAt", "cost", "estimatedCost"])
    @pytest.mark.parametrize("value", [None, "odd", {}, [], {"credits": "many"}, {"credits": -1}, {"credits": 1e30}])
    def test_what_is_only_for_the_books_may_be_odd(self, name: str, value: object) -> None:
        task = read(**{name: value})
        assert (task.progress, task.created_at, task.cost, task.estimated_cost) == (None,) * 4

    @pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "true", '"0.5"', "1e99999999999999999999"])
    def test_numbers_that_are_none(self, text: str) -> None:
        task = Task.of(f'{{"id":"{ID}","status":"RUNNING","progress":{text},"cost":{{"credits":{text}}}}}'.encode())
        assert (task.progress, task.cost) == (None, None)

    @pytest.mark.parametrize(
        ("text", "kept"),
        [("-0.1", 0), ("-1e999", 0), ("1e-50", 0), ("1e-20000", 0), ("0.25", 0.25), ("1.1", 1), ("1e999", 1)],
    )
    def test_progress_stays_between_its_ends(self, text: str, kept: float) -> None:
        task = Task.of(f'{{"id":"{ID}","status":"RUNNING","progress":{text}}}'.encode())
        assert task.progress == kept
        assert task.fitted == (() if text in ("0.25", "1e-50", "1e-20000") else ("progress",))

    @pytest.mark.parametrize(
        ("text", "kept", "fitted"),
        [
            ("25", Decimal(25), ()),
            ("1e-20000", Decimal(0), ("cost",)),
            (f"0.{'1' * 17_000}", Decimal("0.111111"), ("cost",)),
            ("1e400", None, ("cost",)),
            ("10000001", None, ("cost",)),
            ("-1", None, ("cost",)),
        ],
    )
    def test_a_cost_fits_its_column(self, text: str, kept: Decimal | None, fitted: tuple[str, ...]) -> None:
        task = Task.of(f'{{"id":"{ID}","status":"RUNNING","cost":{{"credits":{text}}}}}'.encode())
        assert (task.cost and task.cost.credits, task.fitted) == (kept, fitted)

    @pytest.mark.parametrize("length", [2_600, LONGEST_ADDRESS])
    def test_an_address_is_kept_whole(self, length: int) -> None:
        address = FILE + "x" * (length - len(FILE))
        task = Task.of(json.dumps({"id": ID, "status": "SUCCEEDED", "output": [address]}).encode())
        assert (task.output, task.fitted) == ([address], ())

    def test_an_address_that_is_too_long_is_not_cut_to_a_dead_one(self) -> None:
        output = [FILE + "x" * LONGEST_ADDRESS, FILE]
        task = Task.of(json.dumps({"id": ID, "status": "SUCCEEDED", "output": output}).encode())
        assert (task.output, task.fitted) == ([FILE], ("output",))
        judged = verdict(Task.of(json.dumps({"id": ID, "status": "SUCCEEDED", "output": output[:1]}).encode()))
        assert (judged.event, judged.error_code) == (Event.FAIL, FailureCode.NO_OUTPUT)
        assert "longer than 16,384 characters" in (judged.error_message or "")

    def test_what_postgresql_cannot_hold(self) -> None:
        said = {"status": "FAILED\0\ud800", "failure": "\ud800", "failureCode": "A\0", "output": ["x\0\udfff"]}
        task = Task.of(json.dumps({"id": ID} | said).encode())
        assert (task.status, task.failure, task.failure_code, task.output) == ("FAILED?", "?", "A", ["x?"])
        assert task.fitted == ("status", "failure", "failureCode", "output")

    @pytest.mark.parametrize("year", ["0001", "1999", "2200", "9999"])
    def test_a_time_that_is_none(self, year: str) -> None:
        assert read(createdAt=f"{year}-01-01T00:00:00+14:00").created_at is None

    @pytest.mark.parametrize("progress", [0, 0.25, 1])
    def test_progress(self, progress: float) -> None:
        assert read(progress=progress).progress == progress

    @pytest.mark.parametrize(
        ("output", "kept"),
        [
            (None, []),
            ([], []),
            ([""], []),
            (FILE, [FILE]),
            (["", FILE, "b"], [FILE, "b"]),
            ({"n": [FILE], "m": ["b", ""]}, [FILE, "b"]),
        ],
    )
    def test_output(self, output: object, kept: list[str]) -> None:
        assert read(output=output).output == kept

    @pytest.mark.parametrize(
        "fields",
        [
            {"id": None},
            {"id": 7},
            {"status": None},
            {"status": 7},
            {"output": 7},
            {"output": {"n": FILE}},
            {"output": [{"url": FILE}]},
        ],
    )
    def test_what_decides_must_be_readable(self, fields: dict[str, Any]) -> None:
        with pytest.raises(ValidationError):
            read(**fields)

    @pytest.mark.parametrize(
        ("given", "kept"), [("CANCELED", "CANCELLED"), ("CANCELLED", "CANCELLED"), ("NEW\0", "NEW")]
    )
    def test_status(self, given: str, kept: str) -> None:
        assert read(status=given).status == kept

    def test_a_strangers_words_can_be_stored(self) -> None:
        task = failed("A\0" + "B" * 1000)
        assert task.failure_code == "A" + "B" * 198


class TestJudging:
    @pytest.mark.parametrize("status", ["PENDING", "THROTTLED", "RUNNING", "SOMETHING_NEW", ""])
    def test_under_way(self, status: str) -> None:
        assert verdict(read(status=status)) == Verdict(None)

    @pytest.mark.parametrize("status", ["PENDING", "THROTTLED", "RUNNING", "SOMETHING_NEW"])
    def test_overdue(self, status: str) -> None:
        judged = verdict(read(status=status), overdue=True)
        assert (judged.event, judged.error_code) == (Event.FAIL, FailureCode.TASK_TIMEOUT)
        assert status in (judged.error_message or "")

    @pytest.mark.parametrize("overdue", [False, True])
    def test_succeeded(self, overdue: bool) -> None:
        exp = NOW + timedelta(hours=30)
        url = signed({"exp": int(exp.timestamp())})
        assert verdict(read(status="SUCCEEDED", output=[url, FILE]), overdue=overdue) == Verdict(
            Event.COMPLETE, output=(url, FILE), url_expires_at=exp
        )

    @pytest.mark.parametrize("output", [None, [], [""]])
    def test_succeeded_without_a_file(self, output: object) -> None:
        judged = verdict(read(status="SUCCEEDED", output=output))
        assert (judged.event, judged.error_code, judged.output) == (
            Event.FAIL,
            FailureCode.NO_OUTPUT,
            (),
        )

    @pytest.mark.parametrize("spelling", ["CANCELLED", "CANCELED"])
    def test_cancelled(self, spelling: str) -> None:
        judged = verdict(read(status=spelling))
        assert (judged.event, judged.error_code) == (Event.FAIL, FailureCode.TASK_CANCELLED)

    @pytest.mark.parametrize("overdue", [False, True])
    def test_vanished(self, overdue: bool) -> None:
        judged = verdict(None, overdue=overdue)
        assert (judged.event, judged.error_code) == (Event.FAIL, FailureCode.TASK_VANISHED)


AGAIN = ["INTERNAL", None, "INPUT_PREPROCESSING.INTERNAL", "THIRD_PARTY.UNAVAILABLE"]
NEVER = [
    ("SAFETY.INPUT.TEXT", "refused the prompt or the image"),
    ("SAFETY.INPUT.IMAGE", "refused the prompt or the image"),
    ("SAFETY.INPUT.VIDEO", "refused the prompt or the image"),
    ("SAFETY.INPUT", "refused the prompt or the image"),
    ("SAFETY.OUTPUT", "withheld the result"),
    ("SAFETY.OUTPUT.VIDEO", "withheld the result"),
    ("INPUT_PREPROCESSING.SAFETY.TEXT", "refused the prompt"),
    ("INTERNAL.BAD_OUTPUT", "bad result"),
    ("INTERNAL.BAD_OUTPUT.01", "bad result"),
    ("INTERNAL.BAD_OUTPUT.CODE01", "bad result"),
    ("ASSET.INVALID", "does not fit the model"),
]
NEW = [
    "INTERNALX",
    "INTERNAL.SOMETHING",
    "INTERNAL.",
    "internal",
    "",
    "SAFETY",
    "SAFETY.INPUTX",
    "SAFETY.SOMETHING",
    "INTERNAL.BAD_OUTPUTX",
    "ASSET.INVALIDX",
    "ASSET",
    "THIRD_PARTY",
    "THIRD_PARTY.UNAVAILABLE.KLING",
    "INPUT_PREPROCESSING",
    "INPUT_PREPROCESSING.INTERNAL.02",
    "SOMETHING.NEW",
    42,
    False,
    ["INTERNAL"],
    {"code": "INTERNAL"},
]


class TestFailures:
    @pytest.mark.parametrize("code", AGAIN)
    def test_worth_another_task(self, code: object) -> None:
        judged = verdict(failed(code))
        assert (judged.event, judged.task_retry) == (Event.SEND_BACK, True)
        assert judged.error_code == (code or "INTERNAL")
        assert judged.delay_seconds == RETRY_DELAYS_SECONDS[0]

    def test_without_a_code(self) -> None:
        assert verdict(read(status="FAILED")).event is Event.SEND_BACK

    @pytest.mark.parametrize("code", AGAIN)
    @pytest.mark.parametrize("left", [0, -1])
    def test_no_retry_left(self, code: object, left: int) -> None:
        judged = verdict(failed(code), retries_left=left)
        assert (judged.event, judged.task_retry, judged.delay_seconds) == (Event.FAIL, False, 0)
        assert judged.error_message is not None
        assert "tried again" not in judged.error_message

    @pytest.mark.parametrize(("retries", "delay"), [(0, 30), (1, 300), (2, 900), (3, 900), (9, 900)])
    def test_the_delay_grows(self, retries: int, delay: float) -> None:
        assert verdict(failed("INTERNAL"), task_retries=retries).delay_seconds == delay

    @pytest.mark.parametrize(("code", "words"), NEVER)
    def test_never_again(self, code: str, words: str) -> None:
        judged = verdict(failed(code), retries_left=10)
        assert (judged.event, judged.error_code, judged.task_retry) == (Event.FAIL, code, False)
        assert words in (judged.error_message or "")

    @pytest.mark.parametrize("code", NEW)
    def test_what_is_new_is_not_tried_again(self, code: object) -> None:
        judged = verdict(failed(code), retries_left=10)
        assert (judged.event, judged.task_retry) == (Event.FAIL, False)
        assert "new to us" in (judged.error_message or "")

    @pytest.mark.parametrize("code", [*AGAIN, *(code for code, _ in NEVER), *NEW])
    def test_runways_own_text_is_not_for_users(self, code: object) -> None:
        assert "not for users" not in (verdict(failed(code)).error_message or "")

    @pytest.mark.parametrize("part", ["TEXT", "IMAGE", "VIDEO"])
    def test_the_third_part_of_a_safety_code_is_not_in_the_message(self, part: str) -> None:
        assert part not in (verdict(failed(f"SAFETY.INPUT.{part}")).error_message or "")


class TestUrlExpiry:
    def test_the_date_that_is_in_it(self) -> None:
        url = signed({"keyHash": "b7a1", "bucket": "runway-task-artifacts", "exp": 1_795_600_000})
        assert url_expiry(url, NOW) == datetime.fromtimestamp(1_795_600_000, UTC)

    @pytest.mark.parametrize("padding", range(4))
    def test_every_length(self, padding: int) -> None:
        url = signed({"a": "x" * padding, "exp": 1_795_600_000})
        assert url_expiry(url, NOW) == datetime.fromtimestamp(1_795_600_000, UTC)

    @pytest.mark.parametrize(
        "url",
        [
            "",
            FILE,
            f"{FILE}?_jwt=",
            f"{FILE}?_jwt=one",
            f"{FILE}?_jwt=a.b.c",
            f"{FILE}?_jwt=a.%FF%FE.c",
            f"{FILE}?_jwt=a.é.c",
            "https://[half/a.mp4?_jwt=a.b.c",
            *map(
                signed,
                [
                    "",
                    "no json",
                    "[" * 5000,
                    "{" * 5000,
                    [],
                    7,
                    {},
                    {"exp": None},
                    {"exp": "1795600000"},
                    {"exp": {}},
                    {"exp": 1e300},
                    {"exp": -1e300},
                    '{"exp":NaN}',
                    '{"exp":Infinity}',
                    {"exp": 1_795_600_000_000},
                ],
            ),
        ],
    )
    def test_without_a_date_the_shorter_life(self, url: str) -> None:
        assert url_expiry(url, NOW) == NOW + timedelta(seconds=OUTPUT_LIFE_SECONDS)
