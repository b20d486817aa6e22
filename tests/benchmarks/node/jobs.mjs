// A peer on Node: `node jobs.mjs PEER prepare`, `worker`, `fill N` or `serve` (one job for each line of stdin).
//
// PEER.mjs exports `open()`, a queue with `add(payload)`, `addMany(payloads)` and `close()`; and `work(slots, post)`,
// which starts a worker and gives the function that stops it.
import { createInterface } from "node:readline";
import { Pool } from "undici";

const [peer, command, count] = process.argv.slice(2);
const { open, work } = await import(`./${peer}.mjs`);
const payload = JSON.parse(process.env.BENCH_PAYLOAD);
const slots = Number(process.env.BENCH_SLOTS);
const BATCH = 500;

async function worker() {
  const pool = new Pool(process.env.BENCH_RUNWAY, { connections: slots });
  const headers = JSON.parse(process.env.BENCH_HEADERS);
  const post = async (body) => {
    const answer = await pool.request({
      path: process.env.BENCH_ENDPOINT, method: "POST", headers, body: JSON.stringify(body),
    });
    return (await answer.body.json()).id;
  };
  const stop = await work(slots, post);
  process.on("SIGTERM", async () => {
    await stop();
    process.exit(0);
  });
}

async function opened(use) {
  const queue = await open();
  await use(queue);
  await queue.close();
}

const commands = {
  worker,
  prepare: () => opened(async () => {}),
  fill: () =>
    opened(async (queue) => {
      for (let done = 0; done < count; done += BATCH) {
        await queue.addMany(Array(Math.min(BATCH, count - done)).fill(payload));
      }
    }),
  serve: () =>
    opened(async (queue) => {
      console.log("ready");
      for await (const _ of createInterface({ input: process.stdin })) await queue.add(payload);
    }),
};
await commands[command]();
