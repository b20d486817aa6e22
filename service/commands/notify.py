"""Commands about the webhooks that go out: `webhooks`, `deliveries`."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.commands import ids
from service.commands.console import fail, run_quietly
from service.commands.listen import came_to
from service.commands.output import AsJson, ago, console, pairs, print_json, prints_table, table, text
from service.context import Context

if TYPE_CHECKING:
    from rich.console import RenderableType

cli = typer.Typer()

REPLAY, SHOW = "replay", "show"


class Act(StrEnum):
    """What `taxiway webhooks` does."""

    LIST = "list"
    TEST = "test"
    ENABLE = "enable"


class State(StrEnum):
    """What became of a delivery."""

    DUE = "due"
    DELIVERED = "delivered"
    FAILED = "failed"
    SUPERSEDED = "superseded"
    DISABLED = "disabled"
    DROPPED = "dropped"


@cli.command()
def webhooks(
    action: Annotated[
        Act, typer.Argument(help="List the endpoints, send them a test event, or enable one.")
    ] = Act.LIST,
    endpoint: Annotated[
        int | None, typer.Argument(min=1, help="The id of one endpoint; `test` without it: to all of them.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """The endpoints of webhooks: since when one fails, what waits for it; test one, or enable it again."""
    as_table = prints_table(as_json)
    if action is Act.LIST and endpoint is not None:
        raise typer.BadParameter("is for `test` and `enable`", param_hint="ENDPOINT")
    if action is Act.ENABLE and endpoint is None:
        raise typer.BadParameter("say which: `taxiway webhooks` lists them", param_hint="ENDPOINT")
    works = {Act.LIST: _list, Act.TEST: _test, Act.ENABLE: _enable}
    is_well = run_quietly(lambda ctx: works[action](ctx, endpoint, as_table))
    if not is_well:
        raise typer.Exit(1)


async def _list(ctx: Context, _endpoint: int | None, as_table: bool) -> bool:
    from service.operations import webhook_endpoints
    from service.web.schemas_webhooks import EndpointView

    found = [EndpointView.of(one).model_dump(mode="json") for one in await webhook_endpoints.listed(ctx)]
    if not as_table:
        print_json(found)
        return True
    rows = [
        (one["id"], one["kind"], one["state"], one["waiting"], ago(one["last_ok_at"]), ago(one["failing_since"]),
         one["url"], one["disabled_reason"] or (one["last_error"] if one["failing_since"] else ""))
        for one in found
    ]  # fmt: skip
    headings = ("endpoint", "kind", "state", "waiting", "last ok", "failing for", "address", "because")
    console().print(table(headings, rows, wide=["address"]) if rows else "no endpoints: WEBHOOK_URL names them")
    return True


async def _test(ctx: Context, endpoint: int | None, as_table: bool) -> bool:
    from service.operations import webhook_endpoints
    from service.web.schemas_webhooks import TestResult

    found = [TestResult.of(one).model_dump(mode="json") for one in await webhook_endpoints.test(ctx, endpoint)]
    if as_table:
        for one in found:
            words = came_to({"http_status": one["http_status"], "ms": one["ms"], "error": one["error"]})
            print(f"endpoint {one['endpoint_id']}, {one['url']}: {words}")
    else:
        print_json(found)
    return all(one["delivered"] for one in found)


async def _enable(ctx: Context, endpoint: int | None, as_table: bool) -> bool:
    from service.operations import webhook_endpoints
    from service.web.schemas_webhooks import EndpointView

    assert endpoint is not None  # noqa: S101  # asked for above
    done = EndpointView.of(await webhook_endpoints.enable(ctx, endpoint)).model_dump(mode="json")
    if as_table:
        print(f"endpoint {endpoint} is enabled; {done['waiting']} wait for the next tick")
    else:
        print_json([done])
    return True


@cli.command()
def deliveries(
    what: Annotated[
        str | None,
        typer.Argument(metavar="VIDEO|show|replay", help="Of one video; or show one delivery, or send it again."),
    ] = None,
    delivery: Annotated[int | None, typer.Argument(min=1, help="The id of the delivery to show or send again.")] = None,
    state: Annotated[list[State] | None, typer.Option(help="Only these; may be given several times.")] = None,
    endpoint: Annotated[int | None, typer.Option(min=0, help="To this endpoint; 0: to addresses of videos.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="How many at most, the newest first.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Webhooks that were sent, or are due, and what was answered; `replay ID` sends one again, now."""
    as_table = prints_table(as_json)
    if what in (REPLAY, SHOW):
        if delivery is None:
            raise typer.BadParameter("say which: `taxiway deliveries` lists them", param_hint="DELIVERY")
        is_well = run_quietly(lambda ctx: _one(ctx, delivery, again=what == REPLAY, as_table=as_table))
        if not is_well:
            fail("taxiway: it was not delivered; it is tried again")
        return
    if delivery is not None:
        raise typer.BadParameter("is for `show` and `replay`", param_hint="DELIVERY")
    video = None if what is None else ids.parse(what)
    states = tuple(one.value for one in state or ())
    run_quietly(lambda ctx: _page(ctx, video, states, endpoint, limit, as_table=as_table))


async def _page(
    ctx: Context, video: str | None, states: tuple[str, ...], endpoint: int | None, limit: int, *, as_table: bool
) -> None:
    from service.operations import redelivering
    from service.store.delivery_log import WantedDeliveries
    from service.web.schemas_webhooks import DeliveryPage

    video_id = None if video is None else await ids.resolve(ctx, video)
    found = await redelivering.page(ctx, WantedDeliveries(video_id, endpoint, states), None, limit)
    shown = DeliveryPage.of(found).model_dump(mode="json")["deliveries"]
    if as_table:
        console().print(_deliveries(shown))
    else:
        print_json(shown)


def _deliveries(found: list[dict[str, Any]]) -> RenderableType:
    if not found:
        return "no deliveries"
    rows = [
        (one["id"], one["event"], one["state"], ago(one["created_at"]), one["tries"],
         came_to(one["last"] or {}), one["video_id"], one["url"])
        for one in found
    ]  # fmt: skip
    return table(
        ("delivery", "event", "state", "ago", "tries", "last answer", "video", "address"), rows, wide=["address"]
    )


async def _one(ctx: Context, delivery: int, *, again: bool, as_table: bool) -> bool:
    """Whether it is as asked for: delivered, if it was sent again."""
    from service.operations import redelivering
    from service.web.schemas_webhooks import DeliveryReport

    found = await redelivering.replay(ctx, delivery) if again else await redelivering.find(ctx, delivery)
    report = DeliveryReport.of_sent(found, await redelivering.sent(ctx, found)).model_dump(mode="json")
    if not as_table:
        print_json([report])
    elif again:
        print(f"delivery {delivery}: {came_to(report['last'] or {})}")
    else:
        console().print(_report(report))
    return not again or found.state == "delivered"


def _report(one: dict[str, Any]) -> RenderableType:
    from rich.console import Group

    named = (
        "event",
        "state",
        "video_id",
        "group_id",
        "endpoint_id",
        "url",
        "created_at",
        "next_attempt_at",
        "ended_at",
    )
    facts = pairs([*((name.replace("_", " "), one[name]) for name in named), *one["request"]["headers"].items()])
    attempts = [(each["at"][:19], came_to(each), each["answer"]) for each in one["attempts"]]
    body = [text(line) for line in (one["request"]["body"] or "nothing is left to say").splitlines()]
    return Group(facts, "", table(("attempt (UTC)", "answer", "text"), attempts, folded=["text"]), *body)
