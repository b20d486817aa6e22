"""Webhooks: the reference vector, the reference implementation as an oracle, and what a forger may send."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Any

import pytest
import standardwebhooks
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from service import webhooks
from service.errors import BadSettings, Unauthorized
from service.webhooks import Message, SignatureRefused

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_" + base64.b64encode(b"another secret of the right length").decode()
ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
SENT = 1614265330
BODY = b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
GENUINE = {"webhook-id": ID, "webhook-timestamp": str(SENT), "webhook-signature": SIGNATURE}


def reason(headers: Any, body: bytes = BODY, secrets: tuple[str, ...] = (SECRET,), now: float = SENT) -> str:
    with pytest.raises(SignatureRefused) as caught:
        webhooks.verify(headers, body, secrets, now)
    assert isinstance(caught.value, Unauthorized)
    assert (caught.value.status, caught.value.detail) == (401, "The signature does not verify.")
    assert (str(caught.value), caught.value.extra) == ("The signature does not verify.", {})
    assert caught.value.title == "The credentials are missing or wrong"
    return caught.value.reason


def test_the_reference_vector() -> None:
    assert webhooks.sign(SECRET, ID, SENT, BODY) == SIGNATURE
    assert webhooks.headers(SECRET, ID, SENT, BODY) == GENUINE
    assert webhooks.verify(GENUINE, BODY, [SECRET], SENT) == Message(ID, SENT)


@given(
    key=st.binary(min_size=24, max_size=64),
    id=st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=256),
    body=st.text(st.characters(exclude_categories=["Cs"])),
)
def test_signs_as_the_reference_does_and_each_takes_the_other(key: bytes, id: str, body: str) -> None:
    secret = webhooks.PREFIX + base64.b64encode(key).decode()
    sent = datetime.now(UTC).replace(microsecond=0)
    theirs = standardwebhooks.Webhook(secret)
    signature = theirs.sign(id, sent, body)
    assert webhooks.sign(secret, id, int(sent.timestamp()), body.encode()) == signature
    headers = webhooks.headers(secret, id, int(sent.timestamp()), body.encode())
    theirs.verify(body, headers, json_parse=False)
    assert webhooks.verify(headers, body.encode(), [secret], sent.timestamp()).id == id


def test_looks_headers_up_in_any_case_and_in_starlettes() -> None:
    shouted = {name.upper(): value for name, value in GENUINE.items()}
    assert webhooks.verify(shouted, BODY, [SECRET], SENT).id == ID
    assert webhooks.verify(Headers(GENUINE), BODY, [SECRET], SENT).id == ID


@pytest.mark.parametrize("off", [-300, 0, 300, 299.9])
def test_the_clock_may_be_five_minutes_off(off: float) -> None:
    assert webhooks.verify(GENUINE, BODY, [SECRET], SENT + off) == Message(ID, SENT)


@pytest.mark.parametrize("off", [-301, -300.1, 300.1, 301])
def test_the_clock_may_not_be_more_off(off: float) -> None:
    assert "from this clock" in reason(GENUINE, now=SENT + off)


@pytest.mark.parametrize(
    "signatures",
    [
        f"{SIGNATURE} v1,AAAA",
        f"v1,AAAA {SIGNATURE}",
        f"v1a,AAAA v2,{SIGNATURE} {SIGNATURE}",
        f"garbage  , {SIGNATURE}",
        f"v1,\xff {SIGNATURE}",
    ],
)
def test_one_good_signature_among_others_is_enough(signatures: str) -> None:
    assert webhooks.verify({**GENUINE, "webhook-signature": signatures}, BODY, [SECRET], SENT).id == ID


def test_secrets_rotate() -> None:
    assert webhooks.verify(GENUINE, BODY, [OTHER, SECRET], SENT).id == ID
    assert webhooks.verify(GENUINE, BODY, [SECRET, OTHER], SENT).id == ID
    assert reason(GENUINE, secrets=(OTHER,)) == "none of 1 signatures is by one of 1 secrets"
    assert reason(GENUINE, secrets=()) == "none of 1 signatures is by one of 0 secrets"


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("webhook-id", ""),
        ("webhook-id", "msg_other"),
        ("webhook-id", "msg\0"),
        ("webhook-id", "msg 1"),
        ("webhook-id", "m\xe9"),
        ("webhook-id", "\udcff"),
        ("webhook-id", "x" * 257),
        ("webhook-timestamp", ""),
        ("webhook-timestamp", "1614265330.7"),
        ("webhook-timestamp", " 1614265330"),
        ("webhook-timestamp", "+1614265330"),
        ("webhook-timestamp", "-1614265330"),
        ("webhook-timestamp", "01614265330"),
        ("webhook-timestamp", "1614265330\n"),
        ("webhook-timestamp", "1_614_265_330"),
        ("webhook-timestamp", "١٦١٤٢٦٥٣٣٠"),
        ("webhook-timestamp", "1e9"),
        ("webhook-timestamp", "nan"),
        ("webhook-timestamp", "9" * 5000),
        ("webhook-timestamp", str(SENT + 1)),
        ("webhook-signature", ""),
        ("webhook-signature", "v1"),
        ("webhook-signature", "v1,"),
        ("webhook-signature", "v1,\xff"),
        ("webhook-signature", "v1,\udcff"),
        ("webhook-signature", SIGNATURE.lower()),
        ("webhook-signature", SIGNATURE.replace("v1", "v1a")),
        ("webhook-signature", SIGNATURE.replace("v1", "v2")),
        ("webhook-signature", SIGNATURE.removeprefix("v1,")),
        ("webhook-signature", SIGNATURE[:-1]),
        ("webhook-signature", f"{SIGNATURE},{SIGNATURE}"),
    ],
)
def test_refuses_what_a_forger_may_send(header: str, value: str) -> None:
    assert reason({**GENUINE, header: value})


def test_refuses_another_body() -> None:
    assert reason(GENUINE, body=BODY + b" ")
    assert reason(GENUINE, body=b"")


@pytest.mark.parametrize("name", list(GENUINE))
def test_each_header_is_there_exactly_once(name: str) -> None:
    without = {other: value for other, value in GENUINE.items() if other != name}
    assert reason(without) == f"{name} is there 0 times"
    pairs = [(key.encode(), value.encode()) for key, value in [*GENUINE.items(), (name, GENUINE[name])]]
    assert reason(Headers(raw=pairs)) == f"{name} is there 2 times"


def test_takes_a_body_that_is_not_text() -> None:
    body = bytes(range(256))
    assert webhooks.verify(webhooks.headers(SECRET, ID, SENT, body), body, [SECRET], SENT).id == ID


def test_makes_secrets_that_it_takes() -> None:
    assert webhooks.new_secret(lambda count: b"\0" * count) == f"whsec_{'A' * 43}="
    secret = webhooks.new_secret()
    assert webhooks.check_secret(secret) is None
    assert secret != webhooks.new_secret()


@pytest.mark.parametrize("size", [24, 64])
def test_takes_secrets_of_the_right_size(size: int) -> None:
    padded = webhooks.PREFIX + base64.b64encode(b"k" * size).decode()
    assert webhooks.check_secret(padded) is None
    assert webhooks.check_secret(padded.rstrip("=")) is None


@pytest.mark.parametrize(
    ("secret", "complaint"),
    [
        ("", "it does not start with whsec_"),
        (SECRET.removeprefix("whsec_"), "it does not start with whsec_"),
        ("whsec_", "it has 0"),
        ("whsec_" + base64.b64encode(b"k" * 23).decode(), "it has 23"),
        ("whsec_" + base64.b64encode(b"k" * 65).decode(), "it has 65"),
        ("whsec_not base64 at all, but long enough", "it is not base64"),
        ("whsec_" + "é" * 40, "it is not base64"),
        ("whsec_" + "A" * 37, "it is not base64"),
    ],
)
def test_says_what_is_wrong_with_a_secret(secret: str, complaint: str) -> None:
    said = webhooks.check_secret(secret)
    assert said == f"must be whsec_ and the base64 of 24 to 64 random bytes: {complaint}"
    with pytest.raises(BadSettings, match="a webhook secret must be whsec_"):
        webhooks.verify(GENUINE, BODY, [secret], SENT)
