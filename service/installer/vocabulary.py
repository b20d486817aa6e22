"""The names and words by which apps call what Taxiway calls prompt, image, queued, ... Pure."""

from __future__ import annotations

import re

# By key of a mapping: names that are the same without case and underscores. These are safe to decide alone.
SAME: dict[str, tuple[str, ...]] = {
    "prompt": ("prompt",),
    "image": ("imageurl",),
    "model": ("model",),
    "ratio": ("ratio",),
    "duration": ("duration",),
    "max_credits": ("maxcredits",),
    "user_id": ("userid",),
    "created_at": ("createdat",),
    "status": ("status",),
    "runway_video_id": ("runwayvideoid",),
    "error_message": ("errormessage",),
    "video_url": ("videourl",),
    "progress": ("progress",),
    "updated_at": ("updatedat",),
}
# Names that look alike, the likeliest first. These are proposed, and asked for.
ALIKE: dict[str, tuple[str, ...]] = {
    "prompt": ("prompttext", "textprompt", "videoprompt", "userprompt", "description", "text"),
    "image": (
        "image", "originalimageurl", "originalimage", "sourceimageurl", "sourceimage", "inputimageurl", "inputimage",
        "promptimage", "promptimageurl", "firstframe", "firstframeurl", "startimage", "startimageurl", "startframe",
        "imagepath", "imageuri", "imagesrc", "referenceimage", "referenceimageurl", "photo", "photourl", "picture",
        "pictureurl",
    ),
    "model": ("modelid", "modelname", "runwaymodel"),
    "ratio": ("aspectratio", "videoratio", "resolution", "size"),
    "duration": ("durationseconds", "durationsecs", "seconds", "videoduration", "length", "videolength"),
    "input": ("input", "runwayinput", "params", "parameters", "inputparams", "generationparams", "requestbody"),
    "created_at": ("created", "insertedat", "createdon", "createdate", "datecreated", "requestedat"),
    "status": ("state", "videostatus", "jobstatus", "generationstatus"),
    "runway_video_id": (
        "runwaytaskid", "runwayid", "runwayjobid", "taskid", "generationid", "jobid", "externalid", "providerid",
        "providertaskid", "externaltaskid",
    ),
    "error_message": ("error", "errortext", "errormsg", "failurereason", "failuremessage", "lasterror", "errordetail"),
    "video_url": (
        "outputurl", "resulturl", "output", "outputvideo", "outputvideourl", "generatedvideourl", "resultvideourl",
        "video", "videofile", "fileurl", "mediaurl", "url",
    ),
    "updated_at": ("updated", "modifiedat", "lastmodified", "updatedon", "lastupdated"),
}  # fmt: skip
# An image that is made from the video, or beside it, is none that the video is made of.
RESULT_IMAGE = re.compile(r"thumb|poster|preview|output|result|generated|avatar|cover")
PROVIDERS = ("provider", "videoprovider", "vendor", "engine", "generator", "aiprovider")
DELETED = ("deletedat", "archivedat", "removedat", "isdeleted", "deleted", "isarchived")

# Words by status, the likeliest first.
WORDS: dict[str, tuple[str, ...]] = {
    "queued": ("queued", "pending", "waiting", "enqueued", "inqueue", "new", "created", "requested", "scheduled"),
    "processing": (
        "processing", "inprogress", "running", "generating", "rendering", "working", "started", "active", "submitted",
    ),
    "completed": ("completed", "complete", "succeeded", "success", "successful", "done", "finished", "ready"),
    "failed": ("failed", "failure", "error", "errored"),
    "cancelled": ("cancelled", "canceled", "aborted"),
    "cancel": ("cancelling", "canceling", "cancelrequested", "cancelpending"),
}  # fmt: skip


def bare(name: str) -> str:
    """A name or word without case, underscores, blanks and hyphens."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def role_of(word: str) -> str | None:
    """Which status a word of the app's most likely means."""
    return next((role for role, known in WORDS.items() if bare(word) in known), None)


def best(role: str, words: list[str]) -> str | None:
    """Of the app's words, the likeliest for a status."""
    ranked = [(WORDS[role].index(bare(word)), word) for word in words if bare(word) in WORDS[role]]
    return min(ranked)[1] if ranked else None


def literals(definition: str) -> list[str]:
    """The words that a CHECK of one column lists; none if it says something else than `is one of`."""
    if re.search(r"~|<>|!=|\bLIKE\b|\bNOT\b(?! VALID)", definition, re.IGNORECASE):
        return []
    return [found.replace("''", "'") for found in re.findall(r"'((?:[^']|'')*)'", definition)]
