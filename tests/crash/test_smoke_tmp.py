import pytest, time
from tests.crash.harness import *
pytestmark=[pytest.mark.anyio]
@pytest.fixture(scope="module")
def fork():
    with zygote() as z: yield z
async def test_smoke(database_url, fork):
    async with crash_field(database_url, fork) as f:
      for i in range(6):
        t=time.monotonic()
        v = await f.enqueue()
        print("enq", time.monotonic()-t)
        t=time.monotonic()
        p = f.start("tick")
        print("fork", time.monotonic()-t)
        await p.end(); print("tick", time.monotonic()-t)
        t=time.monotonic()
        async with f.web() as (p, c):
            print("web", time.monotonic()-t)
            r = await c.post(**callback("10b7c4a2-0000-4000-8000-000000000000"))
        print("web", time.monotonic()-t)
        t=time.monotonic()
        await f.recover()
        print("recover", time.monotonic()-t)
        await judge(f.world)
