"""Which files a task makes: their kind, number and shape, from the operation and the body."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

MEDIA_TYPES = {
    "mp4": "video/mp4",
    "mov": "video/quicktime",
    "png": "image/png",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "svg": "image/svg+xml",
    "mp3": "audio/mpeg",
    "wav": "audio/wav",
    "flac": "audio/flac",
    "ogg": "audio/ogg",
    "zip": "application/zip",
}
IMAGES = frozenset(
    {
        "text_to_image", "image_upscale", "generate/image", "recipes/ad_localization",
        "recipes/marketing_stock_image", "recipes/product_campaign_image",
    }
)  # fmt: skip
AUDIO = frozenset(
    {
        "sound_effect", "text_to_speech", "speech_to_speech", "voice_dubbing", "voice_isolation", "video_to_audio",
        "generate/audio",
    }
)  # fmt: skip
USUAL_COUNTS = {"recipes/marketing_stock_image": 4, "recipes/product_campaign_image": 4}
USUAL_RATIO = "1280:720"


def files_of(operation: str, body: Mapping[str, Any]) -> list[str]:
    """The extension of each file that a valid body makes, in the order of the task's `output`."""
    asked = str(body.get("outputFormat") or body.get("format") or "")
    if operation in IMAGES:
        return [_image(str(body.get("model", "")), asked)] * _count(operation, body)
    if operation in AUDIO:
        return [{"wav": "wav", "flac": "flac", "ogg_opus": "ogg"}.get(asked, "mp3")] * int(body.get("numVariants", 1))
    if "sequence" in asked:
        return ["zip"]
    return ["mov" if "prores" in asked or "master" in asked or asked == "mov" else "mp4"]


def ratio_of(body: Mapping[str, Any]) -> str:
    """The proportion of the output, as `width:height`."""
    asked = str(body.get("ratio", ""))
    return asked if re.fullmatch(r"[1-9]\d*:[1-9]\d*", asked) else USUAL_RATIO


def _image(model: str, asked: str) -> str:
    if "vector" in model:
        return "svg"
    return asked or ("webp" if model == "recraft_v4_1_flash" else "png")


def _count(operation: str, body: Mapping[str, Any]) -> int:
    inner = body.get("input", body)
    return max(1, int(inner.get("outputCount", USUAL_COUNTS.get(operation, 1))))
