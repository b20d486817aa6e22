// pg-boss, woken by NOTIFY, which fetches on while its batches are full.
import { PgBoss } from "pg-boss";

const WORKERS = 5;

async function started(options = {}) {
  const boss = new PgBoss({ connectionString: process.env.BENCH_DATABASE, useListenNotify: true, ...options });
  boss.on("error", console.error);
  await boss.start();
  await boss.createQueue("bench", { notify: true });
  return boss;
}

export async function open() {
  const boss = await started({ supervise: false, schedule: false });
  return {
    add: (data) => boss.send("bench", data),
    addMany: (payloads) => boss.insert("bench", payloads.map((data) => ({ data }))),
    close: () => boss.stop(),
  };
}

export async function work(slots, post) {
  const boss = await started();
  const one = async ({ id, data }) => ({ id, status: "completed", output: { task: await post(data) } });
  const options = {
    localConcurrency: WORKERS, batchSize: slots / WORKERS, perJobResults: true, burstWhenBatchFull: true,
  };
  await boss.work("bench", options, (jobs) => Promise.all(jobs.map(one)));
  return () => boss.stop();
}
