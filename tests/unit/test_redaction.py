"""What is taken out of texts: known secrets in every spelling, and the parameters of addresses that let one in."""

from __future__ import annotations

import json
from html import escape
from urllib.parse import quote

import pytest

from service.redaction import SECRET, SHORTEST_SECRET, Redactor, redacted

TOKEN = 'tok/en&"with"+odd=ch@rs\\ä'
NAMES = [
    "sig", "signature", "Signature", "token", "access_token", "X-Amz-Signature", "X-Amz-Credential",
    "X-Amz-Security-Token", "x-amz-date", "X-Goog-Signature", "X-Goog-Credential", "x-oss-signature", "Key-Pair-Id",
    "Policy", "AWSAccessKeyId", "GoogleAccessId", "_jwt", "jwt", "api_key", "apikey", "key", "client_secret",
    "password", "hmac", "hdnts",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_parameters_of_an_address_by_their_name(name: str) -> None:
    address = f"https://b.example.com/a.jpg?width=5&{name}=c0ffee-c0ffee%2F&height=7"
    assert redacted(address) == f"https://b.example.com/a.jpg?width=5&{name}={SECRET}&height=7"
    for spelled in (address, f"/a.jpg?{name}=c0ffee", quote(address, safe=""), escape(address), json.dumps(address)):
        assert "c0ffee" not in redacted(f"before {spelled} after")
        assert redacted(f"before {spelled} after").endswith(" after")
    assert "c0ffee" not in redacted(json.dumps(address).replace("&", "\\u0026"))


@pytest.mark.parametrize(
    "text", ["?page=2&limit=5", "https://a.example/?monkey=1&design=2&tokens=3", "a & sig = b", "?"]
)
def test_other_parameters_stay(text: str) -> None:
    assert redacted(text) == text


def test_a_known_secret_in_every_spelling() -> None:
    redact = Redactor([TOKEN])
    for form in (TOKEN, json.dumps(TOKEN), json.dumps(TOKEN, ensure_ascii=False), repr(TOKEN), quote(TOKEN, safe="")):
        assert redact(f"<{form}>").strip("<>\"'") == SECRET
        assert redact.body(f"<{form}>".encode()).strip(b"<>\"'") == SECRET.encode()
    assert redact(escape(TOKEN)) == SECRET


def test_a_word_is_taken_out_of_a_text_whole_and_out_of_no_address() -> None:
    redact = Redactor(["postgres"])
    assert redact("postgresql with postgres, Postgres") == f"postgresql with {SECRET}, Postgres"
    assert redact.body(b"https://cdn.example.com/postgres/a.mp4") == b"https://cdn.example.com/postgres/a.mp4"


@pytest.mark.parametrize("length", range(len("a-token-0123456789")))
def test_a_body_that_broke_off_inside_a_secret(length: int) -> None:
    raw = b"Authorization: " + b"a-token-0123456789"[:length]
    found = Redactor(["a-token-0123456789"]).body(raw, is_cut=True)
    assert found == (raw if length < SHORTEST_SECRET else b"Authorization: [secret]")
    assert Redactor(["a-token-0123456789"]).body(raw) == raw
