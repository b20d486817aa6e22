"""The checks of endpoints: those that fail, and those that are disabled. Pure."""

from __future__ import annotations

from urllib.parse import urlsplit

from service.doctor.checks import Check, CheckStatus
from service.operations.rhythm import span
from service.store.endpoints import TroubledEndpoint

SETTINGS = {"webhook": "WEBHOOK_URL", "alert": "ALERT_URL"}


def troubled(endpoint: TroubledEndpoint, now: float) -> Check:
    """One endpoint in trouble; of its address only the host is shown, for the rest may be a secret.

    `now`: seconds since 1970.
    """
    host = urlsplit(endpoint.url).netloc
    setting = SETTINGS.get(endpoint.kind, "the command that listens")
    if endpoint.disabled_at is not None:
        ago = span(now - endpoint.disabled_at.timestamp())
        words = f"disabled {ago} ago, because {endpoint.disabled_reason}: nothing is sent to it any more"
        fix = f"remove it from {setting}, and run `taxiway tick`; if it is there again, add it once more"
        return Check("webhooks", f"endpoint {endpoint.id}, {host}", CheckStatus.ERROR, words, fix)
    since = span(now - endpoint.failing_since.timestamp()) if endpoint.failing_since else "a moment"
    words = f"has failed for {since} ({endpoint.last_error}); {endpoint.waiting} wait"
    fix = f"let it answer 2xx within 15 s, or remove it from {setting}; it is tried again until then"
    return Check("webhooks", f"endpoint {endpoint.id}, {host}", CheckStatus.WARNING, words, fix)
