"""The words that the shell offers when you press Tab. Nothing here asks the database."""

from __future__ import annotations


def models(incomplete: str) -> list[str]:
    """Models of the catalogue that begin so."""
    return [name for name in known_models() if name.startswith(incomplete)]


def models_or_all(incomplete: str) -> list[str]:
    """Models of the catalogue, and `all`, that begin so."""
    return [name for name in ("all", *known_models()) if name.startswith(incomplete)]


def operations(incomplete: str) -> list[str]:
    """Operations of the catalogue that begin so."""
    from service.runway import catalogue

    return [name for name in catalogue.operations() if name.startswith(incomplete)]


def reasons(incomplete: str) -> list[str]:
    """Taxiway's own error codes that begin so; Runway's failureCodes are not a closed list."""
    from service.videos import FailureCode

    return [code for code in sorted(FailureCode) if code.startswith(incomplete)]


def known_models() -> list[str]:
    """Every model of the catalogue, once, in alphabetical order."""
    from service.runway import catalogue

    return sorted({model for operation in catalogue.operations() for model in catalogue.models(operation)})
