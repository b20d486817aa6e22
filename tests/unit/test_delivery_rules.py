"""What an attempt means, and when the next one is made."""

from __future__ import annotations

from typing import Any

import pytest

from service.operations.delivery_rules import DELAYS, QUICK_DELAYS, result_of, retry_after_seconds

HOUR = 3_600


def result(status: int | None, **changes: Any) -> tuple[str, float]:
    values: dict[str, Any] = {"tries": 0, "is_own": False, "retry_after": None, "random": 0.5}
    return result_of(status, **(values | changes))


@pytest.mark.parametrize("status", [200, 202, 204, 299])
def test_any_2xx_is_a_delivery(status: int) -> None:
    assert result(status) == result(status, is_own=True, tries=9) == ("delivered", 0.0)


@pytest.mark.parametrize("status", [None, 199, 301, 302, 307, 308, 400, 404, 429, 500, 503])
def test_anything_else_is_tried_again_until_the_tenth_attempt(status: int | None) -> None:
    assert [result(status, tries=n) for n in range(9)] == [("retry", delay) for delay in DELAYS]
    assert result(status, tries=9) == ("failed", 0.0)


def test_ten_attempts_take_about_75_hours() -> None:
    assert 75 * HOUR < sum(DELAYS) < 76 * HOUR
    assert len(DELAYS) == 9


def test_attempts_that_failed_together_are_spread() -> None:
    assert (result(500, random=0.0)[1], result(500, random=1.0)[1]) == (4.5, 5.5)


def test_gone_disables_an_endpoint_and_not_the_address_of_a_video() -> None:
    assert result(410) == ("disabled", 0.0)
    assert result(410, is_own=True) == ("retry", 5.0)


@pytest.mark.parametrize("status", [404, 410])
def test_an_own_address_that_is_gone_is_tried_three_times(status: int) -> None:
    assert [result(status, is_own=True, tries=n) for n in range(3)] == [
        *(("retry", delay) for delay in QUICK_DELAYS), ("failed", 0.0),
    ]  # fmt: skip
    assert result(500, is_own=True, tries=2) == ("retry", DELAYS[2])


def test_what_the_receiver_asks_for_is_honoured_if_it_is_longer() -> None:
    assert result(503, retry_after=100.0) == ("retry", 100.0)
    assert result(503, retry_after=1.0) == ("retry", 5.0)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None), ("", None), ("soon", None), ("-5", None), ("1.5", None), ("120", 120.0), ("999999999", 86_400.0),
        ("Thu, 01 Jan 1970 00:02:00 GMT", 20.0), ("Thu, 01 Jan 1970 00:01:00 GMT", 0.0),
        ("Fri, 01 Jan 2100 00:00:00 GMT", 86_400.0), ("Thu, 01 Jan 1970 00:02:00 -0000", 20.0), ("\u0662", None),
        ("Mon, 99999999999999999999 Jan 2020 00:00:00 GMT", None),
    ],
)  # fmt: skip
def test_retry_after_in_both_its_forms(value: str | None, seconds: float | None) -> None:
    assert retry_after_seconds(value, 100.0) == seconds
