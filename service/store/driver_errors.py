"""What an error of PostgreSQL's, or of the way to it, means: sorted once, by SQLSTATE.

    meaning         SQLSTATE                                     becomes               then
    unreachable     no answer: connection errors, timeouts       DatabaseUnavailable   503; wait, try the same again
                    08 connection, 57 shut down or cancelled,
                    53300 too many connections, 25006 read-only,
                    55000 takes no connections, 28 and 3D
                    refused at the door
    not configured  42P01 42703 3F000 table, column or schema    NotConfigured         503; run `taxiway migrate`
                    is missing
                    42501 a right is missing                     NotConfigured         503; GRANT what it names
    refused,        40 rolled back (deadlock, serialization),    StatementRefused,     503; the same may succeed later
    for now         55 locked, 53 out of disk or memory,         a DatabaseUnavailable
                    58 and F0 the server's system, XX internal
    refused         22 value, 23 constraint, P0 raised, 54 too   as asyncpg raises it  this row cannot be written as
                    large, 44 view, and every code of an app's                         it is; others can
                    own
    defect          0A 21 25 26 34 and the rest of 42            as asyncpg raises it  a mistake of ours

In a batch, everything but `unreachable` may be the fault of one row: a trigger raises whatever it likes. So a batch is
split on all of it (store/batches.py); outside of a batch the table holds as it stands.
"""

from __future__ import annotations

import re
from enum import StrEnum

import asyncpg

from service.errors import DatabaseUnavailable, NotConfigured, StatementRefused

# What a connection, or an attempt to get one, may raise: the connection is given up, and another is tried later.
UNAVAILABLE = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.ObjectNotInPrerequisiteStateError,
    asyncpg.PostgresSystemError,
    asyncpg.InternalServerError,
)
# Everything that is sorted here.
TRANSLATED = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)


_CONDITIONS = {
    one.sqlstate: re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name.removesuffix("Error")).lower()
    for name, one in vars(asyncpg.exceptions).items()
    if isinstance(one, type) and issubclass(one, asyncpg.PostgresError) and one.sqlstate
}


def condition(code: str | None) -> str:
    """What a SQLSTATE means, as PostgreSQL names it: `23514` is `check violation`. It has no words of a row."""
    return _CONDITIONS.get(code or "", "a code of its own")


class Meaning(StrEnum):
    """What an error means for what comes next."""

    UNREACHABLE = "unreachable"
    NOT_CONFIGURED = "not configured"
    FOR_NOW = "refused for now"
    REFUSED = "refused"
    DEFECT = "defect"


# By the whole code, else by its first two characters, which are its class; what is in neither is REFUSED.
_BY_CODE = {
    "53300": Meaning.UNREACHABLE,
    "25006": Meaning.UNREACHABLE,
    "55000": Meaning.UNREACHABLE,
    "42P01": Meaning.NOT_CONFIGURED,
    "42703": Meaning.NOT_CONFIGURED,
    "3F000": Meaning.NOT_CONFIGURED,
    "42501": Meaning.NOT_CONFIGURED,
}
_BY_CLASS = {
    **dict.fromkeys(("08", "57", "28", "3D"), Meaning.UNREACHABLE),
    **dict.fromkeys(("40", "53", "55", "58", "F0", "XX"), Meaning.FOR_NOW),
    **dict.fromkeys(("0A", "21", "25", "26", "34", "42"), Meaning.DEFECT),
}
# What is rather the server's trouble, or the installation's, than one row's: if it hits all rows, it is that.
_WIDE = {Meaning.NOT_CONFIGURED, Meaning.DEFECT}
_WIDE_CLASSES = ("53", "55", "58", "F0", "XX")


LOCK_NOT_AVAILABLE = "55P03"  # the SQLSTATE of a lock_timeout
READ_ONLY = "25006"  # of a write to a server that is not open for writing


def sqlstate(exc: BaseException) -> str | None:
    """The SQLSTATE of an error that PostgreSQL gave to a statement, also behind what it became; None for others."""
    for one in (exc, exc.__cause__):
        if isinstance(one, asyncpg.PostgresError) and one.sqlstate:
            return str(one.sqlstate)
    return None


def meaning(exc: BaseException) -> Meaning:
    """Sort an error, as it came from asyncpg or as it was translated."""
    code = sqlstate(exc)
    if code is not None:
        return _BY_CODE.get(code) or _BY_CLASS.get(code[:2], Meaning.REFUSED)
    if isinstance(exc, ValueError):
        return Meaning.DEFECT  # asyncpg's word for a wrong argument
    if isinstance(exc, NotConfigured):
        return Meaning.NOT_CONFIGURED
    return Meaning.UNREACHABLE if isinstance(exc, (DatabaseUnavailable, *TRANSLATED)) else Meaning.DEFECT


def is_unreachable(exc: BaseException) -> bool:
    """Whether the same statement is to be tried again when PostgreSQL is back: nothing about its rows was said."""
    return meaning(exc) is Meaning.UNREACHABLE


def is_refusal(exc: BaseException) -> bool:
    """Whether PostgreSQL read the statement and would not do it: perhaps because of one of its rows."""
    return sqlstate(exc) is not None and not is_unreachable(exc)


def is_wide(exc: BaseException) -> bool:
    """Whether a refusal is more likely the server's or the installation's trouble than one row's."""
    return meaning(exc) in _WIDE or (sqlstate(exc) or "")[:2] in _WIDE_CLASSES


def translation(exc: Exception) -> Exception:
    """What this error means for the caller, as an exception of ours; the error itself where it stays as it is."""
    words = f"{type(exc).__name__}: {exc}".strip()
    match meaning(exc):
        case Meaning.UNREACHABLE:
            return DatabaseUnavailable(f"PostgreSQL does not answer ({words})")
        case Meaning.FOR_NOW:
            return StatementRefused(f"PostgreSQL refused this for now ({words})")
        case Meaning.NOT_CONFIGURED if isinstance(exc, asyncpg.InsufficientPrivilegeError):
            return NotConfigured(
                f"the database role lacks a right: {exc}. GRANT it to the role of DATABASE_URL; "
                "`taxiway doctor` lists what is missing"
            )
        case Meaning.NOT_CONFIGURED:
            return NotConfigured(f"the database's schema is not up to date: run `taxiway migrate` ({exc})")
    return exc


class _Translated:
    """Errors inside come out as what they mean. A class, for each statement enters it twice."""

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, _: object, exc: BaseException | None, _traceback: object) -> None:
        if isinstance(exc, TRANSLATED) and (meant := translation(exc)) is not exc:
            raise meant from exc


translated = _Translated()
