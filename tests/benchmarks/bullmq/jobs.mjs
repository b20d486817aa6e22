// BullMQ's side: `worker`, `fill N`, `serve` (one job for each line of stdin), `stored`, `delays`.
import { createInterface } from "node:readline";
import { Queue, Worker } from "bullmq";
import { Pool } from "undici";

const { hostname: host, port } = new URL(process.env.BENCH_REDIS);
const connection = { host, port: Number(port), maxRetriesPerRequest: null };
const slots = Number(process.env.BENCH_SLOTS ?? 50);
const [what, count] = process.argv.slice(2);
const payload = JSON.parse(process.env.BENCH_PAYLOAD ?? "{}");

async function worker() {
  const pool = new Pool(process.env.BENCH_RUNWAY, { connections: slots });
  const headers = JSON.parse(process.env.BENCH_HEADERS);
  const post = async (job) => {
    const answer = await pool.request({
      path: process.env.BENCH_ENDPOINT, method: "POST", headers, body: JSON.stringify(job.data),
    });
    return (await answer.body.json()).id;
  };
  const running = new Worker("bench", post, { connection, concurrency: slots });
  process.on("SIGTERM", async () => {
    await running.close();
    process.exit(0);
  });
}

async function withQueue(work) {
  const queue = new Queue("bench", { connection });
  await work(queue);
  await queue.close();
}

const commands = {
  worker,
  fill: () =>
    withQueue(async (queue) => {
      for (let done = 0; done < count; done += 500) {
        const some = Math.min(500, count - done);
        await queue.addBulk(Array.from({ length: some }, () => ({ name: "job", data: payload })));
      }
    }),
  serve: () =>
    withQueue(async (queue) => {
      await queue.waitUntilReady();
      console.log("ready");
      for await (const _ of createInterface({ input: process.stdin })) await queue.add("job", payload);
    }),
  stored: () => withQueue(async (queue) => console.log(await queue.getCompletedCount())),
  delays: () =>
    withQueue(async (queue) => {
      const jobs = (await queue.getCompleted(0, -1)).filter((job) => job.returnvalue);
      jobs.sort((one, other) => one.timestamp - other.timestamp);
      console.log(JSON.stringify(jobs.map((job) => job.finishedOn - job.timestamp)));
    }),
};
await commands[what]();
