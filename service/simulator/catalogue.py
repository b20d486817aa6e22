"""The models that the simulator serves: fields, limits and prices, as data.

Source: types/*_create_params.py of Runway's SDK 5.24 for fields, its OpenAPI for numbers, its price page.
"""

from __future__ import annotations

from typing import Any

from service.simulator.rules import (
    Field,
    Issue,
    Model,
    choice,
    integer,
    not_an_option,
    prompt_image,
    strict,
    text,
    wrong_type,
)

LARGEST_SEED = 4_294_967_295
WIDE_AND_TALL = ("1280:720", "720:1280")
SIX_RATIOS = (*WIDE_AND_TALL, "1104:832", "832:1104", "960:960", "1584:672")
TEN_BIT_FORMATS = (
    "hdr10",
    "hlg",
    "sdr_rec709_10bit",
    "hdr_pq_12bit_master",
    "hdr_prores",
    "hdr_png_sequence",
    "hdr_exr_sequence",
    "hdr_exr_acescg_sequence_1_3",
    "hdr_exr_acescg_sequence_2_0",
)
SURCHARGES = {"prores": 5, "png_sequence": 5} | dict.fromkeys(TEN_BIT_FORMATS, 20)  # credits per second

MODERATION = Field(strict({"publicFigureThreshold": Field(choice("auto", "low"))}))
PROMPT = text(1, 1_000)
SECONDS = integer(2, 10)
COMMON = {"seed": Field(integer(0, LARGEST_SEED)), "contentModeration": MODERATION}
FORMATS = {
    "outputFormat": Field(choice("mp4", *SURCHARGES)),
    "proresProfile": Field(choice("422", "422 HQ", "4444")),
}

MODELS = {
    "gen4.5": Model(
        credits_per_second=12,
        default_duration=5,
        operations={
            "image_to_video": {
                "model": Field(choice("gen4.5"), True),
                "promptText": Field(PROMPT, True),
                "promptImage": Field(prompt_image, True),
                "ratio": Field(choice(*SIX_RATIOS), True),
                "duration": Field(SECONDS, True),
                **COMMON,
                **FORMATS,
            },
            "text_to_video": {
                "model": Field(choice("gen4.5"), True),
                "promptText": Field(PROMPT, True),
                "ratio": Field(choice(*WIDE_AND_TALL), True),
                "duration": Field(SECONDS, True),
                **COMMON,
                **FORMATS,
            },
        },
    ),
    "gen4_turbo": Model(
        credits_per_second=5,
        default_duration=10,  # Runway publishes none; the longest is the dearest
        operations={
            "image_to_video": {
                "model": Field(choice("gen4_turbo"), True),
                "promptText": Field(PROMPT),
                "promptImage": Field(prompt_image, True),
                "ratio": Field(choice(*SIX_RATIOS), True),
                "duration": Field(SECONDS),
                **COMMON,
            },
        },
    ),
}


def models_of(operation: str) -> tuple[str, ...]:
    """The names of the models that an endpoint serves."""
    return tuple(name for name, model in MODELS.items() if operation in model.operations)


def validate(operation: str, body: object) -> list[Issue]:
    """Everything wrong with a body, in zod's words; empty when Runway would take it."""
    if not isinstance(body, dict):
        return [wrong_type("object", body, ())]
    name, allowed = body.get("model"), models_of(operation)
    if not isinstance(name, str):
        missing = strict({"model": Field(text(0, 1_000), True)})({"model": name} if "model" in body else {}, ())
        return [*missing, _no_such_model()]
    if name not in allowed:
        return [not_an_option(allowed, ("model",))]
    return list(strict(MODELS[name].operations[operation])(body, ()))


def _no_such_model() -> Issue:
    head: Issue = {"code": "invalid_union", "errors": [], "note": "No matching discriminator"}
    return {**head, "discriminator": "model", "path": ["model"], "message": "Invalid input"}


def price(body: dict[str, Any]) -> int:
    """Credits that a valid body costs."""
    model = MODELS[body["model"]]
    rate = model.credits_per_second + SURCHARGES.get(body.get("outputFormat", "mp4"), 0)
    return int(body.get("duration", model.default_duration)) * rate
