"""Files that a client hands to Runway first: `POST /v1/uploads` names a form, and the form takes the bytes.

Source: resources/uploads.py of Runway's SDK; sizes, the 24 hours and the form's 204 as documented or captured. The form
is Amazon's at Runway, and the simulator's own here. What Runway says of an upload that is gone was never seen: here it
is what it says of any file that it cannot fetch.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from email import message_from_bytes
from random import Random

from service.simulator.options import DAY_SECONDS
from service.simulator.rules import Field, Limits, choice, strict, text

SCHEME = "runway://"
SIZES = (512, 200 * 1024 * 1024)  # bytes, the least and the most
FETCH_FAILED = "Failed to fetch asset. The URL may be incorrect or the server hosting the asset may be down."
BODY = strict({"filename": Field(text(Limits(3, 255)), True), "type": Field(choice("ephemeral"), True)})


@dataclass
class Upload:
    """One form. `created` in Unix seconds; `size` in bytes once a file has come."""

    id: str
    created: float
    size: int | None = None


class Uploads:
    """The forms of an account, and what has come through them."""

    def __init__(self, clock: Callable[[], float], random: Random) -> None:
        self._clock, self._random = clock, random
        self.forms: dict[str, Upload] = {}

    def open(self) -> Upload:
        """A form for one file, which works for 24 hours; those that have ended are forgotten."""
        now = self._clock()
        self.forms = {form.id: form for form in self.forms.values() if form.created > now - DAY_SECONDS}
        form = Upload(str(uuid.UUID(int=self._random.getrandbits(128), version=4)), now)
        self.forms[form.id] = form
        return form

    def receive(self, form_id: str, content: bytes) -> bool:
        """Take a file for a form that is open and empty; False where there is no such form, or for a wrong size."""
        form = self._alive(form_id)
        if form is None or form.size is not None or not SIZES[0] <= len(content) <= SIZES[1]:
            return False
        form.size = len(content)
        return True

    def has(self, uri: str) -> bool:
        """True for the URI of a file that came in the last 24 hours."""
        form = self._alive(uri.removeprefix(SCHEME))
        return form is not None and form.size is not None

    def _alive(self, form_id: str) -> Upload | None:
        form = self.forms.get(form_id)
        return form if form and form.created > self._clock() - DAY_SECONDS else None


def form_fields(content_type: str, raw: bytes) -> dict[str, bytes]:
    """The parts of a multipart form, by name. Python's own parser: no dependency for one endpoint."""
    message = message_from_bytes(b"Content-Type: " + content_type.encode("latin-1") + b"\r\n\r\n" + raw)
    parts = [part for part in message.walk() if not part.is_multipart()]
    named = {str(part.get_param("name", header="content-disposition")): part.get_payload(decode=True) for part in parts}
    return {name: content for name, content in named.items() if isinstance(content, bytes)}
