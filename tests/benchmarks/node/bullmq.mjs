// BullMQ on Redis.
import { Queue, Worker } from "bullmq";

const { hostname: host, port } = new URL(process.env.BENCH_REDIS);
const redis = { connection: { host, port: Number(port), maxRetriesPerRequest: null } };

export async function openWith(options, backend) {
  const queue = new Queue("bench", options, ...backend);
  await queue.waitUntilReady();
  return {
    add: (data) => queue.add("job", data),
    addMany: (payloads) => queue.addBulk(payloads.map((data) => ({ name: "job", data }))),
    close: () => queue.close(),
  };
}

export async function workWith(slots, post, options, backend) {
  const worker = new Worker("bench", (job) => post(job.data), { ...options, concurrency: slots }, ...backend);
  return () => worker.close();
}

export const open = () => openWith(redis, []);
export const work = (slots, post) => workWith(slots, post, redis, []);
