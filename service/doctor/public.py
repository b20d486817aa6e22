"""Checks an installation from outside for `taxiway doctor --url`: its public address, as callers use it."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from service.doctor.checks import Check, CheckStatus, unchecked
from service.env_parsing import web_url
from service.errors import BadSettings

if TYPE_CHECKING:
    import httpx

AREA = "outside"
ANSWER_SECONDS = 15.0  # a host that sleeps wakes up first
LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")
CHECKS = ("service", "cron route", "callbacks")


async def reachable(url: str, transport: httpx.AsyncBaseTransport | None = None) -> list[Check]:
    """Whether the service, its cron route and its callbacks are reached there. It starts no work.

    Raises BadSettings if `url` is no address.
    """
    import httpx

    try:
        base = web_url(url).rstrip("/")
    except ValueError as exc:
        raise BadSettings([f"--url {exc}"]) from None
    async with httpx.AsyncClient(transport=transport, timeout=ANSWER_SECONDS) as client:
        try:
            live = await client.get(f"{base}/health/live")
        except (httpx.HTTPError, OSError) as exc:
            words = f"{base} does not answer ({type(exc).__name__}: {exc})".replace(": )", ")")
            fix = "correct the address; let callers in: name resolution, certificate, firewall, deployment protection"
            away = Check(AREA, "service", CheckStatus.ERROR, words, fix)
            return [away, *(unchecked(AREA, name, "the service does not answer") for name in CHECKS[1:])]
        found = [_encrypted(base), _service(base, live)]
        if found[-1].status is CheckStatus.ERROR:
            return [*found, *(unchecked(AREA, name, "something else answers there") for name in CHECKS[1:])]
        try:
            found.append(_cron(await client.head(f"{base}/process-queued")))
            found.append(_callbacks(await client.post(f"{base}/callbacks/runway", content=b"{}")))
        except (httpx.HTTPError, OSError) as exc:
            done = {check.name for check in found}
            words = f"it stopped answering ({type(exc).__name__})"
            found += [unchecked(AREA, name, words) for name in CHECKS if name not in done]
    return found


def _encrypted(base: str) -> Check:
    url = urlsplit(base)
    if url.scheme == "https":
        return Check(AREA, "TLS", CheckStatus.OK, "yes")
    if url.hostname in LOCAL_HOSTS:
        return Check(AREA, "TLS", CheckStatus.OK, "no, and this machine's own")
    words = "no: keys and the cron secret are sent in plain text"
    return Check(AREA, "TLS", CheckStatus.WARNING, words, "let callers use https")


def _service(base: str, answer: httpx.Response) -> Check:
    if answer.status_code == 200 and answer.text.replace(" ", "") == '{"status":"alive"}':
        return Check(AREA, "service", CheckStatus.OK, f"{base} answers")
    if answer.is_redirect:
        words = f"{base} redirects to {answer.headers.get('location', 'somewhere')}, and most callers do not follow"
        return Check(AREA, "service", CheckStatus.ERROR, words, "give callers the address that answers itself")
    words = f"wrong endpoint: {base}/health/live answers {answer.status_code}, which is not Taxiway"
    fix = "correct the address; if the host asks visitors to log in, let callers pass"
    return Check(AREA, "service", CheckStatus.ERROR, words, fix)


def _cron(answer: httpx.Response) -> Check:
    if answer.status_code == 204 and "POST" in answer.headers.get("allow", ""):
        return Check(AREA, "cron route", CheckStatus.OK, "/process-queued is reached; HEAD sets nothing going")
    words = f"HEAD /process-queued answers {answer.status_code}: what stands in front of it changes or stops it"
    return Check(AREA, "cron route", CheckStatus.ERROR, words, "let requests to /process-queued through as they are")


def _callbacks(answer: httpx.Response) -> Check:
    match answer.status_code:
        case 401 if "urn:taxiway:" in answer.text:
            return Check(AREA, "callbacks", CheckStatus.OK, "reached; what is not signed is refused")
        case 503 if "CALLBACK_SECRETS" in answer.text:
            return Check(AREA, "callbacks", CheckStatus.OK, "reached; no secret there, so none are taken")
        case status:
            words = f"POST /callbacks/runway without a signature answers {status}, not 401"
            fix = "let requests to /callbacks/runway through as they are; ticks do without them"
            return Check(AREA, "callbacks", CheckStatus.ERROR if status < 300 else CheckStatus.WARNING, words, fix)
