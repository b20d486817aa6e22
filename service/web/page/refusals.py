"""What only the page refuses."""

from __future__ import annotations

from service.errors import TaxiwayError


class Forbidden(TaxiwayError):
    """This is not allowed."""

    status = 403
    slug = "forbidden"
