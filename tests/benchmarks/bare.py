"""The least that an enqueue endpoint can do: validate, and one INSERT through `databases`. `python -m … PORT`.

It runs on the event loop of Taxiway's own processes, and uvicorn parses with httptools, as it does for Taxiway.
"""

from __future__ import annotations

import os
import sys
from typing import Literal
from uuid import uuid4

import databases
import uvicorn
from pydantic import BaseModel, ConfigDict, Field
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from service import event_loop

SCHEMA = """
CREATE TABLE bare (id uuid PRIMARY KEY, operation text NOT NULL, model text NOT NULL, input jsonb NOT NULL,
                   status text NOT NULL, created_at timestamptz NOT NULL DEFAULT now())
"""
INSERT = """
INSERT INTO bare (id, operation, model, input, status) VALUES (:id, :operation, :model, CAST(:input AS jsonb), 'queued')
"""


class Input(BaseModel):
    """What the body must be."""

    model_config = ConfigDict(extra="forbid")

    promptImage: str = Field(max_length=2048)
    promptText: str = Field(max_length=1000)
    model: Literal["gen4_turbo"]
    ratio: str
    duration: int


class Asked(BaseModel):
    """A request."""

    model_config = ConfigDict(extra="forbid")

    operation: Literal["image_to_video"]
    input: Input


async def _no_reset(_connection: object) -> None:
    return None


URL = os.environ.get("DATABASE_URL", "postgresql://127.0.0.1/none")
database = databases.Database(URL, min_size=5, max_size=5, reset=_no_reset)


async def enqueue(request: Request) -> Response:
    """POST /videos"""
    asked = Asked.model_validate_json(await request.body())
    number = str(uuid4())
    values = {"id": number, "operation": asked.operation, "model": asked.input.model}
    await database.execute(INSERT, values | {"input": asked.input.model_dump_json()})
    return JSONResponse({"id": number, "status": "queued"}, status_code=202)


app = Starlette(routes=[Route("/videos", enqueue, methods=["POST"])])


async def _served(port: int) -> None:
    await database.connect()
    config = uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning", access_log=False, http="httptools")
    await uvicorn.Server(config).serve()


if __name__ == "__main__":
    event_loop.run(_served(int(sys.argv[1])))
