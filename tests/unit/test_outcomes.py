"""The outcome rules, with Runway's own words, on both sides of every threshold."""

from __future__ import annotations

import json
import math
from decimal import Decimal
from typing import Any

import httpx
import pytest

from service.response_parsing import LARGEST_CREDITS, storable
from service.runway.client import Runway
from service.runway.outcomes import (
    ALL_MODELS,
    PROMPT_REFUSAL_SECONDS,
    Broken,
    Decision,
    HttpResult,
    Kind,
    Outcome,
    Reason,
    classify,
    decide,
    unknown_words,
)
from service.settings import Settings
from service.videos import FailureCode, Status
from tests.mocked import mocked

ID = "17f20503-6c24-4c16-946b-35dbbce2af2f"
DOC = "https://docs.dev.runwayml.com/api"

VALIDATION = {
    "error": "Validation of body failed",
    "issues": [
        {"code": "invalid_type", "path": ["promptImage"], "message": "Required", "expected": "string"},
        {"code": "too_big", "path": ["promptImage", 1, "uri"], "message": "Too long"},
        {"code": "unrecognized_keys", "path": [], "message": "Unrecognized key(s): 'callback_url'"},
        {"code": "custom"},
    ],
    "docUrl": DOC,
}
CREDITS = {"error": "You do not have enough credits to run this task.", "docUrl": DOC}
VERSION = {
    "error": "The API version that was provided in the X-Runway-Version header is not valid.",
    "docUrl": DOC,
}
PARTNER = {"error": "X-Runway-On-Behalf-Of request header was not specified for task creation"}
HOST = {
    "error": "Incorrect hostname for API key",
    "details": "You passed an API key to another host.",
    "docUrl": DOC,
}
DAILY = {"error": "Your daily task limit has been reached.", "docUrl": DOC}
SHED = {"error": "Overloaded"}


def said(status: int, body: Any = b"", **facts: Any) -> Outcome:
    """What an answer means."""
    return classify(HttpResult(status, body if isinstance(body, bytes) else json.dumps(body).encode(), **facts))


class TestAccepted:
    def test_with_every_fact(self) -> None:
        outcome = said(200, {"id": ID, "estimatedCost": {"credits": 25}}, request_id="abc=", seconds=59.0)
        assert outcome == Outcome(
            Kind.ACCEPTED, "task created", http_status=200, request_id="abc=", task_id=ID,
            estimated_credits=Decimal(25),
        )  # fmt: skip

    def test_the_older_form_names_no_cost(self) -> None:
        assert said(200, {"id": ID}).estimated_credits is None

    @pytest.mark.parametrize("written", [ID.upper(), ID.replace("-", ""), f"{{{ID}}}"])
    def test_ids_have_one_spelling(self, written: str) -> None:
        assert said(200, {"id": written}).task_id == ID

    def test_an_id_is_an_id_also_if_the_connection_broke_behind_it(self) -> None:
        assert said(200, {"id": ID}, torn="ReadError").kind is Kind.ACCEPTED

    @pytest.mark.parametrize(
        "body",
        [
            f'{{"id":"{ID}"',
            f'  {{ "id" : "{ID}" , "est',
            f'{{"a":{{"id":"no"}},"b":[1,{{}}],"c":"\\"id\\":","id":"{ID}","d":"hal',
            f'{{"id":"{ID.upper()}","x":{"[" * 100_000}',
            f'{{"id":"{ID}"}} and more',
        ],
    )
    @pytest.mark.parametrize("torn", ["ReadError", None])
    def test_an_id_is_an_id_also_if_the_body_broke_off_behind_it(self, body: str, torn: str | None) -> None:
        outcome = said(200, body.encode(), torn=torn)
        assert (outcome.kind, outcome.task_id, outcome.estimated_credits) == (Kind.ACCEPTED, ID, None)

    @pytest.mark.parametrize(
        "body",
        [
            f'{{"id":"{ID}',
            f'{{"id":"{ID[:-1]}"',
            f'{{"task":{{"id":"{ID}"}},"half',
            f'[{{"id":"{ID}"}}',
            f'{{"error":"{{\\"id\\":\\"{ID}\\"}}","half',
            f'"id":"{ID}"',
            f'{{7:"x","id":"{ID}"',
            f'{{"x" "id":"{ID}"',
            "{",
            "",
        ],
    )
    def test_what_is_no_id_of_the_answer(self, body: str) -> None:
        assert said(200, body.encode(), torn="ReadError").kind is Kind.UNKNOWN

    @pytest.mark.parametrize(
        ("text", "kept"), [("1e-20000", "0"), ("1e-99999999999999999999", None), (f"0.{'3' * 17_000}", "0.333333")]
    )
    def test_costs_fit_their_column(self, text: str, kept: str | None) -> None:
        outcome = said(200, f'{{"estimatedCost":{{"credits":{text}}},"id":"{ID}"}}'.encode())
        assert (outcome.task_id, outcome.estimated_credits) == (ID, kept and Decimal(kept))

    @pytest.mark.parametrize("text", ["0", "25", "0.5", "12.50", "1e3", str(LARGEST_CREDITS)])
    def test_costs_are_exact(self, text: str) -> None:
        outcome = said(200, f'{{"id":"{ID}","estimatedCost":{{"credits":{text}}}}}'.encode())
        assert outcome.estimated_credits == Decimal(text)

    @pytest.mark.parametrize(
        "text",
        [
            *('"25"', "null", "true", "[]", "{}", "-1", "-0.01", "NaN", "Infinity", "-Infinity"),
            *("1e999999", str(LARGEST_CREDITS + 1), "9" * 5000),
        ],
    )
    def test_an_odd_cost_is_not_in_the_way_of_the_id(self, text: str) -> None:
        outcome = said(200, f'{{"id":"{ID}","estimatedCost":{{"credits":{text}}}}}'.encode())
        assert (outcome.kind, outcome.task_id, outcome.estimated_credits) == (Kind.ACCEPTED, ID, None)

    @pytest.mark.parametrize("cost", [None, 25, "25", [25], {"amount": 25}])
    def test_an_odd_shape_of_cost(self, cost: object) -> None:
        assert said(200, {"id": ID, "estimatedCost": cost}) == said(200, {"id": ID})


class TestUnreadable200:
    @pytest.mark.parametrize("value", [None, "", 7, True, [ID], {"id": ID}, "task_1", ID + "0", ID[:-1], "\x00" + ID])
    def test_odd_ids(self, value: object) -> None:
        outcome = said(200, {"id": value})
        assert (outcome.kind, outcome.http_status, outcome.task_id) == (Kind.UNKNOWN, 200, None)

    @pytest.mark.parametrize(
        "body",
        [
            *(
                b"",
                b"{",
                b"null",
                b"[]",
                b'"' + ID.encode() + b'"',
                b"{}",
                b"<html>",
                b"\xff\xfe\x00",
                b"\x80",
            ),
            *(b"[" * 100_000, b'{"id":' * 50_000, b'{"id":1e99999999999999999999}'),
        ],
    )
    def test_odd_bodies(self, body: bytes) -> None:
        outcome = said(200, body)
        assert (outcome.kind, outcome.detail) == (Kind.UNKNOWN, "HTTP 200: no readable task id")


class TestRejected:
    @pytest.mark.parametrize(
        ("status", "body", "reason"),
        [
            (400, VALIDATION, Reason.INVALID),
            (400, {"error": "Validation of body failed"}, Reason.INVALID),
            (400, CREDITS, Reason.NO_CREDITS),
            (403, CREDITS, Reason.NO_CREDITS),
            (400, VERSION, Reason.WRONG_HEADERS),
            (400, PARTNER, Reason.WRONG_HEADERS),
            (401, HOST, Reason.KEY_REFUSED),
            (401, b"", Reason.NOT_RUNWAY),
            (403, b"<html>", Reason.NOT_RUNWAY),
            (400, {"message": "Bad Request"}, Reason.NOT_RUNWAY),
            (403, {"error": "Model variant veo3 is not available"}, Reason.INVALID),
            (404, {"error": "Could not find Task"}, Reason.WRONG_ENDPOINT),
            (404, b"<html>", Reason.NOT_RUNWAY),
            (405, b"", Reason.NOT_RUNWAY),
            (413, b"", Reason.TOO_LARGE_FOR_GATEWAY),
            (413, {"error": "Payload Too Large"}, Reason.INVALID),
            (422, VALIDATION, Reason.INVALID),
            (429, DAILY, Reason.DAILY_LIMIT),
            (429, b"", Reason.NOT_RUNWAY),
            (502, SHED, Reason.BUSY),
            (503, SHED, Reason.BUSY),
        ],
    )
    def test_by_reason(self, status: int, body: Any, reason: Reason) -> None:
        outcome = said(status, body, request_id="abc=", retry_after=60.0)
        assert (outcome.kind, outcome.reason, outcome.http_status) == (Kind.REJECTED, reason, status)
        assert (outcome.task_id, outcome.request_id, outcome.retry_after) == (None, "abc=", 60)
        if isinstance(body, dict) and "error" in body:
            assert outcome.detail.startswith(body["error"])
        else:
            assert outcome.detail == f"HTTP {status} without Runway's JSON error"

    def test_runways_words_name_every_issue(self) -> None:
        assert said(400, VALIDATION).detail == (
            "Validation of body failed; promptImage: Required; promptImage.1.uri: Too long; "
            "Unrecognized key(s): 'callback_url'; custom"
        )

    def test_a_prompt_about_credits_does_not_stop_the_queue(self) -> None:
        issue = {"path": ["promptText"], "message": "got: not enough credits, x-runway-version"}
        assert said(400, {"error": "Validation of body failed", "issues": [issue]}).reason is Reason.INVALID

    @pytest.mark.parametrize("issues", [None, 7, "x", {}, [None, 7, "x", []], [{"path": 7, "message": {"a": 1}}]])
    def test_odd_issues(self, issues: object) -> None:
        assert said(400, {"error": "No", "issues": issues}).detail.startswith("No")

    @pytest.mark.parametrize("error", [None, 7, ["a"], {"message": "a"}])
    def test_an_odd_error(self, error: object) -> None:
        outcome = said(400, {"error": error})
        assert (outcome.detail, outcome.reason) == ("HTTP 400 without Runway's JSON error", Reason.NOT_RUNWAY)

    def test_what_postgresql_cannot_hold(self) -> None:
        assert said(400, rb'{"error":"a\u0000b\ud800c"}').detail == "ab?c"
        assert said(200, {"id": ID}, request_id="x\0" + "y" * 1000).request_id == "x" + "y" * 198

    @pytest.mark.parametrize("length", [1999, 2000, 2001, 100_000])
    def test_words_are_bounded(self, length: int) -> None:
        assert len(said(400, {"error": "x" * length}).detail) == min(length, 2000)


class TestUnknown:
    @pytest.mark.parametrize(
        "status",
        [
            201,
            202,
            204,
            206,
            101,
            300,
            301,
            302,
            307,
            308,
            408,
            499,
            500,
            501,
            504,
            520,
            599,
        ],
    )
    @pytest.mark.parametrize("body", [b"", b"<html>", CREDITS, DAILY])
    def test_every_other_status(self, status: int, body: Any) -> None:
        outcome = said(status, body)
        assert (outcome.kind, outcome.http_status, outcome.reason) == (Kind.UNKNOWN, status, None)
        assert outcome.detail.startswith(f"HTTP {status}: ")

    @pytest.mark.parametrize("status", [402, 406, 409, 410, 418, 425, 451])
    @pytest.mark.parametrize(
        ("body", "kind"), [(b"<html>", Kind.REJECTED), (b"", Kind.REJECTED), (DAILY, Kind.UNKNOWN)]
    )
    def test_what_a_gateway_says_is_no_doubt_and_what_runway_says_is(self, status: int, body: Any, kind: Kind) -> None:
        assert said(status, body).kind is kind

    @pytest.mark.parametrize("status", [502, 503])
    @pytest.mark.parametrize("body", [b"", b"<html>503</html>", b"[]", {"message": "x"}, {"error": 7}, {"error": ""}])
    def test_a_gateways_own_refusal(self, status: int, body: Any) -> None:
        assert said(status, body).kind is Kind.UNKNOWN

    @pytest.mark.parametrize("status", [502, 503])
    @pytest.mark.parametrize(
        ("seconds", "kind"),
        [
            (0.0, Kind.REJECTED),
            (4.999, Kind.REJECTED),
            (5.0, Kind.REJECTED),
            (5.001, Kind.UNKNOWN),
            (30, Kind.UNKNOWN),
        ],
    )
    def test_shedding_load_is_prompt(self, status: int, seconds: float, kind: Kind) -> None:
        assert PROMPT_REFUSAL_SECONDS == 5.0
        assert said(status, SHED, seconds=seconds).kind is kind

    @pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 413, 422, 429, 502, 503])
    def test_half_a_refusal_is_none(self, status: int) -> None:
        outcome = said(status, SHED, torn="ReadError: reset")
        assert outcome.kind is Kind.UNKNOWN
        assert outcome.detail == f"HTTP {status}, broken off (ReadError: reset): Overloaded"

    @pytest.mark.parametrize(("status", "torn"), [(201, None), (500, None), (202, "ReadError")])
    def test_a_task_that_is_named_is_named_in_the_detail(self, status: int, torn: str | None) -> None:
        assert said(status, {"id": ID}, torn=torn).detail.endswith(f"; it names task {ID}")


class TestBroken:
    def test_only_proof_makes_it_not_sent(self) -> None:
        assert classify(Broken("refused", sent=False)) == Outcome(Kind.NOT_SENT, "refused")
        assert classify(Broken("reset", sent=True)) == Outcome(Kind.UNKNOWN, "reset")
        assert classify(Broken("whatever")).kind is Kind.UNKNOWN

    def test_the_words_can_be_stored(self) -> None:
        assert classify(Broken("a\0b" + "c" * 3000)).detail == "ab" + "c" * 1997


SETTINGS = Settings()


def decided(outcome: Outcome, settings: Settings = SETTINGS, **changes: Any) -> Decision:
    """What becomes of a video of gen4_turbo."""
    facts: dict[str, Any] = {"retries": 0, "resubmissions": 0, "bound": Decimal("25.00"), "random": 0.0}
    return decide(outcome, model="gen4_turbo", settings=settings, **(facts | changes))


class TestDecisions:
    def test_accepted(self) -> None:
        assert decided(said(200, {"id": ID})) == Decision(Status.PROCESSING)

    @pytest.mark.parametrize(
        ("retries", "random", "seconds"), [(0, 0.0, 5), (3, 0.0, 40), (0, 0.5, 6.25), (99, 0.0, 600)]
    )
    def test_not_sent(self, retries: int, random: float, seconds: float) -> None:
        decision = decided(Outcome(Kind.NOT_SENT, "refused"), retries=retries, random=random)
        words = "Waiting to be sent again: refused"
        assert decision == Decision(Status.QUEUED, error_message=words, delay_seconds=seconds, retry=True)

    @pytest.mark.parametrize(("retry_after", "seconds"), [(None, 5), (4.0, 5), (5.0, 5), (120.0, 120)])
    def test_busy(self, retry_after: float | None, seconds: float) -> None:
        decision = decided(said(503, SHED, retry_after=retry_after))
        words = "Waiting to be sent again: Overloaded"
        assert decision == Decision(Status.QUEUED, error_message=words, delay_seconds=seconds, retry=True)

    def test_invalid(self) -> None:
        decision = decided(said(403, {"error": "Model variant X is not available"}))
        words = "Runway refused the request: Model variant X is not available"
        assert decision == Decision(Status.FAILED, FailureCode.REJECTED, words)

    def test_a_rejection_without_a_reason_fails(self) -> None:
        assert decided(Outcome(Kind.REJECTED, "no")).error_code == FailureCode.REJECTED

    @pytest.mark.parametrize(
        ("outcome", "model", "seconds"),
        [
            (said(429, DAILY), "gen4_turbo", 900),
            (said(429, DAILY, retry_after=899.0), "gen4_turbo", 900),
            (said(429, DAILY, retry_after=901.0), "gen4_turbo", 901),
            (said(404, {"error": "Not Found"}), "gen4_turbo", 300),
            (said(405, {"error": "Method Not Allowed"}), "gen4_turbo", 300),
            (said(400, CREDITS), ALL_MODELS, 600),
            (said(401, HOST), ALL_MODELS, 300),
            (said(400, VERSION), ALL_MODELS, 300),
            (said(400, PARTNER), ALL_MODELS, 300),
        ],
    )
    def test_pauses_leave_the_video_unharmed(self, outcome: Outcome, model: str, seconds: float) -> None:
        decision = decided(outcome, retries=3)
        assert decision.next_status is Status.QUEUED
        assert (decision.retry, decision.delay_seconds, decision.error_code) == (False, 0, None)
        assert decision.pause is not None
        assert (decision.pause.model, decision.pause.seconds) == (model, seconds)
        assert outcome.reason is not None
        assert (decision.pause.reason, decision.pause.detail) == (outcome.reason.value, outcome.detail)

    def test_every_reason_is_decided(self) -> None:
        for reason in Reason:
            decision = decided(Outcome(Kind.REJECTED, "no", reason=reason))
            is_end = reason in (Reason.INVALID, Reason.TOO_LARGE_FOR_GATEWAY)
            assert (decision.next_status is Status.FAILED) == is_end
            assert (decision.pause is None) == (is_end or reason is Reason.BUSY)

    @pytest.mark.parametrize(("status", "is_its_own"), [(403, True), (400, True), (401, False), (429, False)])
    def test_what_a_gateway_refuses_steps_back_behind_the_pause_of_its_model(
        self, status: int, is_its_own: bool
    ) -> None:
        decision = decided(said(status, b"<html>"), retries=1)
        assert (decision.next_status, decision.retry, decision.by_gateway) == (Status.QUEUED, True, is_its_own)
        assert decision.pause is not None
        assert (decision.pause.reason, decision.pause.seconds) == ("not_runway", 60)
        assert decision.delay_seconds > decision.pause.seconds

    def test_what_is_too_large_for_a_gateway_fails_alone(self) -> None:
        decision = decided(said(413, b"<html>"))
        assert (decision.next_status, decision.error_code) == (Status.FAILED, FailureCode.REFUSED_BY_GATEWAY)


class TestUnknownPolicy:
    LOST = Outcome(Kind.UNKNOWN, "reset")

    def test_fail_is_the_default(self) -> None:
        decision = decided(self.LOST)
        assert (decision.next_status, decision.error_code) == (Status.FAILED, FailureCode.SUBMISSION_UNKNOWN)
        assert (decision.resubmit, decision.retry) == (False, False)
        assert decision.error_message == unknown_words("reset", Decimal(25))

    @pytest.mark.parametrize(
        ("cap", "resubmissions", "again"),
        [(1, 0, True), (1, 1, False), (3, 2, True), (3, 3, False), (1, 9, False)],
    )
    def test_resubmit_up_to_the_cap(self, cap: int, resubmissions: int, again: bool) -> None:
        settings = Settings(unknown_policy="resubmit", unknown_resubmits=cap)
        decision = decided(self.LOST, settings, resubmissions=resubmissions)
        if again:
            words = "Waiting to be sent again: reset"
            assert decision == Decision(Status.QUEUED, error_message=words, delay_seconds=5, retry=True, resubmit=True)
        else:
            assert decision == decided(self.LOST)

    @pytest.mark.parametrize(
        ("bound", "words"),
        [
            (Decimal("25.00"), "may have cost up to 25 credits"),
            (Decimal("120"), "may have cost up to 120 credits"),
            (Decimal("0.50"), "may have cost up to 0.5 credits"),
            (Decimal(0), "may have cost up to 0 credits"),
            (None, "may have cost credits"),
        ],
    )
    def test_the_words_say_what_may_have_been_paid(self, bound: Decimal | None, words: str) -> None:
        text = unknown_words("reset", bound)
        assert words in text
        assert "(reset)" in text
        assert "accept_double_charge" in text


@pytest.mark.parametrize(
    ("text", "kept"), [("", ""), ("ä\n😀", "ä\n😀"), ("a\0b", "ab"), ("\ud800", "?"), ("abcdef", "abcde")]
)
def test_storable(text: str, kept: str) -> None:
    assert storable(text, 5) == kept


# The same by the client of production.


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("status", "body", "kind", "reason"),
    [
        (200, {"id": ID, "estimatedCost": {"credits": 25}}, Kind.ACCEPTED, None),
        (400, VALIDATION, Kind.REJECTED, Reason.INVALID),
        (400, CREDITS, Kind.REJECTED, Reason.NO_CREDITS),
        (401, HOST, Kind.REJECTED, Reason.KEY_REFUSED),
        (429, DAILY, Kind.REJECTED, Reason.DAILY_LIMIT),
        (503, SHED, Kind.REJECTED, Reason.BUSY),
        (504, SHED, Kind.UNKNOWN, None),
        (200, {}, Kind.UNKNOWN, None),
    ],
)
async def test_an_answer_as_the_client_brings_it(status: int, body: Any, kind: Kind, reason: Reason | None) -> None:
    with mocked() as routes:
        route = routes.post("http://runway.test/v1/image_to_video").respond(status, json=body)
        outcome = await created()
    assert (outcome.kind, outcome.reason, outcome.http_status, route.call_count) == (kind, reason, status, 1)


@pytest.mark.anyio
@pytest.mark.parametrize("error", [httpx.ConnectError, httpx.ConnectTimeout, httpx.ReadTimeout, OSError, LookupError])
async def test_the_class_of_an_exception_proves_nothing(error: type[Exception]) -> None:
    with mocked() as routes:
        routes.post("http://runway.test/v1/image_to_video").mock(side_effect=error("it says"))
        assert (await created()).kind is Kind.UNKNOWN


async def created() -> Outcome:
    """One create by the client of production."""
    runway = Runway(Settings(runway_key="key", runway_url="http://runway.test"))
    try:
        return classify(await runway.create("image_to_video", {"promptText": "a boat"}, give_up_at=math.inf))
    finally:
        await runway.aclose()
