"""The database URL: the strings that vendors hand out, and every way to write one wrong."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from asyncpg import connect_utils
from databases import DatabaseURL

from service.errors import BadSettings
from service.store.url import DROPPED, Target, normalise

NEON = "ep-cool-leaf-123456.us-east-2.aws.neon.tech"
NEON_POOLER = "ep-cool-leaf-123456-pooler.us-east-2.aws.neon.tech"
SUPABASE = "aws-0-eu-west-1.pooler.supabase.com"
BASE = "postgresql://u:p@db.example.com/d"


def complaints(url: str) -> list[str]:
    with pytest.raises(BadSettings) as caught:
        normalise(url)
    return caught.value.complaints


def settings(target: Target) -> Any:
    return target.options.get("server_settings")


def tls(target: Target) -> tuple[ssl.VerifyMode, bool]:
    context = target.options["ssl"]
    assert isinstance(context, ssl.SSLContext)
    return context.verify_mode, context.check_hostname


@pytest.mark.parametrize(
    ("url", "place", "pooler", "encrypted"),
    [
        # Heroku
        (
            "postgres://ub12:p0a@ec2-3-8-1-2.compute-1.amazonaws.com:5432/d4k",
            ("ec2-3-8-1-2.compute-1.amazonaws.com", 5432, "ub12", "p0a", "d4k"),
            False,
            False,
        ),
        # Supabase: direct, session mode, transaction mode as for Prisma, transaction mode as Vercel sets it
        (
            "postgresql://postgres:s3@db.abcdefgh.supabase.co:5432/postgres",
            ("db.abcdefgh.supabase.co", 5432, "postgres", "s3", "postgres"),
            False,
            False,
        ),
        (
            f"postgresql://postgres.abcdefgh:s3@{SUPABASE}:5432/postgres",
            (SUPABASE, 5432, "postgres.abcdefgh", "s3", "postgres"),
            False,
            False,
        ),
        (
            f"postgresql://postgres.abcdefgh:s3@{SUPABASE}:6543/postgres?pgbouncer=true&connection_limit=1",
            (SUPABASE, 6543, "postgres.abcdefgh", "s3", "postgres"),
            True,
            False,
        ),
        (
            f"postgres://postgres.abcdefgh:s3@{SUPABASE}:6543/postgres?sslmode=require&supa=base-pooler.x",
            (SUPABASE, 6543, "postgres.abcdefgh", "s3", "postgres"),
            True,
            True,
        ),
        # Neon: direct and pooled
        (
            f"postgresql://neondb_owner:npg_x@{NEON}/neondb?sslmode=require&channel_binding=require",
            (NEON, 5432, "neondb_owner", "npg_x", "neondb"),
            False,
            True,
        ),
        (
            f"postgresql://neondb_owner:npg_x@{NEON_POOLER}/neondb?sslmode=require&channel_binding=require",
            (NEON_POOLER, 5432, "neondb_owner", "npg_x", "neondb"),
            True,
            True,
        ),
        # Railway: inside, outside, through its PgBouncer
        (
            "postgresql://postgres:pw@postgres.railway.internal:5432/railway",
            ("postgres.railway.internal", 5432, "postgres", "pw", "railway"),
            False,
            False,
        ),
        (
            "postgresql://postgres:pw@monorail.proxy.rlwy.net:34567/railway",
            ("monorail.proxy.rlwy.net", 34567, "postgres", "pw", "railway"),
            False,
            False,
        ),
        (
            "postgresql://postgres:pw@pgbouncer.railway.internal:5432/railway",
            ("pgbouncer.railway.internal", 5432, "postgres", "pw", "railway"),
            True,
            False,
        ),
        # Render: inside and outside
        (
            "postgresql://me:pw@dpg-abc123-a/mydb",
            ("dpg-abc123-a", 5432, "me", "pw", "mydb"),
            False,
            False,
        ),
        (
            "postgres://me:pw@dpg-abc123-a.oregon-postgres.render.com/mydb?sslmode=require",
            ("dpg-abc123-a.oregon-postgres.render.com", 5432, "me", "pw", "mydb"),
            False,
            True,
        ),
        # PgBouncer on its own port
        ("postgres://u:p@10.0.0.5:6432/d", ("10.0.0.5", 6432, "u", "p", "d"), True, False),
    ],
)
def test_takes_what_vendors_hand_out(
    url: str, place: tuple[str, int, str, str, str], pooler: bool, encrypted: bool
) -> None:
    target = normalise(url)
    names = ("host", "port", "user", "password", "database")
    assert tuple(target.options[name] for name in names) == place
    assert target.pooler is pooler
    assert target.options.get("statement_cache_size") == (0 if pooler else None)
    assert isinstance(target.options["ssl"], ssl.SSLContext) is encrypted
    assert encrypted or target.options["ssl"] == "prefer"
    assert DatabaseURL(target.dsn).password is None
    assert "server_settings" not in target.options


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("postgres://u%40x:p%3A%2F%40%3F%25@h/d%20b", ("h", 5432, "u@x", "p:/@?%", "d b")),
        ("postgres://u:a@b:c#d@h/d", ("h", 5432, "u", "a@b:c#d", "d")),
        ("postgres://u:100%@h/d", ("h", 5432, "u", "100%", "d")),
        ("postgres://h/d", ("h", 5432, None, None, "d")),
        ("postgres://u@[2001:db8::1]:5433/d", ("2001:db8::1", 5433, "u", None, "d")),
        ("postgresql+asyncpg://u:p@h:5433/d", ("h", 5433, "u", "p", "d")),
        ("PostgreSQL+psycopg2://u:p@h:65535/d", ("h", 65535, "u", "p", "d")),
        (" postgres://u:p@h:1/d\n", ("h", 1, "u", "p", "d")),
        ("postgresql://postgres:@/postgres?host=/tmp/pg", ("/tmp/pg", 5432, "postgres", None, "postgres")),
        ("postgresql://u@%2Fvar%2Frun%2Fpostgresql:5433/d", ("/var/run/postgresql", 5433, "u", None, "d")),
        ("postgresql:///?host=h&port=7&user=u&password=p%26q&dbname=d", ("h", 7, "u", "p&q", "d")),
        ("postgresql://a:b@c:1/e?host=h&port=7&user=u&password=p&dbname=d", ("h", 7, "u", "p", "d")),
    ],
)
def test_reads_the_place(url: str, place: tuple[Any, ...]) -> None:
    target = normalise(url)
    names = ("host", "port", "user", "password", "database")
    assert tuple(target.options.get(name) for name in names) == place
    theirs = DatabaseURL(target.dsn)
    assert (theirs.hostname, theirs.username, theirs.password, theirs.database) == (
        *place[:1],
        place[2],
        None,
        place[4],
    )
    assert theirs.dialect == "postgresql"
    assert theirs.port == (None if place[0].startswith("/") else place[1])


@pytest.mark.parametrize(
    "url",
    [
        BASE,
        f"{BASE}?sslmode=require&connect_timeout=7&application_name=taxiway&schema=app",
        f"{BASE}?sslmode=allow&target_session_attrs=read-write&options=endpoint%3Dep-x",
        f"{BASE}?pgbouncer=true",
        "postgresql:///d?host=/tmp/pg&user=u",
    ],
)
def test_the_driver_takes_every_option(url: str) -> None:
    options = dict(normalise(url).options)
    for name in ("timeout", "statement_cache_size"):
        options.pop(name, None)
    absent = dict.fromkeys(
        ("dsn", "host", "port", "user", "password", "passfile", "database", "ssl", "service", "servicefile",
         "direct_tls", "server_settings", "target_session_attrs", "krbsrvname", "gsslib")
    )  # fmt: skip
    _, parameters = connect_utils._parse_connect_dsn_and_args(**{**absent, **options})  # type: ignore[attr-defined]
    assert (parameters.user, parameters.database) == ("u", "d")


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", "prefer"),
        ("?sslmode=", "prefer"),
        ("?sslmode=prefer", "prefer"),
        ("?sslmode=allow", "allow"),
        ("?sslmode=disable", False),
        ("?ssl=false", False),
        ("?sslmode=require", (ssl.CERT_NONE, False)),
        ("?ssl=true", (ssl.CERT_NONE, False)),
        ("?ssl=require", (ssl.CERT_NONE, False)),
        ("?sslmode=require&sslrootcert=system", (ssl.CERT_REQUIRED, True)),
        ("?sslmode=verify-ca", (ssl.CERT_REQUIRED, False)),
        ("?sslmode=verify-full", (ssl.CERT_REQUIRED, True)),
        ("?ssl=true&sslmode=verify-full", (ssl.CERT_REQUIRED, True)),
    ],
)
def test_tls_asked_for_is_tls_had(query: str, expected: object) -> None:
    target = normalise(BASE + query)
    found = tls(target) if isinstance(target.options["ssl"], ssl.SSLContext) else target.options["ssl"]
    assert found == expected


def test_a_root_certificate_is_verified_with(tmp_path: Path) -> None:
    openssl = shutil.which("openssl") or pytest.skip("makes its certificate with openssl")
    root, key = tmp_path / "root.crt", tmp_path / "root.key"
    subprocess.run(
        [
            openssl,
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-subj",
            "/CN=db",
            "-out",
            root,
            "-keyout",
            key,
        ],
        check=True,
        capture_output=True,
    )
    require = normalise(f"{BASE}?sslmode=require&sslrootcert={root}")
    assert tls(require) == (ssl.CERT_REQUIRED, False)
    assert len(require.options["ssl"].get_ca_certs()) == 1
    full = normalise(f"{BASE}?sslmode=verify-full&sslrootcert={root}&sslcert={root}&sslkey={key}")
    assert tls(full) == (ssl.CERT_REQUIRED, True)


def test_a_certificate_that_cannot_be_used_is_said(tmp_path: Path) -> None:
    (found,) = complaints(f"{BASE}?sslmode=verify-full&sslrootcert={tmp_path / 'none'}")
    assert found.startswith("DATABASE_URL has certificates that cannot be loaded")
    (tmp_path / "no.crt").write_text("not a certificate")
    (found,) = complaints(f"{BASE}?sslmode=verify-full&sslcert={tmp_path / 'no.crt'}")
    assert found.startswith("DATABASE_URL has certificates that cannot be loaded")
    (found,) = complaints(f"{BASE}?sslrootcert={tmp_path / 'none'}")
    assert found.startswith("DATABASE_URL has certificates that sslmode=prefer does not use")


@pytest.mark.anyio
async def test_a_server_without_tls_is_refused_where_tls_was_asked_for() -> None:
    async def no_tls(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(8)  # the request for TLS
        writer.write(b"N")
        writer.close()
        await writer.wait_closed()
        closed.set()

    closed = asyncio.Event()
    async with await asyncio.start_server(no_tls, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        target = normalise(f"postgres://u:p@127.0.0.1:{port}/d?sslmode=require&connect_timeout=5")
        with pytest.raises(ConnectionError, match="rejected SSL upgrade"):
            await asyncpg.connect(**target.options)
        await closed.wait()


def test_a_socket_has_no_tls() -> None:
    assert normalise("postgresql:///d?host=/tmp/pg&sslmode=require").options["ssl"] is False


@pytest.mark.parametrize(
    ("url", "declared", "pooler"),
    [
        (BASE, "auto", False),
        (BASE, "yes", True),
        ("postgres://u:p@h:6543/d", "no", False),
        ("postgres://u:p@h:6543/d?pgbouncer=false", "auto", False),
        ("postgres://u:p@h/d?pgbouncer=true", "auto", True),
        ("postgres://u:p@h/d?pgbouncer=true", "no", False),
    ],
)
def test_a_pooler_is_detected_or_declared(url: str, declared: Any, pooler: bool) -> None:
    assert normalise(url, pooler=declared).pooler is pooler


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("application_name=my%20app", {"application_name": "my app"}),
        ("schema=app", {"search_path": '"app"'}),
        ("schema=a%22b", {"search_path": '"a""b"'}),
        ("search_path=app,public", {"search_path": "app,public"}),
        ("statement_timeout=5000&lock_timeout=100", {"statement_timeout": "5000", "lock_timeout": "100"}),
        ("options=-c%20search_path=app", {"search_path": "app"}),
        ("options=-csearch_path%3Dapp%20--TimeZone%3DUTC", {"search_path": "app", "timezone": "UTC"}),
        ("options=endpoint%3Dep-x", {"options": "endpoint=ep-x"}),
        ("options=reference%3Dabc%20-c%20jit=off", {"options": "reference=abc", "jit": "off"}),
    ],
)
def test_settings_go_to_the_server(query: str, expected: dict[str, str]) -> None:
    assert settings(normalise(f"{BASE}?{query}")) == expected


def test_a_pooler_gets_only_what_it_takes() -> None:
    pooled = f"{BASE}?pgbouncer=true"
    taken = normalise(f"{pooled}&application_name=x&options=endpoint%3Dep-x&schema=public")
    assert settings(taken) == {"application_name": "x", "options": "endpoint=ep-x"}
    assert taken.notes == ("schema is dropped: public is where PostgreSQL looks anyway",)
    assert [found.partition(",")[0] for found in complaints(f"{pooled}&schema=app&statement_timeout=5")] == [
        "DATABASE_URL sets search_path",
        "DATABASE_URL sets statement_timeout",
    ]


def test_what_is_dropped_is_noted() -> None:
    query = "&".join(f"{name}=1" for name in DROPPED)
    target = normalise(f"{BASE}?{query}&channel_binding=prefer")
    assert [note.partition(" ")[0] for note in target.notes] == list(DROPPED)
    bound = normalise(f"{BASE}?sslmode=require&channel_binding=require")
    assert bound.notes[0].startswith("channel_binding is dropped")


def test_other_options() -> None:
    target = normalise(f"{BASE}?connect_timeout=7&connection_limit=1&target_session_attrs=read-write")
    assert (target.options["timeout"], target.options["target_session_attrs"]) == (7, "read-write")
    assert target.pool_limit == 1
    assert "timeout" not in normalise(f"{BASE}?connect_timeout=0").options


@pytest.mark.parametrize(
    ("url", "start"),
    [
        ("", "must start with postgresql://"),
        ("mysql://u:xyzzy@h/d", "must start with postgresql://"),
        ("jdbc:postgresql://u:xyzzy@h/d", "must start with postgresql://"),
        ("prisma+postgres://accelerate/?api_key=xyzzy", "must start with postgresql://"),
        ("psql 'postgresql://u:xyzzy@h/d'", "must start with postgresql://"),
        ("host=h password=xyzzy", "must start with postgresql://"),
        ("postgres://u:xyzzy@h", "names no database"),
        ("postgres://u:xyzzy@h/", "names no database"),
        ("postgres://u:xyzzy@/d", "names no host"),
        ("postgres://u:xyzzy@h,i/d", "names several hosts"),
        ("postgres://u:xyzzy@h%20i/d", "names a malformed host"),
        ("postgres://u:xyzzy@[::1/d", "has a malformed host"),
        ("postgres://u:xyzzy@h:0/d", "has a malformed port"),
        ("postgres://u:xyzzy@h:65536/d", "has a malformed port"),
        ("postgres://u:xyzzy/d", "has a malformed port"),
        ("postgres://u:xy/zzy@h/d", "has an @ after its host"),
        ("postgres://u:xy?zzy@h/d", "has an @ after its host"),
        ("postgres://u:x@y?zzy@h/d", "has an @ after its host"),
        ("postgres://u:xyzzy%ff@h/d", "has a percent-encoding that is not UTF-8"),
        ("postgres://u:xyzzy%00@h/d", "has a NUL character"),
        ("postgres://u:[YOUR-PASSWORD]@h/d", "still has the placeholder [YOUR-PASSWORD]"),
        (f"{BASE}?sslmode=on", "has sslmode=on: it must be one of disable, allow, prefer, require"),
        (f"{BASE}?ssl=maybe", "has sslmode=maybe"),
        (f"{BASE}?channel_binding=require", "has channel_binding=require without TLS"),
        (f"{BASE}?channel_binding=yes", "has channel_binding=yes"),
        (f"{BASE}?pgbouncer=1", "has pgbouncer=1"),
        (f"{BASE}?target_session_attrs=master", "has target_session_attrs=master"),
        (f"{BASE}?connect_timeout=5s", "has a malformed connect_timeout"),
        (f"{BASE}?connection_limit=0", "has a malformed connection_limit"),
        (f"{BASE}?options=-c%20search_path", "has options with"),
        (f"{BASE}?sslnegotiation=direct", "has the unknown key 'sslnegotiation'"),
        (f"{BASE}?flag", "has the unknown key 'flag'"),
    ],
)
def test_says_what_is_wrong_and_never_the_secret(url: str, start: str) -> None:
    (found,) = complaints(url)
    assert found.startswith(f"DATABASE_URL {start}")
    assert "zzy" not in found


def test_says_everything_at_once() -> None:
    assert len(complaints("postgres://u:p@/?sslmode=on&foo=1&bar=2&connect_timeout=x")) == 6


def test_shows_no_password() -> None:
    target = normalise("postgres://u:xyzzy@h/d?sslmode=require")
    assert "xyzzy" not in repr(target)
    assert target.dsn == "postgresql://u@h:5432/d"
