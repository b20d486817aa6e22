"""`status`, `open`, `logs`, `doctor` and `--help`; and the `taxiway dev` that a command finds beside it."""

from __future__ import annotations

import json
import logging
import os
import re
import webbrowser
from pathlib import Path

import pytest

from service import logs
from service.commands import beside, help
from service.commands.beside import Stack
from service.doctor.checks import Check, CheckStatus, as_table, ranked, worst
from service.errors import BadSettings
from service.local import terminal as dev_terminal
from service.operations import pausing
from service.settings import Settings
from tests.commandline import calls, commands, parse
from tests.invoking import complaint, invoke, taxiway, terminal
from tests.world import API_KEY, CRON_SECRET, RUNWAY_KEY, World, settings, world

pytestmark = pytest.mark.anyio

ADMIN = "admin-token-for-tests-01"
ID = "0192abcd-1f2b-7000-8000-000000000001"
OTHER = "0192abce-1f2b-7000-8000-000000000002"


def stack(url: str) -> Stack:
    """One that uses this database."""
    return Stack.of("http://127.0.0.1:8123", settings(url, admin_tokens=(ADMIN,)))


class TestBeside:
    """A command without DATABASE_URL works on the stack that runs in its folder."""

    async def test_it_is_found_while_it_runs(self, w: World, tmp_path: Path) -> None:
        video_id = await w.enqueue()
        with beside.published(tmp_path, stack(w.url)):
            path = tmp_path / "running.json"
            assert path.stat().st_mode & 0o777 == 0o600
            found = await taxiway(None, "--data", tmp_path, "show", str(video_id)[:18])
            assert json.loads(found.stdout)["video"]["id"] == str(video_id)
        assert not path.exists()
        line = complaint(await taxiway(None, "--data", tmp_path, "show", video_id))
        assert line.endswith("set DATABASE_URL in the environment, or start `taxiway dev` in this folder")

    async def test_database_url_comes_first(self, w: World, tmp_path: Path) -> None:
        video_id = await w.enqueue()
        with beside.published(tmp_path, stack("postgresql://nobody@127.0.0.1:9/none")):
            found = await taxiway(w.url, "--data", tmp_path, "show", video_id)
        assert found.exit_code == 0, found.output

    def test_what_a_process_left_that_was_killed_is_not_believed(self, tmp_path: Path) -> None:
        with beside.published(tmp_path, stack("postgresql://a@b/c")):
            left = (tmp_path / "running.json").read_text()
        (tmp_path / "running.json").write_text(left)
        assert beside.find(tmp_path) is None

    def test_another_users_file_is_not_believed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with beside.published(tmp_path, stack("postgresql://a@b/c")):
            assert beside.find(tmp_path) is not None
            mine = os.geteuid()
            monkeypatch.setattr(os, "geteuid", lambda: mine + 1)
            assert beside.find(tmp_path) is None

    @pytest.mark.parametrize("text", ["", "{", "[]", '{"other": 1}'])
    def test_what_cannot_be_read_is_none(self, tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "running.json").write_text(text)
        monkeypatch.setattr(beside, "_is_held", lambda _descriptor: True)
        assert beside.find(tmp_path) is None
        assert beside.find(tmp_path / "nowhere") is None

    def test_the_first_in_a_folder_is_the_one_that_is_found(self, tmp_path: Path) -> None:
        first = stack("postgresql://a@first/c")
        with beside.published(tmp_path, first), beside.published(tmp_path, stack("postgresql://a@second/c")):
            assert beside.find(tmp_path) == first

    def test_its_runway_is_taken_with_its_database_and_secrets_only_where_there_are_none(self) -> None:
        one = stack("postgresql://a@b/c")
        own = Settings(
            runway_key="key_real", runway_url="https://api.dev.runwayml.com", api_keys=("mine-of-24-characters-xx",)
        )
        taken = one.applied(own)
        assert (taken.database_url, taken.runway_key) == ("postgresql://a@b/c", RUNWAY_KEY)
        assert taken.runway_url == "http://runway.test"
        assert taken.api_keys == ("mine-of-24-characters-xx",)
        assert (taken.cron_secret, taken.admin_tokens) == ((CRON_SECRET,), (ADMIN,))
        assert one.applied(Settings()).api_keys == (API_KEY,)


class TestOpen:
    async def test_it_opens_the_page_logged_in(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        opened: list[str] = []

        def browser(url: str) -> bool:
            opened.append(url)
            return len(opened) == 1

        monkeypatch.setattr(webbrowser, "open", browser)
        link = f"http://127.0.0.1:8123/login#token={ADMIN}"
        with beside.published(tmp_path, stack("postgresql://a@b/c")):
            done = invoke(None, "--data", tmp_path, "open")
            assert (done.stdout, opened) == ("opened http://127.0.0.1:8123\n", [link])
            assert invoke(None, "--data", tmp_path, "open").stdout.strip() == link, "there is no browser"
            assert invoke(None, "--data", tmp_path, "open", "--print").stdout.strip() == link
            assert len(opened) == 2

    def test_without_a_stack_it_says_what_to_do(self, tmp_path: Path) -> None:
        line = complaint(invoke(None, "--data", tmp_path, "open"))
        assert f"no `taxiway dev` runs in {tmp_path}: start one" in line


class TestLogs:
    def test_the_last_lines_and_those_of_one_video(self, tmp_path: Path) -> None:
        written = [f"{n} INFO Status now processing video={ID if n % 2 else OTHER} task=x" for n in range(10)]
        (tmp_path / "taxiway.log").write_text("\n".join(written) + "\n")
        asked = ("--data", tmp_path, "logs")
        assert invoke(None, *asked).stdout.splitlines() == written
        assert invoke(None, *asked, "-n", 2).stdout.splitlines() == written[-2:]
        assert invoke(None, *asked, "0192abcd").stdout.splitlines() == written[1::2]
        assert invoke(None, *asked, OTHER, "-n", 1).stdout.splitlines() == [written[8]]
        line = complaint(invoke(None, "--data", tmp_path / "nowhere", "logs"))
        assert "`taxiway dev` writes it" in line

    def test_it_follows_also_a_log_that_begins_again(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "taxiway.log"
        path.write_text("one\n")
        steps = iter(["half", "half of a line\n", None])

        def sleep(_seconds: float) -> None:
            step = next(steps, "end")
            if step == "end":
                raise KeyboardInterrupt
            path.write_text("again\n" if step is None else f"one\n{step}")

        monkeypatch.setattr("service.commands.running.time.sleep", sleep)
        followed = invoke(None, "--data", tmp_path, "logs", "-f")
        assert followed.stdout.splitlines() == ["one", "half of a line", "again"]


class TestStatus:
    async def test_problems_come_first_and_an_error_is_exit_code_1(
        self, w: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await w.tick()
        well = await taxiway(w.url, "status", API_KEYS=API_KEY, CRON_SECRET=CRON_SECRET)
        assert well.exit_code == 0
        assert json.loads(well.stdout)["status"] == "ok"
        await pausing.pause(w.ctx, "gen4_turbo", 600, "a fair")
        await w.later(hours=2)
        with terminal(monkeypatch):
            late = await taxiway(w.url, "status")
            colourful = await taxiway(w.url, "status", NO_COLOR="", FORCE_COLOR="1", TERM="xterm")
        assert late.exit_code == 1
        kinds = [line.split()[0] for line in late.stdout.splitlines() if line.split()[:1] in KINDS]
        assert kinds == sorted(kinds, key=["error", "warning", "ok"].index)
        assert kinds[0] == "error"
        assert "the cron has stopped" in late.stdout
        assert re.search(r"\d errors?, \d warnings?, \d+ ok", late.stdout)
        assert "\x1b" not in late.stdout
        assert "\x1b[1;31merror" in colourful.stdout
        assert json.loads((await taxiway(w.url, "status")).stdout)["status"] == "error"


KINDS = (["error"], ["warning"], ["ok"])


class TestDoctor:
    CHECKS = (
        Check("a", "one", CheckStatus.OK, "fine"),
        Check("b", "two", CheckStatus.WARNING, "odd", "look"),
        Check("c", "three", CheckStatus.ERROR, "bad", "mind"),
    )

    def test_problems_come_first(self) -> None:
        assert [one.name for one in ranked(self.CHECKS)] == ["three", "two", "one"]
        assert worst(self.CHECKS) is CheckStatus.ERROR
        assert worst([]) is CheckStatus.OK
        lines = as_table(self.CHECKS).splitlines()
        assert [line.split()[0] for line in lines if line[:1].isalpha()] == ["STATUS", "error", "warning", "ok"]
        assert lines[-1] == "1 error, 1 warning, 1 ok"

    async def test_colour_at_a_terminal_alone(self, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        async with world(database_url):
            piped = await taxiway(database_url, "doctor", NO_COLOR="", TERM="xterm")
            with terminal(monkeypatch):
                plain = await taxiway(database_url, "doctor")
                colourful = await taxiway(database_url, "doctor", NO_COLOR="", FORCE_COLOR="1", TERM="xterm")
                narrow = await taxiway(database_url, "doctor", COLUMNS="80")
        assert piped.stdout.startswith("STATUS")
        assert "\x1b" not in piped.stdout + plain.stdout
        assert colourful.stdout.startswith("\x1b[1;31merror")
        assert "\x1b[32mok" in colourful.stdout
        assert max(map(len, narrow.stdout.splitlines())) <= 80
        assert "fix: " in narrow.stdout


class TestHelp:
    def test_every_command_is_in_one_group(self) -> None:
        grouped = [name for names in help.GROUPS.values() for name in names]
        assert sorted(grouped) == sorted(commands())

    def test_groups_examples_and_80_columns(self) -> None:
        shown = invoke(None, "--help", COLUMNS="80").stdout
        for title in (*help.GROUPS, "Examples"):
            assert f"{title}:" in shown
        assert max(map(len, shown.splitlines())) <= 80
        assert "..." not in shown.partition("Options:")[2]
        assert "Begin:" in invoke(None).output

    def test_the_examples_are_calls_that_are_understood(self) -> None:
        shell = "\n".join(
            re.sub(r"   .*", "", line) for line in help.EXAMPLES.splitlines() if line.startswith("  taxiway")
        )
        found = list(calls(shell))
        assert len(found) == 7
        for words in found:
            parse(words)

    def test_the_version(self) -> None:
        assert re.fullmatch(r"taxiway \d+\.\d+\.\d+\S*\n", invoke(None, "--version").stdout)


class TestLines:
    """What `taxiway dev` prints of its log, without -v."""

    def record(self, name: str, level: int, words: str, **fields: object) -> logging.LogRecord:
        return logging.makeLogRecord({"name": name, "levelno": level, "levelname": "INFO", "msg": words} | fields)

    def test_a_line_for_each_video_and_what_is_wrong(self) -> None:
        of_video = {"ids": {"video": ID}, "event": "finished"}
        worth = dev_terminal.is_worth_a_line
        assert worth(self.record("service.x", logging.INFO, "Finished: status completed", **of_video))
        updated = of_video | {"event": "row_updated"}
        assert worth(self.record("service.x", logging.INFO, "Row updated: status failed, no", **updated))
        assert not worth(self.record("service.x", logging.INFO, "Row updated: status processing", **updated))
        assert not worth(self.record("service.x", logging.WARNING, "A poll failed", ids={"video": ID}))
        assert worth(self.record("service.x", logging.ERROR, "It broke", ids={"video": ID}))
        assert worth(self.record("service.x", logging.WARNING, "Model paused", ids={"model": "gen4.5"}))
        assert worth(self.record("service.local.dev", logging.INFO, "stopping"))
        assert not worth(self.record("service.tick", logging.INFO, "Tick done"))

    @pytest.mark.parametrize("colour", [False, True])
    def test_how_a_line_looks(self, colour: bool) -> None:
        line = dev_terminal._Line(logs.formatter("console", ["a-secret"]), colour=colour)
        words = "Finished: status failed, Runway said a-secret \x1b[2J no"
        shown = line.format(self.record("service.x", logging.INFO, words, ids={"video": ID}, event="finished"))
        assert "a-secret" not in shown
        assert "\x1b[2J" not in shown
        assert ("\x1b[31mfailed" in shown) == colour
        assert f" {ID} Runway said" in shown
        other = line.format(self.record("service.x", logging.WARNING, "Model paused"))
        assert other.endswith("Model paused")

    def test_a_folder_that_cannot_be_used(self, tmp_path: Path) -> None:
        (tmp_path / "taxiway.log").mkdir()
        with pytest.raises(BadSettings, match=r"taxiway\.log cannot be written"):
            dev_terminal.configure(Settings(), tmp_path, verbose=False)
