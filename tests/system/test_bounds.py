"""A refusal has its bounds, whatever is sent to whichever route: 64 kB, and 0.3 s of processor time."""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from starlette.types import ASGIApp, Message

from service import webhooks
from service.app import ENDPOINTS, create_app
from service.errors import MOST_PROBLEMS, InvalidRequest, Problem
from service.web import page, problems
from service.web.page.session import COOKIE
from tests.pages import ADMIN_TOKEN, control
from tests.world import CALLBACK_SECRET, CRON_SECRET, IMAGE

pytestmark = pytest.mark.anyio

LARGEST_BYTES, LONGEST_SECONDS = 64_000, 0.3
BODY_BYTES = 4_400_000  # a little less than MAX_BODY_BYTES
PIECE = 65_536

Headers = dict[str, str | bytes]


@dataclass
class Answer:
    """What came of one call. `seconds`: of the processor."""

    status: int
    size: int
    seconds: float
    words: str


@dataclass
class Open:
    """The app, and for each route what opens it: refusals of what is inside are the dear ones."""

    app: ASGIApp
    video: str
    session: Headers

    def credentials(self, path: str, body: bytes) -> Headers:
        """The headers with which this path opens for this body."""
        if path.startswith(("/ui", "/log", "/static")) or path == "/":
            return self.session
        if path.startswith("/callbacks"):
            return dict(webhooks.headers(CALLBACK_SECRET, f"msg_{hash(body)}", int(time.time()), body))
        token = CRON_SECRET if path.startswith(("/process", "/poll")) else ADMIN_TOKEN
        return {"authorization": f"Bearer {token}"}

    async def call(self, method: str, path: str, headers: Headers, body: bytes = b"") -> Answer:
        """One call, with no client between: its work would be measured, too."""
        pieces = deque([body[at : at + PIECE] for at in range(0, len(body), PIECE)] or [b""])
        sent: list[Message] = []

        async def receive() -> Message:
            if not pieces:
                await asyncio.Event().wait()  # the caller stays
            return {"type": "http.request", "body": pieces.popleft(), "more_body": bool(pieces)}

        async def send(message: Message) -> None:
            sent.append(message)

        path, _, query = path.partition("?")
        scope = {
            "type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": query.encode(),
            "headers": [(k.encode(), v if isinstance(v, bytes) else v.encode("latin-1")) for k, v in headers.items()],
            "root_path": "", "scheme": "https", "http_version": "1.1", "server": ("t", 443), "client": ("10.0.0.1", 1),
        }  # fmt: skip
        before = time.process_time()
        try:
            await self.app(scope, receive, send)
        except Exception as exc:  # Starlette raises it again once it is answered
            return Answer(500, 0, 0.0, repr(exc))
        seconds = time.process_time() - before
        content = b"".join(message.get("body", b"") for message in sent[1:])
        return Answer(sent[0]["status"], len(content), seconds, content[:300].decode("utf-8", "replace"))


@asynccontextmanager
async def opened(database_url: str) -> AsyncIterator[Open]:
    """A Taxiway with everything configured, one video in it, and an administrator's session."""
    async with control(database_url) as site:
        app = create_app(site.world.ctx)
        app.state.stopping = lambda: True  # a stream ends with its first part
        session: Headers = {
            "cookie": f"{COOKIE}={site.admin.client.cookies[COOKIE]}", "x-csrf-token": site.admin.csrf,
            "content-type": "application/x-www-form-urlencoded", "host": "taxiway.test",
        }  # fmt: skip
        yield Open(app, str(await site.world.enqueue()), session)


def filled(unit: str, begin: str = "", end: str = "") -> bytes:
    """So many of the unit as make a body of four megabytes."""
    return (begin + unit * ((BODY_BYTES - len(begin) - len(end)) // len(unit.encode())) + end).encode()


def many(count: int, entry: str) -> str:
    return ",".join(entry.replace("#", str(number)) for number in range(count))


BODIES = {
    "wrong list entries": filled('"a",', '{"filter": {"status": [', '"a"]}}'),
    "escaped letters": filled("%41", "token="),
    "open brackets": filled("["),
    "open objects": filled('{"a":'),
    "one number": filled("9"),
    "one name": filled("a", '{"', '": 1}'),
    "one name of escapes": filled("\\u0001", '{"', '": 1}'),
    "one text": filled("\U0001f600", '{"input": {"promptText": "', '"}}'),
    "one text everywhere": filled("a", '{"task_id": "', '", "why": 5, "filter": 1}'),
    "names": b"{" + many(330_000, '"n#":1').encode()[:BODY_BYTES] + b"}",
    "as many names as there may be": b"{" + many(9_999, '"\\u0001#\\u0001"' + ":{}").encode() + b"}",
    "as many entries as there may be": b'{"filter": {"status": [' + many(6_000, '"x#"').encode() + b"]}}",
    "as many names of the input": b'{"input": {' + many(9_900, f'"{"&" * 300}#":1').encode() + b"}}",
    "objects": filled("{},", '{"input": {"promptImage": [', "{}]}}"),
    "images": b'{"input": {"promptImage": [' + many(4_000, '{"uri": "#", "at": 1}').encode() + b"]}}",
    "commas": filled(","),
    "ampersands": filled("&"),
    "fields": filled("a=b&"),
    "an image that is none": filled("A", '{"input": {"promptImage": "data:image/png;base64,', '!"}}'),
    "an image in a form": filled("A", "image_data=data:image/png;base64,", "%00"),
    "NUL": filled("\0"),
    "blanks": filled(" ", "{", "}"),
    "metadata": filled("1,", '{"input": {}, "metadata": {"a": [', "1]}}"),
}  # fmt: skip


def routes(video: str, *methods: str) -> Iterator[tuple[str, str]]:
    """Every route with each of these methods."""
    served = [(one.path, one.methods) for one in ENDPOINTS] + [(one.path, [one.method]) for one in page.SCREENS]
    for template, known in served:
        for method in sorted(set(known) & set(methods)):
            path = template.replace("{id}", video).replace("{model}", "gen4_turbo").replace("{path}", "app.css")
            yield method, path.replace("{name}", "security")


@pytest.mark.parametrize("words", BODIES)
async def test_four_megabytes_of_anything(database_url: str, words: str) -> None:
    body = BODIES[words]
    async with opened(database_url) as site:
        wrong = []
        for method, path in routes(site.video, "POST"):
            for credentials in (site.credentials(path, body), {}):
                for _ in range(2):  # the machine has other work, too
                    answer = await site.call(method, path, credentials, body)
                    if answer.seconds <= LONGEST_SECONDS:
                        break
                is_bounded = answer.size <= LARGEST_BYTES and answer.seconds <= LONGEST_SECONDS
                if answer.status == 500 or (answer.status >= 400 and not is_bounded):
                    wrong.append((path, bool(credentials), answer))
        assert wrong == []


VALUES: list[str | bytes] = [
    "http://[", "http://[::1", "[", "//", "x" * 60_000, "", " ", "\0", b"\xff\xfe", "é", "%00%ff", "{}", "9" * 5_000,
    "-1", "1e9", "a;b=c,d;q=x", "=;,=;," * 2_000, "bytes=9999999999999999999-", "W/\"", "Bearer ", "Basic !",
    "\r\nSet-Cookie: a=b", "text/html;q=", "*", "http://a:b@c:99999/", "://", "~" * 5_000, "null", "NaN", "v1," * 9_000,
]  # fmt: skip
NAMES = [
    "host", "origin", "referer", "user-agent", "accept", "accept-encoding", "accept-language", "authorization",
    "cookie", "content-type", "content-length", "content-encoding", "transfer-encoding", "expect", "connection",
    "upgrade", "te",
    "range", "if-none-match", "if-modified-since", "if-range", "forwarded", "x-forwarded-for", "x-forwarded-host",
    "x-forwarded-proto", "x-real-ip", "idempotency-key", "prefer", "last-event-id", "x-csrf-token", "sec-fetch-site",
    "hx-request", "hx-current-url", "hx-target", "webhook-id", "webhook-timestamp", "webhook-signature",
]  # fmt: skip


async def test_anything_in_any_header(database_url: str) -> None:
    """Each name at every route, with another value at each."""
    body = json.dumps({"input": {"promptText": "a boat", "promptImage": IMAGE}}).encode()
    async with opened(database_url) as site:
        wrong = []
        for at, (method, path) in enumerate(routes(site.video, "GET", "POST")):
            sent = body if path in ("/videos", "/quotes") else b""
            for number, name in enumerate(NAMES):
                headers = site.credentials(path, sent) | {name: VALUES[(at * 7 + number) % len(VALUES)]}
                answer = await site.call(method, path, headers, sent)
                is_bounded = answer.size <= LARGEST_BYTES and answer.seconds <= LONGEST_SECONDS
                if answer.status == 500 or (answer.status >= 400 and not is_bounded):
                    wrong.append((method, path, name, headers[name][:40], answer))
        assert wrong == []


@pytest.mark.parametrize(
    "query", ["status=" + "x," * 15_000, "q=" + "%41" * 20_000, "&" * 30_000, "cursor=" + "A" * 60_000]
)
async def test_anything_in_a_query(database_url: str, query: str) -> None:
    async with opened(database_url) as site:
        for method, path in routes(site.video, "GET"):
            answer = await site.call(method, f"{path}?{query}", site.credentials(path, b""))
            assert answer.status != 500, (path, answer)
            if answer.status >= 400:
                assert answer.size <= LARGEST_BYTES, (path, answer)


def test_the_first_problems_and_the_number_of_the_others() -> None:
    for count, kept in (
        (MOST_PROBLEMS, MOST_PROBLEMS),
        (MOST_PROBLEMS + 1, MOST_PROBLEMS + 1),
        (500, MOST_PROBLEMS + 1),
    ):
        refused = InvalidRequest([Problem(f"/{number}", "is wrong") for number in range(count)])
        assert len(refused.problems) == kept
        if count > MOST_PROBLEMS:
            assert refused.problems[-1] == Problem("", f"and {count - MOST_PROBLEMS} more")
            assert refused.detail.endswith(f"; and {count - MOST_PROBLEMS} more")


def test_a_problem_repeats_no_signature() -> None:
    refused = InvalidRequest([Problem("/a", "got 'https://u:c0ffee@h.example/?sig=c0ffee'")])
    assert refused.detail == "/a: got 'https://[secret]@h.example/?sig=[secret]'"


def test_a_problem_of_characters_that_take_six_bytes_each() -> None:
    refused = InvalidRequest([Problem("\x01" * 10_000, "\x02" * 10_000) for _ in range(500)])
    errors = [{"pointer": one.pointer, "detail": one.detail} for one in refused.problems]
    raw = bytes(problems.problem(422, refused.slug, refused.title, refused.detail, errors=errors).body)
    assert len(raw) <= LARGEST_BYTES
    found = json.loads(raw)
    assert len(found["errors"]) == problems.FEW + 1
    assert found["errors"][-1]["detail"] == f"and {len(errors) - problems.FEW} more"
