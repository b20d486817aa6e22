"""A PostgreSQL URL as Heroku, Supabase, Neon, Railway and Render hand it out, made fit for the driver.

`databases` silently ignores most of a URL's query (`sslmode=require` connects in plain text), and asyncpg
hands the rest to the server, which refuses it. So every key is honoured here, dropped with a note, or refused
by name. The meanings are libpq's: https://www.postgresql.org/docs/current/libpq-connect.html
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import quote, unquote

from service.errors import BadSettings
from service.store import tls

DEFAULT_PORT = 5432
MOST = 65_535
POOLER_PORTS = (6432, 6543)  # PgBouncer's own; Supabase's transaction mode (its session mode has 5432)
POOLER_HOST = re.compile(r"-pooler\.|pgbouncer")  # Neon's; Railway's, and many a home-made one
POOLER_TAKES = {"application_name", "client_encoding", "datestyle", "timezone", "options"}

SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
SSL_SWITCH = {"true": "require", "1": "require", "false": "disable", "0": "disable"}
SESSION_ATTRIBUTES = ("any", "primary", "standby", "prefer-standby", "read-write", "read-only")
SERVER_SETTINGS = ("application_name", "search_path", "statement_timeout", "lock_timeout",
                   "idle_in_transaction_session_timeout")  # fmt: skip
ROUTING = ("endpoint=", "project=", "reference=")  # what Neon's and Supabase's proxies read

DROPPED = {
    **dict.fromkeys(
        ("keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout"),
        "the operating system's own setting applies",
    ),
    **dict.fromkeys(("pool_timeout", "socket_timeout"), "it is for Prisma's own pool"),
    **dict.fromkeys(("gssencmode", "sslcompression"), "the driver does neither"),
    "uselibpqcompat": "sslmode has libpq's meaning here",
    "supa": "it is a mark left by Vercel's integration",
}


@dataclass(frozen=True)
class Target:
    """Where and how to connect: `databases.Database(dsn, **options)`, or `asyncpg.connect(**options)`.

    dsn: for `databases`, people and logs: without the password. options: asyncpg's keywords, among them host,
    port, user, password, database, ssl. pooler: no session lasts: no prepared statements, no LISTEN, no SET.
    pool_limit: the most connections that the URL allows. notes: what was dropped and why, without secrets.
    """

    dsn: str
    options: dict[str, Any] = field(repr=False)
    pooler: bool = False
    pool_limit: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        """The host and port, or the folder of the socket, in words: an error of the network may not name it."""
        host = str(self.options["host"])
        return host if host.startswith("/") else f"{host} port {self.options['port']}"


def normalise(url: str, *, pooler: Literal["auto", "yes", "no"] = "auto") -> Target:
    """Read a PostgreSQL URL. Raises BadSettings with every complaint; none of them repeats a secret."""
    reader = _Reader(_split(url.strip()))
    options = _place(reader)
    pooled = _pooled(reader, options, pooler)
    options["ssl"] = _tls(reader, socket=str(options.get("host")).startswith("/"))
    options |= {"statement_cache_size": 0} if pooled else {}
    if settings := _server_settings(reader, pooled):
        options["server_settings"] = settings
    if attributes := reader.choice("target_session_attrs", SESSION_ATTRIBUTES):
        options["target_session_attrs"] = attributes
    if seconds := reader.number("connect_timeout", 0):  # 0 is libpq's word for no limit of its own
        options["timeout"] = seconds
    limit = reader.number("connection_limit", 1)
    reader.drop_or_refuse_the_rest()
    if reader.complaints:
        raise _bad(*reader.complaints)
    return Target(_dsn(options), options, pooled, limit, tuple(reader.notes))


class _Reader:
    """The keys of one URL, taken one after the other, and what there is to say about them."""

    def __init__(self, keys: dict[str, str]) -> None:
        self.left = keys
        self.complaints: list[str] = []
        self.notes: list[str] = []

    def take(self, key: str) -> str | None:
        return self.left.pop(key, None) or None

    def choice(self, key: str, known: Sequence[str]) -> str | None:
        value = self.take(key)
        if value is None or value in known:
            return value
        self.complaints.append(f"has {key}={value[:40]}: it must be one of {', '.join(known)}")
        return None

    def number(self, key: str, least: int) -> int | None:
        value = self.take(key)
        if value is None:
            return None
        if re.fullmatch("[0-9]{1,5}", value) and least <= int(value) <= MOST:
            return int(value)
        # The value is not repeated: without a host, what stands where the port should be is the password.
        self.complaints.append(f"has a malformed {key}: it must be a whole number from {least} to {MOST}")
        return None

    def drop_or_refuse_the_rest(self) -> None:
        for key in self.left:
            if key in DROPPED:
                self.notes.append(f"{key} is dropped: {DROPPED[key]}")
            else:
                self.complaints.append(f"has the unknown key {key[:40]!r}: remove it, or correct its name")


def _split(url: str) -> dict[str, str]:
    """The keys of the URL: those that its body stands for, and over them those of its query, as in libpq."""
    scheme, mark, rest = url.partition("://")
    if not mark or not re.fullmatch(r"postgres(ql)?(\+\w+)?", scheme, re.IGNORECASE):
        raise _bad("must start with postgresql:// or postgres://: copy the URL whole, and alone")
    body, _, query = rest.partition("?")
    authority, _, database = body.partition("/")
    if "@" in database + query:
        raise _bad("has an @ after its host: in a password / is %2F, ? is %3F and @ is %40")
    userinfo, _, place = authority.rpartition("@")
    user, _, password = userinfo.partition(":")
    found = re.fullmatch(r"(\[[^\[\]]*\]|[^:\[\]]*)(?::(.*))?", place)
    if found is None:
        raise _bad("has a malformed host: it must be one name or address, with one :port at most")
    host, port = found[1].strip("[]"), found[2] or ""
    keys = {"user": user, "password": password, "host": host, "port": port, "dbname": database}
    keys |= {key: value for key, _, value in (pair.partition("=") for pair in query.split("&") if pair)}
    try:
        keys = {unquote(key, errors="strict"): unquote(value, errors="strict") for key, value in keys.items()}
    except UnicodeDecodeError:
        raise _bad("has a percent-encoding that is not UTF-8: encode it again") from None
    if any("\0" in part for pair in keys.items() for part in pair):
        raise _bad("has a NUL character (%00): remove it")
    return keys


def _bad(*complaints: str) -> BadSettings:
    return BadSettings([f"DATABASE_URL {complaint}" for complaint in complaints])


def _place(reader: _Reader) -> dict[str, Any]:
    """Host, port, user, password and database, as asyncpg takes them."""
    found = {"host": reader.take("host"), "port": reader.number("port", 1) or DEFAULT_PORT}
    found |= {
        "user": reader.take("user"),
        "password": reader.take("password"),
        "database": reader.take("dbname"),
    }
    if not found["host"]:
        reader.complaints.append("names no host: give one, or ?host=/directory for a socket")
    elif "," in str(found["host"]):
        reader.complaints.append("names several hosts: give the one that takes writes")
    elif not re.fullmatch(r"/.*|[\w.:%-]+", str(found["host"])):
        reader.complaints.append("names a malformed host: give its name, its address, or a socket's directory")
    if not found["database"]:
        reader.complaints.append("names no database: add /name after the host")
    if "[YOUR-PASSWORD]" in str(found["password"]):
        reader.complaints.append("still has the placeholder [YOUR-PASSWORD]: put the password in its place")
    return {key: value for key, value in found.items() if value is not None}


def _pooled(reader: _Reader, place: dict[str, Any], declared: str) -> bool:
    marked = reader.choice("pgbouncer", ("true", "false"))
    if declared != "auto":
        return declared == "yes"
    if marked:
        return marked == "true"
    return place["port"] in POOLER_PORTS or POOLER_HOST.search(place.get("host", "")) is not None


def _tls(reader: _Reader, *, socket: bool) -> ssl.SSLContext | str | bool:
    if switch := reader.take("ssl"):
        reader.left.setdefault("sslmode", SSL_SWITCH.get(switch, switch))
    mode = reader.choice("sslmode", SSL_MODES) or "prefer"
    root, certificate, key = (reader.take(name) for name in ("sslrootcert", "sslcert", "sslkey"))
    encrypted = mode in SSL_MODES[3:]
    if reader.choice("channel_binding", ("disable", "prefer", "require")) == "require":
        if encrypted:
            reader.notes.append("channel_binding is dropped, the driver has none: sslmode=verify-full protects as well")
        else:
            reader.complaints.append("has channel_binding=require without TLS: add sslmode=require")
    if socket or mode == "disable":
        return False
    if not encrypted:
        if root or certificate or key:
            reader.complaints.append(f"has certificates that sslmode={mode} does not use: use require or verify-full")
        return mode
    try:
        return tls.context(mode, root, certificate, key)
    except (OSError, ValueError) as exc:  # ssl.SSLError is an OSError
        reader.complaints.append(
            f"has certificates that cannot be loaded ({exc}): correct sslrootcert, sslcert, sslkey"
        )
        return False


def _server_settings(reader: _Reader, pooled: bool) -> dict[str, str]:
    """What goes to the server when a connection starts; a pooler refuses most of it."""
    settings = {name: value for name in SERVER_SETTINGS if (value := reader.take(name))}
    settings |= _from_options(reader)
    if schema := reader.take("schema"):
        settings["search_path"] = '"' + schema.replace('"', '""') + '"'
    if pooled and settings.get("search_path") in ("public", '"public"'):
        del settings["search_path"]
        reader.notes.append("schema is dropped: public is where PostgreSQL looks anyway")
    for name in sorted(settings.keys() - POOLER_TAKES) if pooled else ():
        advice = f"remove it and run `ALTER ROLE … SET {name} = …` once, or use the URL of the database itself"
        reader.complaints.append(f"sets {name}, which a transaction pooler refuses: {advice}")
    return settings


def _from_options(reader: _Reader) -> dict[str, str]:
    """libpq's `options`: `-c name=value`, `--name=value`, and the words that a vendor's proxy routes by."""
    words = (reader.take("options") or "").replace("-c ", "--").split()
    routes = [word for word in words if word.startswith(ROUTING)]
    settings = {"options": " ".join(routes)} if routes else {}
    for word in words:
        setting = re.fullmatch(r"(?:--|-c)([a-z_][a-z0-9_.]*)=(.+)", word, re.IGNORECASE)
        if setting:
            settings[setting[1].lower()] = setting[2]
        elif word not in routes:
            reader.complaints.append(f"has options with {word[:40]!r}: write them as -c%20name=value")
    return settings


def _dsn(options: dict[str, Any]) -> str:
    user = f"{quote(options['user'], safe='')}@" if "user" in options else ""
    host, port, database = options["host"], options["port"], quote(options["database"], safe="")
    if host.startswith("/"):
        return f"postgresql://{user}/{database}?host={quote(host, safe='/')}&port={port}"
    return f"postgresql://{user}{f'[{host}]' if ':' in host else host}:{port}/{database}"
