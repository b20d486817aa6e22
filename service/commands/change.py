"""Commands that change videos: `retry`, `cancel`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from service.commands.console import fail, run_quietly
from service.commands.output import AsJson, for_people, print_json
from service.commands.videos import VideoId
from service.errors import Conflict
from service.house import House

if TYPE_CHECKING:
    from service.videos import Video

cli = typer.Typer()


@cli.command()
def retry(
    video: VideoId,
    accept_double_charge: Annotated[
        bool,
        typer.Option("--accept-double-charge", help="Send it again although its first request may have been paid."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Queue a failed video again."""
    from service.store import videos as store

    async def work(house: House) -> Video:
        try:
            return await store.retry(
                house.database, video, consent=accept_double_charge,
                patience_seconds=house.settings.queue_patience,
            )  # fmt: skip
        except Conflict as exc:
            if "error_code" not in exc.extra:
                raise
            fail(
                f"taxiway: Runway may have taken and charged {video} already. If its task is in Runway's Request "
                f"History: `taxiway adopt-task {video} TASK`. To pay a second time if need be: --accept-double-charge"
            )

    _tell(run_quietly(work), "is queued again", as_json)


@cli.command()
def cancel(video: VideoId, as_json: AsJson = False) -> None:
    """Cancel a queued or processing video; its task at Runway is deleted by the next tick."""
    from service.store import videos as store

    _tell(run_quietly(lambda house: store.cancel(house.database, video)), "is cancelled", as_json)


def _tell(video: Video, words: str, as_json: bool) -> None:
    from service.web.models import VideoView

    if for_people(as_json):
        print(f"{video.id} {words}")
    else:
        print_json([VideoView.of(video).model_dump(mode="json")])
