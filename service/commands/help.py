"""`taxiway --help`: the commands in groups, by what you want to do, and examples."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup

# In the order in which they are met. A test keeps every command in one of them.
GROUPS: dict[str, tuple[str, ...]] = {
    "Begin": ("dev", "open", "docs", "recipe"),
    "Videos": ("enqueue", "upload", "wait", "videos", "show", "retry", "cancel", "erase"),
    "Is it well?": ("status", "doctor", "logs", "ticks", "models", "stats", "webhooks", "deliveries"),
    "Decide": ("pause", "resume", "audit", "attach"),
    "Your own table": ("link", "links", "unlink"),
    "Install": ("migrate", "grant"),
    "Run": ("web", "worker", "tick", "poll", "simulate", "callback", "listen"),
}
LONGEST_HELP = 120  # characters of a command in the list, over several lines
EXAMPLES = """\b
Examples:
  taxiway dev                               everything on this machine
  taxiway enqueue --prompt Boat -o a.mp4    one video, and its file
  taxiway videos --status failed            what failed, and why
  taxiway show 0192abcd-1f2b --watch        the beginning of an id is enough
  taxiway pause gen4_turbo --for 1h         send nothing for an hour
  taxiway doctor                            what is wrong, and the fix
  taxiway listen http://localhost:3000/hook   webhooks, sent to your app

Commands work on the database of DATABASE_URL; without it, on that of the `taxiway dev` which runs in this folder.
`taxiway COMMAND --help` explains one command."""


class Groups(TyperGroup):
    """The group of all commands."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**(options | {"epilog": EXAMPLES}))

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """A section for each group; commands that this process did not load are left out."""
        for title, names in GROUPS.items():
            found = [(name, one) for name in names if (one := self.get_command(ctx, name)) is not None]
            with formatter.section(title):
                formatter.write_dl([(name, one.get_short_help_str(LONGEST_HELP)) for name, one in found])
