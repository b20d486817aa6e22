"""One webhook: its body, its signature, and one POST to an address that was checked. Whatever goes wrong, an answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from service import ssrf, version_of_package, webhooks
from service.context import Context
from service.operations.delivery_rules import iso, retry_after_seconds
from service.operations.video_view import VideoView
from service.store.audit import Audit
from service.store.deliveries import Due
from service.videos import Video

if TYPE_CHECKING:
    import httpx

KEPT_CHARACTERS = 500  # of an answer
READ_BYTES = 4 * KEPT_CHARACTERS
# Of every webhook, beside the three that sign it.
HEADERS = {
    "content-type": "application/json", "user-agent": f"Taxiway/{version_of_package()}", "accept-encoding": "identity",
}  # fmt: skip


@dataclass(frozen=True)
class Answer:
    """What a receiver answered. `status`: None without an answer, and then `error` says why; `text`: its beginning."""

    milliseconds: int
    status: int | None = None
    error: str | None = None
    text: str = ""
    retry_after: float | None = None
    timed_out: bool = False


def shown(video: Video, account: Audit) -> dict[str, Any]:
    """A video as the API shows it, and what it has cost."""
    return VideoView.of(video).model_dump(mode="json") | {
        "charge": account.charge,
        "paid_credits": float(account.paid),
        "most_credits": float(account.most),
    }


def data_of(due: Due, videos: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """What a delivery reports of these videos; None where there is nothing to say: its video is gone, or erased."""
    if due.payload is not None:
        payload: dict[str, Any] = json.loads(due.payload)
        return payload
    if not videos:
        return None
    return {"id": str(due.group_id), "videos": list(videos)} if due.group_id is not None else videos[0]


def body_of(due: Due, data: Mapping[str, Any]) -> bytes:
    """The body of a webhook; `timestamp`: when the event happened. The text of an alert stands outside, too: Slack and
    what follows it show that.
    """
    message = {"type": due.event, "timestamp": iso(due.created_at), "data": data}
    if due.payload is not None and "text" in data:
        message["text"] = data["text"]
    return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode()


class Sender:
    """Sends webhooks over connections of its own."""

    def __init__(self, ctx: Context, client: httpx.AsyncClient) -> None:
        self._ctx, self._client = ctx, client

    async def post(self, due: Due, body: bytes, seconds: float) -> Answer:
        """One POST, which ends within so many seconds. It follows no redirect."""
        import httpx  # not sooner: a cold start should not wait for it

        ctx = self._ctx
        began = ctx.monotonic()

        def took() -> int:
            return round((ctx.monotonic() - began) * 1000)

        if why := ssrf.complaint(due.url, ctx.settings.webhook_private_hosts, any_port=True):
            return Answer(took(), error=f"not sent: the address {why}")
        signed = webhooks.headers(ctx.settings.webhook_secrets[0], due.webhook_id, int(ctx.now()), body)
        try:
            async with (
                asyncio.timeout(seconds),
                self._client.stream("POST", due.url, content=body, headers=HEADERS | signed) as response,
            ):
                text = await self._beginning(response)
        except TimeoutError:
            return Answer(took(), error=f"no answer within {seconds:.3g} s", timed_out=True)
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as exc:
            words = ctx.settings.redactor(f"{type(exc).__name__}: {exc}".rstrip(": "))
            return Answer(took(), error=words[:KEPT_CHARACTERS])
        wait = retry_after_seconds(response.headers.get("retry-after"), ctx.now())
        return Answer(took(), response.status_code, text=text, retry_after=wait)

    async def _beginning(self, response: httpx.Response) -> str:
        read = b""
        async for part in response.aiter_raw():
            read += part
            if len(read) >= READ_BYTES:
                break
        text = read.decode(errors="replace").replace("\x00", "\ufffd")
        return self._ctx.settings.redactor(text)[:KEPT_CHARACTERS]


@asynccontextmanager
async def sending(ctx: Context, connections: int) -> AsyncIterator[Sender]:
    """A sender for the time of one step: none of its connections outlives it."""
    import httpx

    from service.runway.transport import SocketTransport

    if ctx.webhook_transport is not None:
        transport = ctx.webhook_transport()
    else:
        resolve = ssrf.resolving(ctx.settings.webhook_private_hosts)
        transport = SocketTransport(connections=connections, resolve=resolve, monotonic=ctx.monotonic, now=ctx.now)
    async with httpx.AsyncClient(transport=transport, trust_env=False, timeout=None) as client:  # noqa: S113  # ours is total
        yield Sender(ctx, client)
