"""The API's documents: examples that are true, a page to read them, and the pages of the documentation."""

from __future__ import annotations

import json
import re
import shlex
from html import escape
from html.parser import HTMLParser
from typing import Any

import httpx
import pytest
from openapi_schema_validator import OAS31Validator

from service.app import ENDPOINTS
from service.docs import NAMES, pages, read
from service.web import docs, openapi
from service.web.markdown import render
from tests.commands import ROOT
from tests.examples import BODIES, WITHOUT_EXAMPLE, answers, example_world, examples, is_up_to_date
from tests.world import world

pytestmark = pytest.mark.anyio

DOCUMENT = openapi.build(ENDPOINTS)
EXAMPLES = openapi.examples()
OPERATIONS = {
    f"{verb.upper()} {path}": operation for path, item in DOCUMENT["paths"].items() for verb, operation in item.items()
}


def valid(value: object, schema: dict[str, Any]) -> None:
    """Check a value against a schema of the document."""
    OAS31Validator(schema | {"components": DOCUMENT["components"]}).validate(value)


def schema_of(part: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = part["content"]["application/json"]["schema"]
    return found


def test_every_body_has_an_example_and_every_answer_of_its_own_shape() -> None:
    assert set(BODIES) == {name for name, operation in OPERATIONS.items() if "requestBody" in operation}
    with_answer = {name for name, example in EXAMPLES.items() if "answer" in example}
    documented = {
        name
        for name, operation in OPERATIONS.items()
        if any("application/json" in answer.get("content", {}) for answer in operation["responses"].values())
    }
    assert with_answer == documented - WITHOUT_EXAMPLE


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_every_example_is_what_its_schema_says(name: str) -> None:
    example, operation = EXAMPLES[name], OPERATIONS[name]
    if "request" in example:
        valid(example["request"], schema_of(operation["requestBody"]))
    if "answer" in example:
        valid(example["answer"], schema_of(operation["responses"][example["status"]]))


async def test_the_examples_do_what_they_say(database_url: str) -> None:
    async with example_world(database_url) as w:
        given = await answers(w)
    assert set(given) == set(OPERATIONS)
    for name, answer in given.items():
        response = OPERATIONS[name]["responses"][str(answer.status_code)]
        if kinds := response.get("content", {}):
            assert answer.headers["content-type"].partition(";")[0] in kinds, name
    made = examples(given)
    for name, example in made.items():
        if "answer" in example:
            valid(given[name].json(), schema_of(OPERATIONS[name]["responses"][example["status"]]))
    assert list(EXAMPLES) == list(made)
    outdated = [name for name, example in made.items() if not is_up_to_date(EXAMPLES[name], example)]
    assert outdated == [], "run `python -m tests.examples`"


class Page(HTMLParser):
    """What a page is made of: the ids of its parts, where its links lead, what it loads, its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.loads: list[str] = []
        self.inline: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.ids += [given["id"] or ""] if "id" in given else []
        if tag == "a":
            self.links.append(given.get("href") or "")
        elif "src" in given or tag == "link":
            self.loads.append(given.get("src") or given.get("href") or "")
        self.inline += [name for name in given if name == "style" or name.startswith("on")]


def loads_nothing_from_elsewhere(response: httpx.Response) -> Page:
    """The page of an answer, which is whole without any other host."""
    page = Page(response.text)
    assert response.status_code == 200
    assert "default-src 'none'" in response.headers["content-security-policy"]
    assert page.inline == []
    assert all(address.startswith("/static/") for address in page.loads)
    assert len(page.ids) == len(set(page.ids))
    return page


async def test_the_page_has_everything_and_loads_nothing_from_elsewhere() -> None:
    async with world("postgresql://nobody@127.0.0.1:9/nothing") as w:
        response = await w.anyone.get("/docs")
    page = loads_nothing_from_elsewhere(response)
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)
    assert all(link.startswith(("#", "/")) for link in page.links)
    for name, operation in OPERATIONS.items():
        assert name in response.text
        for parameter in operation.get("parameters", []):
            assert f"<code>{parameter['name']}</code>" in response.text
    assert "at most 1000 characters" in response.text
    assert "from -100; to 100" in response.text.replace("to 100; 0 unless given", "to 100")


def test_every_field_with_a_limit_says_so() -> None:
    fields = {(name, field.name): field for name, found in docs.schemas(ENDPOINTS).items() for field in found}
    assert fields["VideoRequest", "priority"].limits == "from -100; to 100; 0 unless given"
    assert fields["VideoRequest", "input"].required
    assert "at most 1000 characters" in fields["image_to_video.gen4_turbo", "promptText"].limits
    assert fields["image_to_video.gen4_turbo", "ratio"].kind.startswith('"1280:720" | ')
    assert fields["PauseRequest", "seconds"].limits.startswith("from 1")


def test_one_of_several_shapes_names_them() -> None:
    fields = docs.schemas(ENDPOINTS)["Enqueued"]
    assert [(field.name, field.kind) for field in fields] == [("either", "VideoView"), ("or", "GroupView")]


@pytest.mark.parametrize("one", docs.operations(ENDPOINTS, "https://taxiway.example.com"), ids=lambda one: one.anchor)
def test_every_call_can_be_pasted(one: docs.Operation) -> None:
    words = shlex.split(one.curl.replace("\\\n", " "))
    assert words[0] == "curl"
    [url] = [word for word in words if word.startswith("https://taxiway.example.com/")]
    assert "{" not in url
    assert ("-X" in words) == (one.verb != "GET")
    if "-d" in words:
        assert json.loads(words[words.index("-d") + 1]) == BODIES[f"{one.verb} {one.path}"]
    assert re.search(r"Bearer \$[A-Z_]+", one.curl) or "webhook-id" in one.curl or not one.credentials


def test_the_examples_tell_nothing_of_where_they_were_made() -> None:
    text = (ROOT / "service/web/openapi_examples.json").read_text(encoding="utf-8")
    assert not re.search(r"127\.0\.0\.1|localhost|\.test\b|/tmp|/root|key_|_jwt", text)


class TestPages:
    """GET /docs/{name}: what service/docs has, as HTML."""

    @pytest.mark.parametrize("name", NAMES)
    async def test_is_served_without_a_login_and_leads_to_what_is_there(self, name: str) -> None:
        async with world("postgresql://nobody@127.0.0.1:9/nothing") as w:
            response = await w.anyone.get(f"/docs/{name}", headers={"accept": "text/html"})
            page = loads_nothing_from_elsewhere(response)
            assert {f"/docs/{other}" for other in NAMES} <= set(page.links)
            assert f"<title>{escape(read(name).title)} · Taxiway</title>" in response.text
            assert "<h1 id=" in response.text
            assert all(link.startswith(("/", "#", "https://")) for link in page.links), page.links

    async def test_every_link_to_a_page_leads_to_a_place_that_is_there(self) -> None:
        async with world("postgresql://nobody@127.0.0.1:9/nothing") as w:
            read_so_far: dict[str, Page] = {}

            async def page(path: str) -> Page:
                if path not in read_so_far:
                    response = await w.anyone.get(path, headers={"accept": "text/html"})
                    assert response.status_code == 200, path
                    read_so_far[path] = Page(response.text)
                return read_so_far[path]

            for start in [f"/docs/{name}" for name in NAMES]:
                for link in (await page(start)).links:
                    path, _, place = link.partition("#")
                    if not path or path.startswith("/docs/"):
                        there = await page(path or start)
                        assert not place or place in there.ids, f"{start}: {link}"

    async def test_the_reference_leads_to_all_of_them(self) -> None:
        async with world("postgresql://nobody@127.0.0.1:9/nothing") as w:
            response = await w.anyone.get("/docs")
        assert all(f'href="/docs/{page.name}"' in response.text for page in pages())

    @pytest.mark.parametrize("name", ["nothing", "settings.md", "__init__"])
    async def test_an_unknown_name_is_answered_with_those_that_there_are(self, name: str) -> None:
        async with world("postgresql://nobody@127.0.0.1:9/nothing") as w:
            response = await w.anyone.get(f"/docs/{name}")
            as_page = await w.anyone.get(f"/docs/{name}", headers={"accept": "text/html"})
        assert response.status_code == as_page.status_code == 404
        assert as_page.headers["content-type"].startswith("text/html")
        assert response.json()["detail"] == f"there is no page {name!r}; there are: {', '.join(NAMES)}"

    def test_what_a_page_says_stays_text(self) -> None:
        text = "# A `b`: c\n\n<script>x</script> [y](javascript:z) ![drawn](../../a.png)\n\n```html\n<b>\n```\n"
        assert render(text) == (
            '<h1 id="a-b-c">A <code>b</code>: c</h1>\n'
            "<p>&lt;script&gt;x&lt;/script&gt; [y](javascript:z) drawn</p>\n"
            '<pre tabindex="0"><code>&lt;b&gt;\n</code></pre>\n'
        )

    def test_links_lead_to_what_is_served(self) -> None:
        text = "[a](errors.md#why-a-video-failed) [*b*](../app.py) [c](https://example.com) [d](#e) [f](routes.md)"
        assert render(text) == (
            '<p><a href="/docs/errors#why-a-video-failed">a</a> <em>b</em> <a href="https://example.com">c</a> '
            '<a href="#e">d</a> <a href="/docs/routes">f</a></p>\n'
        )
