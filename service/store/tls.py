"""TLS towards PostgreSQL, with libpq's meanings: https://www.postgresql.org/docs/current/libpq-ssl.html"""

from __future__ import annotations

import ssl


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
