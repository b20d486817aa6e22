"""TLS towards PostgreSQL, with libpq's meanings: https://www.postgresql.org/docs/current/libpq-ssl.html"""

from __future__ import annotations

import ssl

from asyncpg import connect_utils


class _Upgrade(connect_utils.TLSUpgradeProto):
    """What asks the server for TLS; silent when the connect is cancelled before it waits for the answer.

    asyncpg keeps that a connection was lost for the task that waits. Without one, asyncio would report an error that
    was "never retrieved" for each connect that was given up early: when a browser closes a page, or at shutdown.
    """

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if not self.on_data.cancelled():
            self.on_data.exception()  # counts as retrieved; a task that waits gets it all the same


connect_utils.TLSUpgradeProto = _Upgrade  # type: ignore[misc]  # no parameter of asyncpg's leads there


def context(mode: str, root: str | None, certificate: str | None, key: str | None) -> ssl.SSLContext:
    """The context for a mode that insists on TLS: require, verify-ca or verify-full.

    `require` encrypts and verifies nothing, unless there is a root certificate to verify with. `root` is a
    file, or `system`: the operating system's certificates, and the host's name verified too. Raises OSError.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = mode == "verify-full" or root == "system"
    if root and root != "system":
        context.load_verify_locations(cafile=root)
    elif mode != "require" or root:
        context.load_default_certs()
    else:
        context.verify_mode = ssl.CERT_NONE
    if certificate:
        context.load_cert_chain(certificate, key)
    return context
