"""What the database keeps, and from whom: its schema, its rights, and what a power cut or a failover takes. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from service.doctor.checks import Check, CheckStatus
from service.installer.history import History

AREA = "database"
MIGRATE = "run `taxiway migrate`"
GRANT = "run `taxiway grant {role} --service` as the role that migrated"
WEAKER_THAN_ON = ("off", "local", "remote_write")


def schema(found: History, older_checkout: str | None) -> Check:
    """Whether the schema is the one that this version works with. `older_checkout`: the table by which one is known."""
    status, words, fix = CheckStatus.ERROR, "", ""
    if older_checkout and found.pending:
        words = f"an older version made {older_checkout}, and this one cannot upgrade it"
        fix = "with that version, let the queue run empty and run `taxiway adopt --undo`; then `taxiway migrate` here"
    elif found.edited:
        words = f"edited since it was applied: {', '.join(found.edited)}"
        fix = "put the file back as it was, and write what is new into a new one"
    elif found.unfit:
        words = f"newer than this version, which cannot work with it: {', '.join(found.unfit)}"
        fix = "run the newer version"
    elif found.skipped or (found.newer and found.pending):
        words = f"it has had later migrations without {', '.join(found.skipped or found.pending)}"
        fix = "run the version that made it"
    elif found.pending:
        words, fix = f"not up to date: {', '.join(found.pending)}", MIGRATE
    elif found.newer:
        status, words = CheckStatus.OK, f"newer than this version, which works with it: {', '.join(found.newer)}"
    else:
        status, words = CheckStatus.OK, "up to date"
    return Check(AREA, "schema", status, words, fix)


def is_usable(found: History) -> bool:
    """Whether the tables that this version reads are there."""
    return not (found.pending or found.unfit)


def rights(missing: Sequence[str], role: str) -> Check:
    """What this role may not do and would have to."""
    if not missing:
        return Check(AREA, "rights", CheckStatus.OK, "all that are needed")
    return Check(AREA, "rights", CheckStatus.ERROR, f"missing: {', '.join(missing)}", GRANT.format(role=role))


def openness(roles: Sequence[str]) -> Check:
    """Whether browsers, or everyone, can read the schema."""
    if not roles:
        return Check(AREA, "privacy", CheckStatus.OK, "closed to PUBLIC and to the roles of browsers")
    words = f"open to {', '.join(roles)}: a browser with the app's public key can read every user's videos"
    fix = "REVOKE ALL ON SCHEMA taxiway (and on the view public.videos) FROM that role"
    return Check(AREA, "privacy", CheckStatus.ERROR, words, fix)


def durability(facts: Mapping[str, Any]) -> list[Check]:
    """What survives a power cut: fsync, full_page_writes, synchronous_commit; and a failover: standbys, sync_names."""
    off = [name for name in ("fsync", "full_page_writes") if facts[name] == "off"]
    disk = Check(AREA, "disk", CheckStatus.OK, "what is confirmed is on the disk")
    if off:
        words = f"{' and '.join(off)} off: a power cut can lose what was confirmed, and pay for it twice"
        disk = Check(AREA, "disk", CheckStatus.WARNING, words, f"set {' and '.join(off)} to on")
    commit = facts["synchronous_commit"]
    words = commit
    if commit in WEAKER_THAN_ON:
        words = f"{commit} for this role; what must not be lost asks for on by itself"
    return [disk, Check(AREA, "synchronous_commit", CheckStatus.OK, words), *_standbys(facts)]


def _standbys(facts: Mapping[str, Any]) -> list[Check]:
    count = facts["standbys"]
    if not count:
        return []
    if facts["synchronous_standby_names"]:
        return [Check(AREA, "standbys", CheckStatus.OK, f"{count}, and commits wait for them")]
    words = f"{count}, asynchronous: a failover can lose the last commits, and what was sent then is sent again"
    fix = "set synchronous_standby_names; after a failover run `taxiway audit`, and look into Runway's Request History"
    return [Check(AREA, "standbys", CheckStatus.WARNING, words, fix)]


def identity(facts: Mapping[str, Any], role: str) -> Check:
    """Whether a copy and a restore of this database can be recognised: system and timeline, None if not readable."""
    names = {"system": "the server's identifier", "timeline": "its timeline"}
    unread = [name for key, name in names.items() if not facts[key]]
    if not unread:
        return Check(AREA, "identity", CheckStatus.OK, "a copy or a restore would be recognised")
    words = f"{' and '.join(unread)} cannot be read: not every copy or restore of this database would be recognised"
    fix = f"GRANT EXECUTE ON FUNCTION pg_control_system() TO {role}, where the host allows it"
    return Check(AREA, "identity", CheckStatus.WARNING, words, fix)
