"""The page's frame: login, roles, CSRF, headers, static files, errors for site."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from dataclasses import replace
from importlib import import_module
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from service.context import Context
from service.errors import TooMany
from service.store.database import Database
from service.store.url import normalise
from service.web import attempts, page
from service.web.page import static
from service.web.page.login import local
from service.web.page.session import COOKIE, LONGEST_SESSION_SECONDS, LOOPBACK_COOKIE
from tests.database import execute
from tests.pages import ADMIN_TOKEN, HTMX, TOKENS, VIEWER_TOKEN, browser, check, control, csrf_of
from tests.world import RUNWAY_KEY, settings, world

pytestmark = pytest.mark.anyio

NOWHERE = "postgresql://nobody@127.0.0.1:1/nothing"
SCREENS = [screen.path for screen in page.SCREENS if screen.method == "GET" and "{" not in screen.path]
BEHIND = sorted(set(SCREENS) - {"/login"})
ACTIONS = [
    (screen.path, screen.target) for screen in page.SCREENS if screen.method == "POST" and screen.path != "/login"
]


def context_without_database(**changes: object) -> Context:
    """A context whose database does not answer."""
    return Context(settings(NOWHERE, **(TOKENS | changes)), Database(normalise(NOWHERE)))


def test_every_route_has_its_handler() -> None:
    for screen in page.SCREENS:
        module, _, function = screen.target.partition(".")
        assert callable(getattr(import_module(f"service.web.page.{module}"), function))


def test_what_serves_no_page_and_sends_nothing_loads_nothing_for_it() -> None:
    names = ("httpx", "httptools", "jinja2", "itsdangerous", "markupsafe")
    code = f"import sys, service.app; print([name for name in {names} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


class TestLogin:
    """Who is let in, and where they get to."""

    async def test_a_token_opens_a_session_that_scripts_and_other_sites_cannot_use(self) -> None:
        one = browser(context_without_database())
        check(await one.get("/login"))
        response = await one.post("/login", token=f" {ADMIN_TOKEN} ")
        assert (response.status_code, response.headers["location"]) == (303, "/")
        cookie = response.headers["set-cookie"]
        assert ADMIN_TOKEN not in cookie
        assert {part.strip() for part in cookie.lower().split(";")[1:]} == {
            "secure", "httponly", "samesite=strict", "path=/", f"max-age={LONGEST_SESSION_SECONDS}",
        }  # fmt: skip
        assert cookie.startswith("__Host-")  # no other host, and no page without https, can have set it

    @pytest.mark.parametrize(
        ("url", "headers", "is_secure"),
        [
            ("https://taxiway.test/login", {}, True),
            ("http://taxiway.test/login", {}, True),
            ("http://taxiway.test/login", {"x-forwarded-proto": "https,http"}, True),
            ("http://localhost:8000/login", {"x-forwarded-proto": "https"}, True),
            ("http://localhost.evil.example/login", {}, True),
            ("http://localhost:8000/login", {}, False),
            ("http://127.0.0.1/login", {}, False),
            ("http://[::1]:8000/login", {}, False),
        ],
    )
    async def test_the_cookie_needs_https_except_on_this_machine(
        self, url: str, headers: dict[str, str], is_secure: bool
    ) -> None:
        one = browser(context_without_database())
        cookie = (await one.client.post(url, data={"token": ADMIN_TOKEN}, headers=headers)).headers["set-cookie"]
        assert ("; Secure" in cookie, cookie.startswith("__Host-")) == (is_secure, is_secure)

    @pytest.mark.parametrize(
        ("url", "headers", "is_said"),
        [("http://taxiway.test/login", {}, True), ("http://localhost/login", {}, False),
         ("https://taxiway.test/login", {}, False), ("http://a.test/login", {"x-forwarded-proto": "https"}, False)],
    )  # fmt: skip
    async def test_a_page_without_https_says_so(self, url: str, headers: dict[str, str], is_said: bool) -> None:
        shown = await browser(context_without_database()).client.get(url, headers=headers)
        assert ("Open this page over https" in check(shown)) is is_said

    async def test_a_cookie_of_the_other_name_is_none(self, database_url: str) -> None:
        async with control(database_url) as site:
            value = site.admin.client.cookies[COOKIE]
            site.admin.client.cookies.clear()
            site.admin.client.cookies.set(LOOPBACK_COOKIE, value)
            assert (await site.admin.get("/")).status_code == 303

    @pytest.mark.parametrize("token", ["", "wrong", ADMIN_TOKEN[:-1], "api-key-for-tests-0001", "ü" * 20])
    async def test_a_wrong_token_learns_nothing(self, token: str) -> None:
        one = browser(context_without_database())
        response = await one.post("/login", token=token, next="/?a=1")
        assert response.status_code == 401
        assert "No such token" in check(response)
        assert "set-cookie" not in response.headers
        assert 'value="/?a=1"' in response.text

    @pytest.mark.parametrize("path", BEHIND)
    async def test_whoever_is_not_logged_in_is_sent_there_and_comes_back(self, path: str) -> None:
        one = browser(context_without_database())
        response = await one.get(f"{path}?a=1%262")
        where = f"{path}?a=1%262"
        assert (response.status_code, response.headers["location"]) == (303, f"/login?next={quote(where, safe='')}")
        login = await one.get(response.headers["location"])
        assert f'value="{where}"' in login.text
        entered = await one.post("/login", token=VIEWER_TOKEN, next=where)
        assert entered.headers["location"] == where

    async def test_the_login_comes_to_a_page_that_is_open(self, database_url: str) -> None:
        async with control(database_url) as site:
            one, pause = site.anonymous, "/ui/models/pause"
            ended = await one.post(pause, part=True, model="all", seconds="300")
            assert (ended.status_code, ended.headers["hx-retarget"]) == (401, "#notice")
            assert "Your session has ended. What you typed is still here" in check(ended)
            assert "hx-redirect" not in ended.headers
            wrong = await one.post("/login", part=True, token="wrong")
            assert wrong.status_code == 401
            assert "No such token" in check(wrong)
            begun = await one.post("/login", part=True, token=ADMIN_TOKEN)
            assert "You are logged in again." in check(begun)
            assert (begun.status_code, COOKIE in one.client.cookies) == (200, True)
            # The page goes on with the token that came with the answer.
            stale = await one.post(pause, part=True, model="all", seconds="300")
            assert (stale.status_code, stale.headers["hx-retarget"]) == (403, "#notice")
            assert "Press the button once more" in check(stale)
            found = re.findall(r'data-csrf="([0-9a-f]{64})"', begun.text + stale.text)
            assert found[0] == found[1]
            one.csrf = found[0]
            assert (await one.post(pause, part=True, model="all", seconds="300")).status_code == 200

    @pytest.mark.parametrize(
        "where",
        ["https://evil.example", "//evil.example", "/\\evil.example", "\\/evil.example", "/\t/evil.example", "",
         "javascript:alert(1)", "/a\nb", "/ /evil.example", "/a\\b", "/login", "/login?next=/login", "evil"],
    )  # fmt: skip
    async def test_it_leads_to_no_other_host(self, where: str) -> None:
        assert local(where) == "/"
        one = browser(context_without_database())
        response = await one.post("/login", token=ADMIN_TOKEN, next=where)
        assert response.headers["location"] == "/"

    async def test_without_any_token_it_says_what_to_set(self) -> None:
        one = browser(context_without_database(admin_tokens=(), viewer_tokens=()))
        for response in [await one.get(path) for path in SCREENS] + [await one.post("/login", token="")]:
            assert response.status_code == 503
            assert "ADMIN_TOKENS" in check(response)

    async def test_another_site_cannot_log_anybody_in(self) -> None:
        one = browser(context_without_database())
        for headers in ({"sec-fetch-site": "cross-site"}, {"origin": "https://evil.example"}):
            response = await one.client.post("/login", data={"token": ADMIN_TOKEN}, headers=headers)
            assert response.status_code == 403
            assert "set-cookie" not in response.headers


class TestSession:
    """What a cookie is worth."""

    async def test_it_ends_after_its_time(self, database_url: str) -> None:
        async with control(database_url) as site:
            site.world.clock.now += LONGEST_SESSION_SECONDS - 60
            assert (await site.admin.get("/")).status_code == 200
            site.world.clock.now += 120  # the cookie bears the real time, which goes on in a slow test
            assert (await site.admin.get("/")).status_code == 303

    async def test_it_ends_with_its_token_and_with_no_other(self, database_url: str) -> None:
        async with control(database_url) as site:
            cookies = [one.client.cookies[COOKIE] for one in (site.admin, site.viewer)]
            changed = settings(database_url, admin_tokens=("another-admin-token-1",), viewer_tokens=(VIEWER_TOKEN,))
            other = browser(replace(site.world.ctx, settings=changed))
            codes = []
            for cookie in cookies:
                other.client.cookies.set(COOKIE, cookie)
                codes.append((await other.get("/")).status_code)
            assert codes == [303, 200]

    async def test_a_viewers_token_among_the_admins_ends_the_viewers_session(self, database_url: str) -> None:
        async with control(database_url) as site:
            changed = settings(database_url, admin_tokens=(VIEWER_TOKEN,))
            other = browser(replace(site.world.ctx, settings=changed))
            other.client.cookies.set(COOKIE, site.viewer.client.cookies[COOKIE])
            assert (await other.get("/")).status_code == 303

    async def test_a_forged_or_changed_one_is_none(self, database_url: str) -> None:
        async with control(database_url) as site:
            real = site.admin.client.cookies[COOKIE]
            nonce, signed_at, signature = real.split(".")
            viewers = site.viewer.client.cookies[COOKIE].split(".")
            forged = [
                "", "x", "..", real[:-2], f"{nonce}.{signed_at}.", f"{viewers[0]}.{signed_at}.{signature}",
                f"{nonce}.{viewers[1]}x.{signature}", f"{nonce}.{signed_at}.{viewers[2]}", "a" * 5000,
            ]  # fmt: skip
            for cookie in forged:
                site.anonymous.client.cookies.clear()
                site.anonymous.client.cookies.set(COOKIE, cookie)
                assert (await site.anonymous.get("/")).status_code == 303, cookie

    async def test_a_login_makes_a_new_one_whatever_was_there(self, database_url: str) -> None:
        async with control(database_url) as site:
            before = site.viewer.client.cookies[COOKIE], site.viewer.csrf
            site.anonymous.client.cookies.update(site.viewer.client.cookies)
            await site.anonymous.post("/login", token=VIEWER_TOKEN)
            assert site.anonymous.client.cookies[COOKIE] != before[0]
            assert csrf_of((await site.anonymous.get("/")).text) not in ("", before[1])

    async def test_logging_out_takes_it_away(self, database_url: str) -> None:
        async with control(database_url) as site:
            response = await site.viewer.post("/logout")
            assert (response.status_code, response.headers["location"]) == (303, "/login")
            assert COOKIE not in site.viewer.client.cookies
            assert (await site.viewer.get("/")).status_code == 303

    async def test_after_the_logout_its_cookie_is_worth_nothing(self, database_url: str) -> None:
        """S6: in no process, and for no route; the other sessions of the same token go on."""
        async with control(database_url) as site:
            cookie, csrf = site.admin.client.cookies[COOKIE], site.admin.csrf
            second = browser(site.world.ctx)
            await second.login(ADMIN_TOKEN)
            assert (await site.admin.post("/logout")).status_code == 303
            other = browser(replace(site.world.ctx))  # another process: it shares the database alone
            for one in (site.admin, other):
                one.client.cookies.set(COOKIE, cookie)
                one.csrf = csrf
                assert (await one.get("/")).headers["location"] == "/login"
                for path, _ in ACTIONS:
                    response = await one.post(filled(path))
                    assert (response.status_code, response.headers["location"]) == (303, "/login")
            assert (await second.get("/")).status_code == 200
            [row] = await site.world.rows("SELECT * FROM taxiway.sessions")
            assert row["forget_at"] > row["ended_at"]

    async def test_a_logout_that_cannot_be_written_down_is_none(self, database_url: str) -> None:
        async with control(database_url) as site:
            lost = browser(replace(site.world.ctx, database=Database(normalise(NOWHERE))))
            lost.client.cookies.set(COOKIE, site.admin.client.cookies[COOKIE])
            lost.csrf = site.admin.csrf
            response = await lost.post("/logout")
            assert response.status_code == 503
            assert "set-cookie" not in response.headers

    async def test_what_no_cookie_can_say_any_more_is_forgotten(self, database_url: str) -> None:
        async with control(database_url) as site:
            await site.viewer.post("/logout")
            await execute(database_url, "UPDATE taxiway.sessions SET forget_at = taxiway.now() - interval '1 s'")
            await site.admin.post("/logout")
            assert len(await site.world.rows("SELECT FROM taxiway.sessions")) == 1


class TestGuessing:
    """Wrong logins become slow, for each address and for all of them."""

    async def test_an_address_waits_longer_after_each(self) -> None:
        now, slept = [0.0], []

        async def sleep(seconds: float) -> None:
            slept.append(seconds)

        context = replace(context_without_database(), monotonic=lambda: now[0], sleep=sleep)
        one = browser(context)
        for _ in range(attempts.ALLOWED):
            assert (await one.post("/login", token="wrong")).status_code == 401
        for wait in (1, 2, 4, 8, 16, 32, 60, 60):
            response = await one.post("/login", token=ADMIN_TOKEN)  # not even looked at
            assert (response.status_code, response.headers["retry-after"]) == (429, str(wait))
            assert "Too many attempts" in check(response)
            now[0] += wait
            assert (await one.post("/login", token="wrong")).status_code == 401
        now[0] += 60
        assert (await one.post("/login", token=ADMIN_TOKEN)).status_code == 303
        assert (await one.post("/login", token="wrong")).status_code == 401  # it begins again

    async def test_another_address_does_not_wait_for_it(self) -> None:
        one = browser(context_without_database())
        guess: dict[str, Any] = {"data": {"token": "wrong"}, "headers": {"x-forwarded-for": "9.9.9.9, 203.0.113.9"}}
        for _ in range(attempts.ALLOWED):
            await one.client.post("/login", **guess)
        assert (await one.client.post("/login", **guess)).status_code == 429
        assert (await one.post("/login", token=ADMIN_TOKEN)).status_code == 303

    async def test_all_of_them_together_are_slowed_down(self) -> None:
        now, slept = [0.0], []

        async def sleep(seconds: float) -> None:
            slept.append(seconds)

        guessing = attempts.Attempts(lambda: now[0], sleep)
        for number in range(3_000):
            await guessing.wrong(str(number))
        assert (slept[0], slept[1], slept[-1]) == (0, attempts.DELAY_OF_EACH_SECONDS, attempts.LONGEST_DELAY_SECONDS)
        assert len(guessing._of) == attempts.MOST_ADDRESSES  # a stranger makes it remember no more than that
        now[0] += attempts.SPAN_SECONDS + 1
        await guessing.wrong("a day later")
        assert slept[-1] == 0

    async def test_only_so_many_are_answered_slowly_at_once(self) -> None:
        go_on = asyncio.Event()

        async def sleep(_: float) -> None:
            await go_on.wait()

        guessing = attempts.Attempts(lambda: 0.0, sleep)
        async with asyncio.TaskGroup() as group:
            for number in range(attempts.MOST_WAITING):
                group.create_task(guessing.wrong(str(number)))
            await asyncio.sleep(0)
            with pytest.raises(TooMany):
                guessing.check("another")
            go_on.set()
        guessing.check("another")


def filled(path: str) -> str:
    """A route's path with something in each place."""
    return path.replace("{model}", "gen4_turbo").replace("{id}", "00000000-0000-0000-0000-000000000000")


class TestActions:
    """Every POST: from our own page, with the session's token, by an administrator."""

    @pytest.mark.parametrize("path", sorted({path for path, _ in ACTIONS}))
    async def test_is_refused_without_the_sessions_token(self, database_url: str, path: str) -> None:
        async with control(database_url) as site:
            for csrf in ("", "0" * 64, site.viewer.csrf):
                response = await site.admin.post(filled(path), csrf=csrf)
                assert response.status_code == 403
                assert "Reload the page" in check(response)
            headers = HTMX | {"x-csrf-token": site.viewer.csrf}
            response = await site.admin.client.post(filled(path), headers=headers)
            assert response.status_code == 403
            assert response.headers["hx-retarget"] == "#notice"

    @pytest.mark.parametrize("path", sorted({path for path, _ in ACTIONS}))
    async def test_is_refused_from_elsewhere(self, database_url: str, path: str) -> None:
        async with control(database_url) as site:
            for headers in (
                {"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"}, {"origin": "https://evil.example"},
                {"origin": "http://taxiway.test.evil.example"}, {"origin": "http://taxiway.test:81"},
            ):  # fmt: skip
                data = {"csrf": site.admin.csrf}
                response = await site.admin.client.post(filled(path), data=data, headers=headers)
                assert response.status_code == 403, headers
                assert "Another site" in check(response)

    @pytest.mark.parametrize("path", sorted({path for path, _ in ACTIONS}))
    async def test_is_nobodys_who_is_not_logged_in(self, path: str) -> None:
        one = browser(context_without_database())
        response = await one.post(filled(path))
        assert response.status_code == 303
        assert response.headers["location"].startswith("/login")

    @pytest.mark.parametrize("path", sorted({path for path, name in ACTIONS if name != "login.leave"}))
    async def test_is_not_for_those_who_only_look(self, database_url: str, path: str) -> None:
        async with control(database_url) as site:
            for part in (False, True):
                response = await site.viewer.post(filled(path), part=part)
                assert response.status_code == 403
                assert "You have read-only access." in check(response)


class TestStatic:
    """Stylesheet and scripts come from us, once."""

    @pytest.mark.parametrize("name", sorted(path.name for path in static.FOLDER.iterdir()))
    async def test_every_file(self, name: str) -> None:
        client = browser(context_without_database(admin_tokens=(), viewer_tokens=())).client
        response = await client.get(static.address(name))
        assert response.status_code == 200
        assert response.content == (static.FOLDER / name).read_bytes()
        assert response.headers["cache-control"] == "public, max-age=31536000, immutable"
        etag = {"if-none-match": f'"other", W/{response.headers["etag"]}'}
        again = await client.get(f"/static/{name}", headers=etag)
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["cache-control"] == "public, no-cache"

    @pytest.mark.parametrize("name", ["nothing.css", "..%2fapp.py", "%2e%2e%2fauth.py", "app.css%00", ".."])
    async def test_nothing_else(self, name: str) -> None:
        client = browser(context_without_database()).client
        assert (await client.get(f"/static/{name}")).status_code in (303, 404)

    def test_nothing_of_it_asks_another_host(self) -> None:
        for name in ("app.css", "app.js"):
            assert "//" not in (static.FOLDER / name).read_text().replace("// ", "")
        assert "eval(" not in (static.FOLDER / "app.js").read_text()


class TestErrors:
    """For people as a page, for programs as a problem document. The studio and the limits need no database."""

    @pytest.mark.parametrize("path", [path for path in BEHIND if path not in ("/ui/studio", "/ui/models/limits")])
    async def test_the_database_is_away(self, path: str) -> None:
        one = browser(context_without_database())
        await one.login(ADMIN_TOKEN)
        response = await one.get(path)
        assert response.status_code == 503
        words = check(response)
        assert "taxiway doctor" in words
        assert response.headers["retry-after"] == "10"
        part = await one.get(path, part=True)
        assert part.status_code == 503
        assert "<html" not in part.text
        assert "taxiway doctor" in check(part)

    async def test_only_an_admin_learns_where_the_database_is(self) -> None:
        for token, allowed in ((ADMIN_TOKEN, True), (VIEWER_TOKEN, False)):
            one = browser(context_without_database())
            await one.login(token)
            assert ("127.0.0.1" in check(await one.get("/"))) == allowed

    async def test_what_looks_like_a_key_is_not_repeated(self, database_url: str) -> None:
        async with control(database_url) as site:
            response = await site.admin.post("/ui/models/resume", model=RUNWAY_KEY)
            assert response.status_code == 404
            assert "[secret]" in check(response)
            assert RUNWAY_KEY[:30] not in response.text

    async def test_what_is_not_there(self) -> None:
        client = browser(context_without_database()).client
        page_404 = await client.get("/nothing", headers={"accept": "text/html,*/*"})
        assert page_404.status_code == 404
        assert "no such page" in check(page_404)
        for accept in ("application/json", "*/*"):
            problem = await client.get("/nothing", headers={"accept": accept})
            assert problem.headers["content-type"] == "application/problem+json"
        api = await client.get("/videos", headers={"accept": "text/html"})
        assert api.headers["content-type"] == "application/problem+json"

    async def test_a_wrong_method_on_a_screen(self) -> None:
        response = await browser(context_without_database()).client.post("/")
        assert response.status_code == 405
        check(response)

    async def test_a_form_that_is_none(self) -> None:
        one = browser(context_without_database())
        for content in (b"token=\xff\xfe", b"&".join(b"a=1" for _ in range(999))):
            response = await one.client.post("/login", content=content)
            assert response.status_code == 400
            assert "form cannot be read" in check(response)
        response = await one.client.post("/login", content=b"token=" + b"a" * 5_000_000)
        assert response.status_code == 413
        check(response)

    async def test_a_defect_is_reported_without_its_inside(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(*_: object) -> str:
            raise RuntimeError("<b>inside</b>")

        monkeypatch.setattr("service.web.page.login.local", broken)
        response = await browser(context_without_database()).get("/login")
        assert response.status_code == 500
        assert "inside" not in check(response)


async def test_the_api_takes_no_cookie(database_url: str) -> None:
    async with control(database_url) as site:
        assert (await site.admin.client.get("/videos")).status_code == 401


async def test_a_bearer_token_opens_no_screen(database_url: str) -> None:
    async with world(database_url, **TOKENS) as one:
        headers = {"authorization": f"Bearer {ADMIN_TOKEN}"}
        response: httpx.Response = await one.anyone.get("/", headers=headers)
        assert response.status_code == 303
