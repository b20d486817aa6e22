"""What a task costs, in credits, by the tables that others have published (Runway's own, August to October 2026).

A model without a published price costs UNPUBLISHED: a stand-in, so that nothing is ever free. Where Runway probes the
length of a file, the URL says it here: `https://example.com/a.mp4?seconds=12`; a file that says nothing has 5 seconds.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

from service.simulator.catalogue import Medium, body_name, media, model_of

UNPUBLISHED = 20
MEDIA_SECONDS = 5.0
TEN_BIT = (
    "hdr10", "hlg", "sdr_rec709_10bit", "hdr_pq_12bit_master", "hdr_prores", "hdr_png_sequence", "hdr_exr_sequence",
    "hdr_exr_acescg_sequence_1_3", "hdr_exr_acescg_sequence_2_0",
)  # fmt: skip
SURCHARGES = {"prores": 5, "png_sequence": 5} | dict.fromkeys(TEN_BIT, 20)  # credits per second
TIERS = ((450_000, "480p"), (950_000, "720p"), (2_100_000, "1080p"), (9_000_000, "4k"))  # most pixels of each


class Order:
    """A valid body, as the prices read it."""

    def __init__(self, body: Mapping[str, Any], files: list[Medium]) -> None:
        self.body, self.files = body, files

    def get(self, name: str, default: Any) -> Any:
        """A field, or what Runway takes where it is missing."""
        return self.body.get(name, default)

    def seconds(self, missing: float, longest: float | None = None) -> float:
        """The length of the output: of all its shots, of `duration`, or `longest` for "auto"."""
        shots = self.body.get("providerSettings", {}).get("multiPrompt", [])
        duration = sum(shot["duration"] for shot in shots) or self.body.get("duration", missing)
        return float(longest or missing) if duration == "auto" else float(duration)

    def input_seconds(self, *names: str) -> float:
        """The length of the files in these fields, together."""
        return sum(media_seconds(file.uri) for file in self.files if file.path[0] in names)

    def count(self, *names: str) -> int:
        """How many items these fields have, together; a field that is no list is one."""
        found = [self.body[name] for name in names if name in self.body]
        return sum(len(value) if isinstance(value, list) else 1 for value in found)

    def images(self) -> int:
        """How many images are made."""
        return int(self.body.get("outputCount", 1))

    def tier(self, default: str = "720p") -> str:
        """Runway's class of resolution: of `resolution`, or of the pixels of `ratio`."""
        if "resolution" in self.body:
            return str(self.body["resolution"]).lower()
        pixels = pixels_of(self.body.get("ratio", ""))
        return next((name for most, name in TIERS if pixels <= most), "4k") if pixels else default


Price = Callable[[Order], float]


def price(operation: str, body: Mapping[str, Any]) -> int:
    """Whole credits that a valid body costs, at least 1."""
    model = model_of(operation, body_name(operation, body))
    rule = PRICES.get(f"{operation} {model}") or PRICES.get(model)
    return max(1, math.ceil(rule(Order(body.get("input", body), media(operation, body))))) if rule else UNPUBLISHED


def media_seconds(uri: str) -> float:
    """The simulated length of a file."""
    if not uri.startswith("https:"):
        return MEDIA_SECONDS
    said = parse_qs(urlsplit(uri).query).get("seconds", [""])[0]
    return float(said) if re.fullmatch(r"\d+(\.\d+)?", said) else MEDIA_SECONDS


def pixels_of(ratio: object) -> int:
    """Width times height of a ratio in pixels, 0 for any other."""
    match = re.fullmatch(r"(\d{3,5}):(\d{3,5})", str(ratio))
    return int(match[1]) * int(match[2]) if match else 0


def _per_second(rate: float, missing: float, *, least: float = 0) -> Price:
    return lambda order: max(least, rate * order.seconds(missing))


def _by_audio(silent: float, audio: float, missing: float, *, usual: bool) -> Price:
    return lambda order: (audio if order.get("audio", usual) else silent) * order.seconds(missing)


def _by_tier(rates: Mapping[str, float], missing: float, *, start_frame: int = 0) -> Price:
    return lambda order: rates[order.tier()] * order.seconds(missing) + start_frame


def _per_image(rate: float) -> Price:
    return lambda order: rate * order.images()


def _edited(order: Order) -> float:
    seconds = order.input_seconds("videoUri")
    return max(56, 28 * seconds) + SURCHARGES.get(order.get("outputFormat", "mp4"), 0) * seconds


def _gen45(order: Order) -> float:
    return (12 + SURCHARGES.get(order.get("outputFormat", "mp4"), 0)) * order.seconds(5)


def _hailuo3(order: Order) -> float:
    rate = {"768p": 10, "2k": 15}[str(order.get("resolution", "768p")).lower()]
    references = order.count("references") or order.count("promptImage")
    return rate * (order.seconds(5) + order.input_seconds("referenceVideos")) + 2 * references


def _seedance25(order: Order) -> float:
    rate = {"480p": 20, "720p": 30, "1080p": 68}[order.tier()]
    guided = order.input_seconds("promptVideo", "referenceVideos")
    return max(80, rate * order.seconds(5, 30) + rate // 2 * guided)


def _grok_image(order: Order) -> float:
    each = {"low": 4, "medium": 6}[order.get("quality", "medium")]
    large = order.get("ratio", "") == "auto_2k" or pixels_of(order.get("ratio", "")) > 3_000_000
    return (each + 2 * large) * order.images() + order.count("referenceImages")


def _ideogram45(order: Order) -> float:
    usual = "medium" if order.count("referenceImages") and not order.get("preciseEdit", False) else "high"
    rate = {"very_low": 1, "low": 4, "medium": 8, "high": 25}[order.get("quality", usual)]
    return rate * order.images()


def _magnific(order: Order) -> float:
    frame = {"720p": 0.7, "1k": 0.7, "2k": 0.9, "4k": 1.2}[order.get("resolution", "2k")]
    return frame * 30 * order.input_seconds("videoUri")


def _product_ad(order: Order) -> float:
    first, more = (216, 40) if order.tier() == "1080p" else (200, 36)
    return first + more * (order.seconds(10) - 4)


SEEDANCE = {"480p": 36, "720p": 36, "1080p": 40, "4k": 150}
PRICES: dict[str, Price] = {
    "gen4_turbo": _per_second(5, 10),
    "gen4.5": _gen45,
    "act_two": lambda order: 5 * order.input_seconds("reference"),
    "aleph2": _edited,
    "veo3.1": _by_audio(20, 40, 8, usual=True),
    "veo3.1_fast": _by_audio(10, 15, 8, usual=True),
    "kling2.5_turbo_pro": _per_second(12, 5),
    "kling3.0_standard": _by_audio(9, 13, 5, usual=False),
    "kling3.0_pro": _by_audio(12, 17, 5, usual=False),
    "kling3.0_4k": _per_second(43, 5),
    "klingO3_standard": _per_second(13, 5),
    "klingO3_pro": _per_second(17, 5),
    "klingO3_4k": _per_second(43, 5),
    "hailuo3": _hailuo3,
    "happyhorse_1_0": _by_tier({"720p": 15, "1080p": 30}, 5),
    "seedance2": lambda order: SEEDANCE[order.tier()] * order.seconds(5, 15),
    "seedance2_fast": lambda order: 29 * order.seconds(5, 15),
    "seedance2_mini": lambda order: max(64, 16 * order.seconds(5, 15)),
    "seedance2_5": _seedance25,
    "gemini_omni_flash": _per_second(10, 10),
    "image_to_video gemini_omni_flash": lambda order: 10 * order.seconds(10) + 1,
    "video_to_video gemini_omni_flash": lambda order: (
        11 * min(10, order.input_seconds("videoUri")) + order.count("references")
    ),
    "grok_imagine_1_5": _by_tier({"480p": 10, "720p": 16, "1080p": 29}, 5, start_frame=1),
    "text_to_video grok_imagine_1_5": lambda order: (
        {"480p": 10, "720p": 16, "1080p": 29}[order.tier()] * order.seconds(5)
        + order.count("references", "referenceAudio")
    ),
    "magnific_video_upscaler_creative": _magnific,
    "magnific_precision_upscaler_v2": _per_image(25),
    "gen4_image": lambda order: 8 if order.tier() == "1080p" else 5,
    "gen4_image_turbo": _per_image(2),
    "gpt_image_2": _per_image(41),
    "gemini_2.5_flash": _per_image(5),
    "gemini_image3_pro": lambda order: (40 if pixels_of(order.get("ratio", "")) > 7_000_000 else 20) * order.images(),
    "muse_image": _per_image(1),
    "seedream5_lite": _per_image(4),
    "seedream5_pro": lambda order: (
        (9 if pixels_of(order.get("ratio", "")) > 2_000_000 or order.get("ratio", "") == "auto_2k" else 5)
        * order.images()
    ),
    "grok_imagine_image_2": _grok_image,
    "bria_fibo_1_5": lambda order: 10 if pixels_of(order.get("ratio", "")) > 2_000_000 else 5,
    "ideogram_4_0": lambda order: {"low": 4, "medium": 7, "high": 11}[order.get("quality", "medium")] * order.images(),
    "ideogram_4_5": _ideogram45,
    "seed_audio": lambda order: max(5, 0.25 * MEDIA_SECONDS),
    "eleven_text_to_sound_v2": lambda order: order.seconds(2),
    "eleven_v3": lambda order: len(order.get("promptText", "")) / 50,
    "eleven_multilingual_v2": lambda order: len(order.get("promptText", "")) / 50,
    "eleven_multilingual_sts_v2": lambda order: order.input_seconds("media") / 3,
    "eleven_voice_dubbing": lambda order: order.input_seconds("audioUri") / 2,
    "eleven_voice_isolation": lambda order: order.input_seconds("audioUri") / 6,
    "gwm1_avatars": lambda order: 2 + 2 * math.ceil((order.input_seconds("speech") or MEDIA_SECONDS) / 6),
    "multi_shot_video": lambda order: (17 if order.tier() == "1080p" else 13) * order.seconds(10),
    "product_ad": _product_ad,
    "product_swap": lambda order: 228 if order.tier() == "1080p" else 212,
    "product_ugc": lambda order: 208 if order.tier() == "1080p" else 192,
    "marketing_stock_image": lambda order: 22 * order.get("outputCount", 4),
    "product_campaign_image": lambda order: 144,
    "ad_localization": lambda order: 21,
}
