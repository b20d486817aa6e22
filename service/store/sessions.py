"""Sessions of the page that ended before their time. A signed cookie needs no row until its user logs out."""

from __future__ import annotations

from service.store.database import Database

# The session ends, here and in every other process; what no cookie can say any more is forgotten.
_END = """
WITH forgotten AS (DELETE FROM taxiway.sessions WHERE forget_at < taxiway.now())
INSERT INTO taxiway.sessions (digest, forget_at) VALUES ($1, taxiway.now() + make_interval(secs => $2))
ON CONFLICT (digest) DO NOTHING
"""
_HAS_ENDED = "SELECT EXISTS (SELECT FROM taxiway.sessions WHERE digest = $1)"


async def end(database: Database, digest: bytes, seconds: float) -> None:
    """End a session, by the SHA-256 of its nonce. `seconds`: the most that its cookie would still have been worth."""
    await database.execute(_END, digest, seconds)


async def has_ended(database: Database, digest: bytes) -> bool:
    """Whether its user has logged out."""
    return bool(await database.fetchval(_HAS_ENDED, digest))
