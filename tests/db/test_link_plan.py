"""What is proposed for a table, what is asked, and what the rows that are there would become and cost."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from service.errors import InvalidRequest, NotConfigured
from service.installer.inspect import LinkRefused
from service.installer.plan import Wishes, first_tick_credits
from service.installer.plan_answers import Answers
from service.installer.survey import INDEX_ROWS, offers_index, wait_seconds
from service.link_requests import request_of
from service.settings import Settings
from tests.database import connected, execute
from tests.linked import BASE, CREDITS, PRISMA, ROW, SETTINGS, SUPABASE, keys, mapped, plan

pytestmark = pytest.mark.anyio


async def test_the_plain_table_needs_no_answer(database_url: str) -> None:
    url = database_url
    await execute(url, BASE)
    async with connected(url) as connection:
        made = await plan(connection)
    assert keys(made) == []
    assert mapped(made) == {
        "table": "public.videos", "id": "id",
        "columns": {
            "prompt": "prompt", "image": "image_url", "user_id": "user_id", "created_at": "created_at",
            "status": "status", "runway_video_id": "runway_video_id", "error_message": "error_message",
            "video_url": "video_url",
        },
        "words": {"queued": ["queued"], "processing": "processing", "completed": "completed", "failed": "failed",
                  "cancelled": "cancelled", "cancel": ["cancelled"]},
        "filter": None, "zone": None, "search_path": "public", "gate": False, "existing": "ignore",
    }  # fmt: skip
    assert made.writes == ["status", "runway_video_id", "error_message", "video_url"]
    assert made.reads == ["prompt", "image_url", "user_id", "created_at"]


async def test_without_the_schema_the_command_that_makes_it_is_named(empty_database_url: str) -> None:
    await execute(empty_database_url, BASE)
    async with connected(empty_database_url) as connection:
        with pytest.raises(NotConfigured, match="run `taxiway migrate`"):
            await plan(connection)


async def test_prismas_table_is_mapped_and_only_its_time_zone_may_be_asked(database_url: str) -> None:
    url = database_url
    await execute(url, PRISMA)
    async with connected(url) as connection:
        await connection.execute("SET TimeZone = 'UTC'")
        made = await plan(connection, "Video")
        assert keys(made) == []
        assert mapped(made) | {"search_path": ""} == {
            "table": 'public."Video"', "id": "id",
            "columns": {
                "prompt": "prompt", "image": "imageUrl", "user_id": "userId", "created_at": "createdAt",
                "status": "status", "runway_video_id": "runwayVideoId", "error_message": "errorMessage",
                "video_url": "videoUrl", "updated_at": "updatedAt",
            },
            "words": {"queued": ["PENDING"], "processing": "PROCESSING", "completed": "COMPLETED",
                      "failed": "FAILED", "cancelled": "CANCELLED", "cancel": ["CANCELLED"]},
            "filter": None, "zone": "UTC", "search_path": "", "gate": False, "existing": "ignore",
        }  # fmt: skip
        await connection.execute("SET TimeZone = 'Asia/Tokyo'")
        assert keys(await plan(connection, "Video")) == ["zone"]


async def test_supabases_table_is_proposed_and_asked_for(database_url: str) -> None:
    url = database_url
    await execute(
        url, SUPABASE, "INSERT INTO videos (prompt, original_image_url) VALUES ('a cat', 'https://example.com/a.png')",
        "INSERT INTO videos (prompt, deleted_at) VALUES ('a dog', now())",
    )  # fmt: skip
    async with connected(url) as connection:
        made = await plan(connection)
    assert {question.key: question.proposal for question in made.questions} == {
        "column.image": "original_image_url", "column.runway_video_id": "task_id", "column.error_message": "error",
        "column.video_url": "output_url", "where": "deleted_at IS NULL", "existing": "ignore",
    }  # fmt: skip
    mapping = mapped(made)
    assert mapping["columns"]["duration"] == "duration"
    assert mapping["columns"]["ratio"] == "ratio"
    assert mapping["words"] == {"queued": ["pending"], "processing": "processing", "completed": "succeeded",
                                "failed": "failed", "cancelled": None, "cancel": []}  # fmt: skip
    assert any("no word for cancelled" in note for note in made.notes)
    assert made.survey is not None
    assert (made.survey.others, made.survey.queued.rows) == (1, 1)
    # With the image it is an image_to_video of 25 credits, not a text_to_video of 60.
    assert made.survey.queued.credits == 25


async def test_the_prices_of_queued_rows_are_those_of_their_requests(database_url: str) -> None:
    url = database_url
    await execute(
        url, BASE, "ALTER TABLE videos ADD duration int, ADD ratio text, ADD model text",
        "INSERT INTO videos (prompt, image_url, duration) VALUES ('a', 'https://example.com/a.png', 10)",
        "INSERT INTO videos (prompt, image_url) VALUES ('b', 'https://example.com/a.png'), ('b', ' ')",
        "INSERT INTO videos (prompt) VALUES (' '), (repeat('x', 1000))",
        "INSERT INTO videos (prompt) VALUES (repeat('x', 1001))",
        "INSERT INTO videos (prompt, model) VALUES ('c', 'kling')",
        "INSERT INTO videos (prompt, status) VALUES ('d', 'draft'), ('e', 'completed')",
    )  # fmt: skip
    async with connected(url) as connection:
        made = await plan(connection, answers=Answers(existing="take"))
        ignored = await plan(connection, answers=Answers(existing="ignore"))
        poor = await plan(connection, answers=Answers(existing="take"))
    assert made.survey is not None
    queued = made.survey.queued
    # gen4_turbo: 5 credits a second; gen4.5: 12.
    assert (queued.rows, queued.refused, float(queued.credits)) == (7, 3, 50 + 25 + 60 + 60)
    assert any("kling" in reason for reason in queued.refusals)
    assert {word: ours for word, ours, _ in made.survey.words} == {"queued": 7, "draft": 1, "completed": 1}
    assert first_tick_credits(made, SETTINGS) == 195
    assert first_tick_credits(ignored, SETTINGS) == 0
    settings = Settings(_env_file=None, max_credits_per_day=Decimal(100))
    assert first_tick_credits(poor, settings) == 100


async def test_many_different_requests_are_priced_by_the_most_common(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.installer.survey.GROUPS", 2)
    await execute(
        database_url, BASE, "ALTER TABLE videos ADD duration int",
        "INSERT INTO videos (prompt, duration) VALUES ('a', 5), ('a', 5), ('a', 5), ('a', 10), ('a', 10), ('a', 2)",
    )  # fmt: skip
    async with connected(database_url) as connection:
        made = await plan(connection)
        assert made.survey is not None
        assert (made.survey.queued.rows, float(made.survey.queued.credits)) == (6, (3 * 60 + 2 * 120) * 6 / 5)


async def test_examples_are_the_newest_rows_as_requests(database_url: str) -> None:
    url = database_url
    await execute(
        url, BASE,
        "INSERT INTO videos (prompt, created_at) SELECT 'p' || n, now() - n * interval '1 hour' "
        "FROM generate_series(1, 5) n",
        "INSERT INTO videos (prompt, status) VALUES ('done', 'completed')",
        "UPDATE videos SET image_url = 'ftp://nowhere/a.png' WHERE prompt = 'p2'",
    )  # fmt: skip
    async with connected(url) as connection:
        made = await plan(connection)
    assert made.survey is not None
    examples = made.survey.examples
    assert [example.request and example.request.input["promptText"] for example in examples] == ["p1", None, "p3"]
    assert "promptImage" in (examples[1].refusal or "")
    assert examples[0].request is not None
    assert (examples[0].request.model, float(examples[0].request.quoted_credits)) == ("gen4.5", 60)


@pytest.mark.parametrize(
    ("column", "proposal"),
    [
        ("original_image_url", "original_image_url"), ('"imageUrl"', None), ("image", "image"),
        ("first_frame", "first_frame"), ("my_image_link", "my_image_link"), ("thumbnail_image", None),
    ],
)  # fmt: skip
async def test_look_alikes_of_the_image_are_asked_for(database_url: str, column: str, proposal: str | None) -> None:
    await execute(database_url, BASE.replace("image_url", column))
    async with connected(database_url) as connection:
        made = await plan(connection)
    assert [question.proposal for question in made.questions if question.key == "column.image"] == (
        [proposal] if proposal else []
    )
    expected = proposal or ("imageUrl" if "imageUrl" in column else None)
    assert mapped(made)["columns"].get("image") == expected


async def test_several_image_columns_are_asked_for_and_an_answer_ends_it(database_url: str) -> None:
    await execute(database_url, BASE, "ALTER TABLE videos ADD original_image_url text")
    async with connected(database_url) as connection:
        [question] = (await plan(connection)).questions
        assert (question.key, question.proposal) == ("column.image", "image_url")
        assert "original_image_url" in question.sentence
        assert question.flags == "--column image=image_url"
        answered = await plan(connection, answers=Answers(columns={"image": "original_image_url"}))
        assert (keys(answered), mapped(answered)["columns"]["image"]) == ([], "original_image_url")
        none = await plan(connection, answers=Answers(columns={"image": ""}))
        assert (keys(none), mapped(none)["columns"].get("image")) == ([], None)


async def test_columns_that_settings_still_name_are_the_proposal(database_url: str) -> None:
    await execute(
        database_url, BASE.replace("prompt text", "what text").replace("image_url", "photo_of_user"),
        "ALTER TABLE videos ADD prompt_text text",
    )  # fmt: skip
    settings = Settings(_env_file=None, prompt_column="what", image_column="photo_of_user")
    async with connected(database_url) as connection:
        made = await plan(connection, settings=settings)
        assert (keys(made), mapped(made)["columns"]["prompt"]) == ([], "what")
        assert mapped(made)["columns"]["image"] == "photo_of_user"
        assert keys(await plan(connection)) == ["column.prompt"]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"prompt": " a "}, {"promptText": "a", "model": "gen4.5", "duration": 5}),
        ({"prompt": "a", "duration": "10s"}, {"duration": 10}),
        ({"prompt": "a", "duration": Decimal("8.0")}, {"duration": 8}),
        ({"prompt": "a", "duration": " "}, {"duration": 5}),
        ({"prompt": "a", "duration": "8.5"}, "duration"),
        ({"prompt": "a", "image": " ", "ratio": "720:1280"}, {"ratio": "720:1280", "model": "gen4.5"}),
        ({"prompt": "a", "image": "https://example.com/a.png"}, {"model": "gen4_turbo"}),
        ({"prompt": "a", "input": '{"duration": 8, "seed": 3}', "duration": 6}, {"duration": 6, "seed": 3}),
        ({"prompt": "a", "input": {"seed": 3}}, {"seed": 3}),
        ({"prompt": "a", "input": "{"}, "is no JSON"),
        ({"prompt": "a", "input": [1]}, "must be a JSON object"),
        ({"prompt": "a", "input": '{"unheard": 1}'}, "unheard"),
        ({"prompt": "a", "model": "gen4_turbo"}, "Add an image"),
        ({"prompt": None}, "promptText"),
    ],
)
def test_a_row_makes_a_request(row: dict[str, Any], expected: dict[str, Any] | str) -> None:
    if isinstance(expected, str):
        with pytest.raises(InvalidRequest, match=expected):
            request_of(row, SETTINGS)
        return
    body = request_of(row, SETTINGS).input
    assert {key: body[key] for key in expected} == expected


async def test_more_of_the_input_is_never_read_unasked(database_url: str) -> None:
    await execute(
        database_url, BASE, "ALTER TABLE videos ADD input jsonb, ADD quoted_credits numeric, ADD operation text",
        """INSERT INTO videos (prompt, input) VALUES ('a', '{"duration": 10}'), ('b', '[]'), ('c', '{"seed": 1}')""",
    )  # fmt: skip
    async with connected(database_url) as connection:
        made = await plan(connection, answers=Answers(existing="take"))
        assert keys(made) == ["column.input"]
        none = await plan(connection, answers=Answers(existing="take", columns={"input": ""}))
        assert none.survey is not None
        assert (float(none.survey.queued.credits), none.survey.queued.refused) == (180, 0)
        read = await plan(connection, answers=Answers(existing="take", columns={"input": "input"}))
        assert read.survey is not None
        assert (float(read.survey.queued.credits), read.survey.queued.refused) == (180, 1)


@pytest.mark.parametrize("kind", ["jsonb", "text[]"])
async def test_images_in_json_and_arrays_are_refused_and_a_view_helps(database_url: str, kind: str) -> None:
    await execute(database_url, BASE.replace("image_url text", f"image_url {kind}"))
    async with connected(database_url) as connection:
        with pytest.raises(LinkRefused, match="a view over the table"):
            await plan(connection)
        assert keys(await plan(connection, answers=Answers(columns={"image": ""}))) == []
        value = "image_url[1]" if kind == "text[]" else "image_url ->> 0"
        await connection.execute(
            f"CREATE VIEW clips AS SELECT id, prompt, {value} AS image_url, status, runway_video_id FROM videos"
        )
        made = await plan(connection, "clips")
        assert mapped(made)["columns"]["image"] == "image_url"


async def test_a_key_of_several_columns_is_refused(database_url: str) -> None:
    await execute(
        database_url,
        BASE.replace("PRIMARY KEY", "NOT NULL").replace("now())", "now(), PRIMARY KEY (id, prompt))"),
    )
    async with connected(database_url) as connection:
        with pytest.raises(LinkRefused, match=r"its key has several columns \(id, prompt\)"):
            await plan(connection)
        with pytest.raises(LinkRefused, match="does not identify rows"):
            await plan(connection, answers=Answers(columns={"id": "id"}))


async def test_a_key_that_rows_share_is_refused_where_postgresql_does_not_guard_it(database_url: str) -> None:
    url = database_url
    await execute(
        url, "CREATE TABLE videos (id int, day date, prompt text, status text DEFAULT 'queued', PRIMARY KEY (id, day)) "
        "PARTITION BY RANGE (day)", "CREATE TABLE p PARTITION OF videos DEFAULT",
        "INSERT INTO videos VALUES (1, '2026-01-01', 'a')",
    )  # fmt: skip
    async with connected(url) as connection:
        assert mapped(await plan(connection))["id"] == "id"
        await connection.execute("INSERT INTO videos VALUES (1, '2026-01-02', 'b')")
        with pytest.raises(LinkRefused, match="it is 1 in more than one row"):
            await plan(connection)


@pytest.mark.parametrize(
    ("definition", "seen", "asked", "words"),
    [
        # The default is the queued word; in free text the others are asked for.
        ("text DEFAULT 'pending'", [], ["processing", "completed", "failed", "cancelled"], {"queued": ["pending"]}),
        ("text DEFAULT 'PENDING'", [], ["processing", "completed", "failed", "cancelled"], {"failed": "FAILED"}),
        ("text DEFAULT 'queued'", ["succeeded"], ["completed"], {"completed": "succeeded"}),
        ("text DEFAULT 'queued'", ["draft"], [], {"completed": "completed"}),
        # An enum or a CHECK says it all.
        ("mood DEFAULT 'waiting'", [], [], {"queued": ["waiting"], "processing": "in_progress", "completed": "done",
                                            "failed": "error", "cancelled": None}),
        ("mood", [], [], {"queued": ["waiting"]}),
        ("text DEFAULT 'new' CHECK (status IN ('new', 'running', 'ready', 'failure', 'canceled'))", [], [],
         {"queued": ["new"], "processing": "running", "completed": "ready", "failed": "failure",
          "cancelled": "canceled", "cancel": ["canceled"]}),
        ("varchar(20) DEFAULT 'new' CHECK (status IN ('new', 'running', 'ready', 'failure'))", [], [],
         {"completed": "ready"}),
        # A default that is no such word, two that are, and none.
        ("text DEFAULT 'draft'", ["queued"], ["queued"], {"queued": ["queued"]}),
        ("text DEFAULT 'draft'", [], ["queued", "processing", "completed", "failed", "cancelled"],
         {"queued": ["draft"]}),
        ("text", [], ["queued"], {"queued": ["queued"]}), ("text", ["queued"], [], {"failed": "failed"}),
        ("text DEFAULT 'pending' CHECK (status IN ('pending', 'queued', 'processing', 'completed', 'failed'))", [],
         ["queued"], {"queued": ["pending"]}),
        ("text DEFAULT 'queued' CHECK (status IN ('queued', 'processing', 'submitted', 'bad', 'completed'))", [],
         ["processing", "failed"], {"processing": "processing", "failed": None}),
        # A CHECK that says something else lists no words.
        ("text DEFAULT 'queued' CHECK (status <> 'unheard')", [], [], {"completed": "completed"}),
        ("label DEFAULT 'queued'", [], ["failed"], {"queued": ["queued"], "completed": "done", "failed": None}),
    ],
)  # fmt: skip
async def test_words(
    database_url: str, definition: str, seen: list[str], asked: list[str], words: dict[str, Any]
) -> None:
    url = database_url
    await execute(
        url, "CREATE TYPE mood AS ENUM ('waiting', 'in_progress', 'done', 'error')",
        "CREATE DOMAIN label AS text CHECK (VALUE IN ('queued', 'processing', 'done'))",
        BASE.replace("status text NOT NULL DEFAULT 'queued'", f"status {definition}"),
        *[f"INSERT INTO videos (prompt, status) VALUES ('a', '{word}')" for word in seen],
    )  # fmt: skip
    async with connected(url) as connection:
        made = await plan(connection, answers=Answers(existing="ignore"))
        assert [key.removeprefix("word.") for key in keys(made)] == asked
        found = mapped(made)["words"]
        assert {role: found[role] for role in words} == words


async def test_answers_about_words_are_checked(database_url: str) -> None:
    url = database_url
    await execute(url, PRISMA)
    async with connected(url) as connection:
        for words, complaint in {
            ("queued", "WAITING"): "has only PENDING, PROCESSING", ("completed", "PENDING"): "cannot mean two statuses",
        }.items():  # fmt: skip
            with pytest.raises(LinkRefused, match=complaint):
                await plan(connection, "Video", Answers(words={words[0]: (words[1],)}))
        with pytest.raises(LinkRefused, match="a link needs the word"):
            await plan(connection, "Video", Answers(words={"queued": ()}))
        made = await plan(connection, "Video", Answers(words={"cancelled": (), "cancel": ("FAILED",)}))
        assert mapped(made)["words"]["cancelled"] is None
        assert mapped(made)["words"]["cancel"] == ["FAILED"]


async def test_rows_of_other_providers_are_counted_and_left_alone(database_url: str) -> None:
    url = database_url
    await execute(
        url, BASE, "ALTER TABLE videos ADD provider text DEFAULT 'runway', ADD deleted_at timestamptz",
        "ALTER TABLE videos ADD is_deleted bool",
        "INSERT INTO videos (prompt, provider) VALUES ('a', 'runway'), ('b', 'kling'), ('c', NULL)",
        "INSERT INTO videos (prompt, deleted_at) VALUES ('d', now())",
        "INSERT INTO videos (prompt, is_deleted) VALUES ('e', true), ('f', false)",
        "INSERT INTO videos (prompt, provider, status, runway_video_id) VALUES ('g', 'kling', 'processing', 'theirs')",
    )  # fmt: skip
    async with connected(url) as connection:
        made = await plan(connection, answers=Answers(existing="ignore"))
        [question] = made.questions
        condition = "provider = 'runway' AND deleted_at IS NULL AND is_deleted IS NOT TRUE"
        assert (question.key, question.proposal) == ("where", condition)
        assert "provider says runway in 4 rows, and something else in 3" in question.sentence
        assert made.survey is not None
        assert (made.survey.queued.rows, made.survey.others, made.survey.stuck.rows) == (2, 5, 0)
        everything = await plan(connection, answers=Answers(existing="ignore", where=""))
        assert everything.survey is not None
        assert (everything.survey.queued.rows, everything.survey.others) == (6, 0)
        assert (keys(everything), mapped(everything)["filter"]) == ([], None)
        # A comment at the end hides nothing of the statement.
        odd = await plan(connection, answers=Answers(existing="ignore", where="provider = 'runway' -- ours"))
        assert odd.survey is not None
        assert odd.survey.queued.rows == 4
        for wrong in ("provider =", "no_such_column = 1", "provider", "1 / 0 = 1"):
            with pytest.raises(LinkRefused, match="PostgreSQL refuses the condition"):
                await plan(connection, answers=Answers(where=wrong))


async def test_a_provider_without_runways_name_has_no_proposal(database_url: str) -> None:
    await execute(
        database_url, BASE, "ALTER TABLE videos ADD provider text",
        "INSERT INTO videos (prompt, provider) VALUES ('a', 'x')",
    )  # fmt: skip
    async with connected(database_url) as connection:
        [question] = (await plan(connection, answers=Answers(existing="ignore"))).questions
        assert (question.proposal, question.flags) == (None, "--where CONDITION")
        await connection.execute("DELETE FROM videos")
        [question] = (await plan(connection)).questions
        assert question.proposal == "provider = 'runway'"


@pytest.mark.parametrize(
    ("database", "newest", "zone", "asks"),
    [
        ("UTC", None, "UTC", False),
        ("UTC", "now() AT TIME ZONE 'UTC'", "UTC", False),
        ("UTC", "now() AT TIME ZONE 'UTC' + interval '50 seconds'", "UTC", False),
        ("UTC", "now() AT TIME ZONE 'Asia/Tokyo'", None, True),
        ("Asia/Tokyo", None, "Asia/Tokyo", True),
        ("Asia/Tokyo", "now() AT TIME ZONE 'UTC'", "Asia/Tokyo", True),
        ("Asia/Tokyo", "now() AT TIME ZONE 'Asia/Tokyo'", "Asia/Tokyo", False),
        ("America/New_York", "now() AT TIME ZONE 'UTC'", "UTC", False),
        ("America/New_York", "now() AT TIME ZONE 'America/New_York'", "America/New_York", True),
    ],
)
async def test_times_without_a_zone(
    database_url: str, database: str, newest: str | None, zone: str | None, asks: bool
) -> None:
    url = database_url
    await execute(url, BASE.replace("created_at timestamptz", "created_at timestamp"))
    async with connected(url) as connection:
        await connection.execute(f"SET TimeZone = '{database}'")
        if newest:
            await connection.execute(
                f"INSERT INTO videos (prompt, status, created_at) VALUES ('a', 'completed', {newest})"
            )
        made = await plan(connection)
        assert (mapped(made)["zone"], keys(made)) == (zone, ["zone"] if asks else [])
        chosen = await plan(connection, answers=Answers(zone="Europe/Paris"))
        assert (mapped(chosen)["zone"], keys(chosen)) == ("Europe/Paris", [])
        with pytest.raises(LinkRefused, match="--zone Mars/Phobos"):
            await plan(connection, answers=Answers(zone="Mars/Phobos"))


async def test_the_gate_is_on_where_something_guards_the_status(database_url: str) -> None:
    url = database_url
    await execute(url, BASE, CREDITS)
    async with connected(url) as connection:
        made = await plan(connection)
        assert mapped(made)["gate"] is True
        assert made.guards == ("the trigger charge (public.charge)",)
        assert mapped(await plan(connection, answers=Answers(gate=False)))["gate"] is False
        await connection.execute("DROP TRIGGER charge ON videos")
        assert mapped(await plan(connection))["gate"] is False
        assert mapped(await plan(connection, answers=Answers(gate=True)))["gate"] is True


@pytest.mark.parametrize(
    ("statement", "guards"),
    [
        ("ALTER TABLE videos ADD CHECK (status IN ('queued', 'processing', 'completed', 'failed', 'cancelled'))", 0),
        ("ALTER TABLE videos ADD CHECK (status <> 'completed' OR video_url IS NOT NULL)", 1),
        ("ALTER TABLE videos ADD CHECK (user_id > 0)", 0),
        ("CREATE UNIQUE INDEX ON videos (user_id) WHERE status = 'processing'", 1),
        ("CREATE UNIQUE INDEX ON videos (user_id)", 0),
        ("CREATE INDEX ON videos (user_id, status)", 0),
        ("CREATE TRIGGER t BEFORE UPDATE OF prompt ON videos FOR EACH ROW EXECUTE FUNCTION f()", 0),
        ("CREATE TRIGGER t AFTER UPDATE OF status ON videos FOR EACH STATEMENT EXECUTE FUNCTION f()", 1),
        ("CREATE TRIGGER t AFTER INSERT OR DELETE ON videos FOR EACH ROW EXECUTE FUNCTION f()", 0),
    ],
)
async def test_guards(database_url: str, statement: str, guards: int) -> None:
    function = "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$"
    await execute(database_url, BASE, function, statement)
    async with connected(database_url) as connection:
        made = await plan(connection)
        assert (len(made.guards), mapped(made)["gate"]) == (guards, guards > 0)


async def test_a_gate_without_a_word_to_write_is_off_or_refused(database_url: str) -> None:
    url = database_url
    await execute(
        url,
        BASE.replace("DEFAULT 'queued'", "DEFAULT 'queued' CHECK (status IN ('queued', 'completed', 'failed'))"),
        CREDITS,
    )
    async with connected(url) as connection:
        made = await plan(connection)
        assert (mapped(made)["gate"], mapped(made)["words"]["processing"]) == (False, None)
        assert any("the gate is off" in note for note in made.notes)
        with pytest.raises(LinkRefused, match="--word processing=WORD"):
            await plan(connection, answers=Answers(gate=True))


async def test_columns_that_cannot_be_written_are_left_alone_with_the_reason(
    database_url: str,
) -> None:
    url = database_url
    await execute(
        url, BASE.replace("error_message text", "error_message text NOT NULL DEFAULT ''")
        .replace("video_url text", "video_url varchar(255)"),
        "ALTER TABLE videos ADD updated_at timestamptz GENERATED ALWAYS AS (created_at) STORED, ADD progress int",
        "DROP ROLE IF EXISTS taxi_writer", "CREATE ROLE taxi_writer", "GRANT SELECT ON videos TO taxi_writer",
        "GRANT UPDATE (status, error_message, video_url, updated_at) ON videos TO taxi_writer",
        "GRANT ALL ON SCHEMA taxiway TO taxi_writer", "GRANT ALL ON ALL TABLES IN SCHEMA taxiway TO taxi_writer",
    )  # fmt: skip
    try:
        async with connected(url) as connection:
            await connection.execute("SET ROLE taxi_writer")
            made = await plan(connection)
            assert made.writes == ["status", "video_url"]
            notes = " ".join(made.notes)
            for words in ("updated_at is generated", "error_message is NOT NULL", "DROP NOT NULL",
                          "progress is integer",
                          "GRANT UPDATE (runway_video_id) ON public.videos TO taxi_writer",
                          "video_url is character varying(255)"):  # fmt: skip
                assert words in notes
            await connection.execute(
                "RESET ROLE; REVOKE UPDATE (status) ON videos FROM taxi_writer; SET ROLE taxi_writer"
            )
            with pytest.raises(LinkRefused, match=r"GRANT UPDATE \(status\)"):
                await plan(connection)
            await connection.execute("RESET ROLE; REVOKE SELECT ON videos FROM taxi_writer; SET ROLE taxi_writer")
            with pytest.raises(LinkRefused, match=r"GRANT SELECT ON public.videos TO taxi_writer"):
                await plan(connection)
    finally:
        await execute(url, "DROP OWNED BY taxi_writer", "DROP ROLE taxi_writer")


@pytest.mark.parametrize(("width", "remarks"), [(1999, 1), (2000, 0)])
async def test_a_narrow_address_is_remarked(database_url: str, width: int, remarks: int) -> None:
    await execute(database_url, BASE.replace("video_url text", f"video_url varchar({width})"))
    async with connected(database_url) as connection:
        assert len((await plan(connection)).notes) == remarks


async def test_rows_that_are_stuck_are_listed_with_their_age(database_url: str) -> None:
    url = database_url
    await execute(
        url, BASE, "INSERT INTO videos (prompt, status, created_at) "
        "SELECT 'p', 'processing', now() - n * interval '1 hour' FROM generate_series(1, 30) n",
        "INSERT INTO videos (prompt, status, runway_video_id, created_at) "
        "VALUES ('t', 'processing', 'task', now() - interval '2 days'), ('u', 'processing', ' ', now())",
    )  # fmt: skip
    async with connected(url) as connection:
        made = await plan(connection)
    assert made.survey is not None
    stuck = made.survey.stuck
    assert (stuck.rows, stuck.with_task, len(stuck.oldest), stuck.oldest[0].task_id) == (32, 1, 20, "task")
    assert keys(made) == []


async def test_views_partitions_and_other_schemas(database_url: str) -> None:
    url = database_url
    await execute(
        url, "CREATE SCHEMA app", BASE.replace("TABLE videos", "TABLE app.videos"),
        CREDITS.replace("ON videos", "ON app.videos"),
        "CREATE VIEW films AS SELECT id, prompt, image_url, status, video_url FROM app.videos WHERE user_id IS NULL",
        "CREATE VIEW renamed AS SELECT id AS number, prompt, status FROM app.videos",
        "CREATE VIEW joined AS SELECT v.id, v.prompt, v.status FROM app.videos v LEFT JOIN users u ON u.id = v.user_id",
        "CREATE FUNCTION put() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$",
        "CREATE TRIGGER put INSTEAD OF UPDATE ON joined FOR EACH ROW EXECUTE FUNCTION put()",
        "CREATE TABLE parts (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, prompt text, "
        "status text DEFAULT 'queued') PARTITION BY RANGE (id)",
        "INSERT INTO app.videos (prompt) VALUES ('a')",
    )  # fmt: skip
    async with connected(url) as connection:
        # Found in another schema than the search path's, and named with it.
        made = await plan(connection, "videos", Answers(existing="ignore"))
        assert (made.table.name, mapped(made)["search_path"], mapped(made)["gate"]) == (
            "app.videos",
            "app, public",
            True,
        )
        made = await plan(connection, "films", Answers(existing="ignore"))
        assert (keys(made), mapped(made)["id"], mapped(made)["gate"]) == ([], "id", True)
        made = await plan(connection, "renamed", Answers(existing="ignore"))
        assert (keys(made), made.mapping) == (["column.id"], None)
        made = await plan(connection, "renamed", Answers(existing="ignore", columns={"id": "number"}))
        assert (keys(made), mapped(made)["id"]) == ([], "number")
        made = await plan(connection, "joined", Answers(existing="ignore"))
        assert (keys(made), made.writes) == ([], ["status"])
        assert "the trigger put (public.put)" in made.guards
        assert keys(await plan(connection, "parts")) == []
        with pytest.raises(LinkRefused, match="is a view"):
            await plan(connection, "films", wishes=Wishes(add_columns=True))
        with pytest.raises(LinkRefused, match="is partitioned"):
            await plan(connection, "parts", wishes=Wishes(index=True))


async def test_what_is_no_status_or_has_no_prompt_is_refused(database_url: str) -> None:
    url = database_url
    await execute(
        url, BASE, "INSERT INTO videos (prompt, status) SELECT 'a', 's' || n FROM generate_series(1, 50) n",
        "CREATE TABLE numbers (id int PRIMARY KEY, prompt text, status int)",
        "CREATE TABLE bare (id int PRIMARY KEY, status text)", "CREATE TABLE silent (id int PRIMARY KEY, prompt text)",
    )  # fmt: skip
    async with connected(url) as connection:
        assert mapped(await plan(connection))
        await connection.execute("INSERT INTO videos (prompt, status) VALUES ('a', 'one more')")
        with pytest.raises(LinkRefused, match="more than 50 different words"):
            await plan(connection)
        for table, words in {
            "numbers": "status .status. is integer", "bare": "--column prompt=NAME", "silent": "--column status=NAME",
        }.items():  # fmt: skip
            with pytest.raises(LinkRefused, match=words):
                await plan(connection, table)


async def test_answers_about_columns_are_checked(database_url: str) -> None:
    await execute(database_url, BASE)
    async with connected(database_url) as connection:
        for columns, words in (
            ({"image": "nowhere"}, "has no column nowhere"), ({"image": "user_id"}, "is integer"),
            ({"prompt": ""}, "a link needs this column"), ({"id": "user_id"}, "does not identify rows"),
        ):  # fmt: skip
            with pytest.raises(LinkRefused, match=words):
                await plan(connection, answers=Answers(columns=columns))
        made = await plan(connection, answers=Answers(columns={"image": "IMAGE_URL"}))
        assert mapped(made)["columns"]["image"] == "image_url"


async def test_columns_that_postgresql_generates_are_refused_as_answers(database_url: str) -> None:
    await execute(
        database_url, BASE, "ALTER TABLE videos ADD output jsonb",
        "ALTER TABLE videos ADD shown text GENERATED ALWAYS AS (prompt) STORED",
        "CREATE VIEW odd AS SELECT to_json(prompt) AS id, prompt, status FROM videos",
    )  # fmt: skip
    async with connected(database_url) as connection:
        with pytest.raises(LinkRefused, match="shown is generated by PostgreSQL"):
            await plan(connection, answers=Answers(columns={"video_url": "shown"}))
        # An output that is no text is no address: it is not even proposed.
        await connection.execute("ALTER TABLE videos DROP video_url")
        made = await plan(connection)
        assert (keys(made), "video_url" in mapped(made)["columns"]) == ([], False)
        with pytest.raises(LinkRefused, match="cannot be compared"):
            await plan(connection, "odd")


async def test_a_look_alike_that_may_not_be_written_is_not_proposed(database_url: str) -> None:
    await execute(database_url, BASE.replace("error_message text", "error text NOT NULL DEFAULT ''"))
    async with connected(database_url) as connection:
        made = await plan(connection)
    assert keys(made) == []
    assert "error is NOT NULL" in made.notes[0]


async def test_how_new_rows_are_found(database_url: str) -> None:
    url = database_url
    await execute(url, BASE)
    async with connected(url) as connection:
        made = await plan(connection)
        assert made.survey is not None
        look = made.survey.look
        assert (look.index, look.wait_seconds, look.offers_index) == (None, 10, False)
        for index, helps in {
            "(user_id, created_at)": False, "(created_at) WHERE status = 'failed'": False, "(created_at)": True,
            "(status, created_at)": True, "USING brin (created_at)": True, "(user_id) WHERE status = 'queued'": True,
        }.items():  # fmt: skip
            await connection.execute(f"CREATE INDEX look ON videos {index}")
            made = await plan(connection)
            assert made.survey is not None
            assert (made.survey.look.index is not None, made.survey.look.wait_seconds is None) == (helps, helps), index
            await connection.execute("DROP INDEX look")


async def test_a_key_that_grows_finds_new_rows(database_url: str) -> None:
    await execute(database_url, SUPABASE)
    async with connected(database_url) as connection:
        made = await plan(connection)
    assert made.survey is not None
    assert made.survey.look.index == "id, which grows"


def test_thresholds_of_the_look() -> None:
    assert wait_seconds(0.9) == 10
    assert wait_seconds(1.0) == 10
    assert wait_seconds(1.1) == pytest.approx(11)
    assert not offers_index(INDEX_ROWS, None)
    assert offers_index(INDEX_ROWS + 1, None)
    assert not offers_index(INDEX_ROWS + 1, "an index")


async def test_additions_are_named_with_the_lines_that_keep_them(database_url: str) -> None:
    url = database_url
    await execute(
        url, "CREATE TABLE videos (id uuid PRIMARY KEY, prompt text, status text DEFAULT 'queued', "
        "created_at timestamptz)",
        'CREATE TABLE "Clip" (id text PRIMARY KEY, prompt text, "imageUrl" text, status text DEFAULT \'queued\')',
    )  # fmt: skip
    async with connected(url) as connection:
        wishes = Wishes(add_columns=True, index=True)
        made = await plan(connection, wishes=wishes)
        assert [(each.name, each.drizzle, each.prisma) for each in made.additions] == [
            ("runway_video_id", 'runwayVideoId: text("runway_video_id")',
             'runwayVideoId String? @map("runway_video_id")'),
            ("error_message", 'errorMessage: text("error_message")', 'errorMessage String? @map("error_message")'),
            ("video_url", 'videoUrl: text("video_url")', 'videoUrl String? @map("video_url")'),
            ("videos_taxiway_look", 'index("videos_taxiway_look").on(table.status, table.createdAt)',
             '@@index([status, createdAt], map: "videos_taxiway_look")'),
        ]  # fmt: skip
        assert made.writes == ["status", "runway_video_id", "error_message", "video_url"]
        clip = await plan(connection, "Clip", wishes=wishes)
        assert [each.name for each in clip.additions][:3] == ["runwayVideoId", "errorMessage", "videoUrl"]
        assert clip.additions[2].prisma == "videoUrl String?"
        some = await plan(connection, answers=Answers(columns={"video_url": ""}), wishes=Wishes(add_columns=True))
        assert [each.name for each in some.additions] == ["runway_video_id", "error_message"]


async def test_a_plan_changes_nothing(database_url: str) -> None:
    url = database_url
    await execute(url, BASE, ROW)
    async with connected(url) as connection:
        made = await plan(connection, wishes=Wishes("requeue", add_columns=True, index=True))
        assert keys(made) == ["existing"]
        assert await connection.fetchval("SELECT count(*) FROM taxiway.links") == 0
        assert await connection.fetchval("SELECT count(*) FROM taxiway.rows") == 0
