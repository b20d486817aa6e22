"""Bodies for a schema of the catalogue, mostly right, some wrong in one place, from a seeded source of chance."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any

Schema = Mapping[str, Any]
URIS = {
    "image-uri": ("https://a.example.com/x.png", "runway://abcdefgh", "data:image/png;base64,iVBORw0KGgo="),
    "video-uri": ("https://a.example.com/x.mp4", "data:video/mp4;base64,AAAA"),
    "audio-uri": ("https://a.example.com/x.mp3", "data:audio/wav;base64,AAAA"),
}
WRONG: tuple[Any, ...] = (None, 5, -1, 0, "x", "", [], {}, True, 2.5, 3.0, "auto", 10**6, [1], "https://x")
MOST_GENERATED = 30  # characters and items beyond the least; a limit above is not tried


class Bodies:
    """Makes bodies; the same seed makes the same."""

    def __init__(self, seed: int, wrong: float = 0.01) -> None:
        self.random, self.wrong = Random(seed), wrong  # test data

    def of(self, schema: Schema) -> Any:
        """A value for this schema; wrong with the probability that was given, at each place."""
        if self.random.random() < self.wrong:
            return self.random.choice(WRONG)
        if "anyOf" in schema:
            return self.of(self.random.choice(schema["anyOf"]))
        if "enum" in schema:
            return self.random.choice(schema["enum"])
        if "const" in schema:
            return schema["const"]
        make = {
            "boolean": self._boolean, "integer": self._integer, "number": self._number, "string": self._string,
            "array": self._array, "object": self._object,
        }.get(str(schema.get("type")))  # fmt: skip
        return make(schema) if make else self.random.choice((1, "x", {}))

    def _boolean(self, _schema: Schema) -> bool:
        return self.random.random() < 0.5

    def _integer(self, schema: Schema) -> int:
        least = schema.get("minimum", schema.get("exclusiveMinimum", 0))
        most = schema.get("maximum", least + 20)
        beyond = self.random.choice((least - 1, most + 1)) if self.random.random() < self.wrong else least
        return self.random.choice((beyond, most, self.random.randint(least, most)))

    def _number(self, schema: Schema) -> float:
        least = schema.get("minimum", 0)
        most = schema.get("maximum", least + 20)
        return self.random.choice((least, most, float(int(most)), self.random.uniform(least, most)))

    def _string(self, schema: Schema) -> str:
        if "format" in schema:
            return self.random.choice(URIS[schema["format"]])
        if "pattern" in schema:
            return self.random.choice(("abc", "a_b", "X12", "a" * 16))
        return "x" * self._length(schema, "minLength", "maxLength")

    def _array(self, schema: Schema) -> list[Any]:
        return [self.of(schema.get("items", {})) for _ in range(self._length(schema, "minItems", "maxItems", 3))]

    def _length(self, schema: Schema, least: str, most: str, beyond: int = MOST_GENERATED) -> int:
        fewest = schema.get(least, 0)
        largest = min(schema.get(most, fewest + beyond), fewest + beyond)
        if most in schema and schema[most] < 2 * MOST_GENERATED and self.random.random() < self.wrong:
            return int(schema[most]) + 1
        return self.random.randint(fewest, largest)

    def _object(self, schema: Schema) -> dict[str, Any]:
        if "properties" not in schema:
            return {
                f"k{number}": self.of(schema["additionalProperties"]) for number in range(self.random.randint(0, 2))
            }
        found = {
            name: self.of(field)
            for name, field in schema["properties"].items()
            if self.random.random() < (0.99 if name in schema.get("required", ()) else 0.4)
        }
        return found | ({"another": 1} if self.random.random() < self.wrong else {})
