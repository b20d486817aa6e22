// graphile-worker, with its local queue and its batches of completions.
import { makeWorkerUtils, run } from "graphile-worker";
import pg from "pg";

const connectionString = process.env.BENCH_DATABASE;
// When a job was queued goes with its result: its own row is deleted when it is done.
const STORE = `INSERT INTO results (job, task_id, queued_at)
               SELECT id, $2, created_at FROM graphile_worker._private_jobs WHERE id = $1`;

export async function open() {
  const utils = await makeWorkerUtils({ connectionString });
  await utils.migrate();
  return {
    add: (payload) => utils.addJob("job", payload),
    addMany: (payloads) => utils.addJobs(payloads.map((payload) => ({ identifier: "job", payload }))),
    close: () => utils.release(),
  };
}

export async function work(slots, post) {
  const pool = new pg.Pool({ connectionString, max: slots + 2 });
  const job = async (payload, { job: { id }, query }) => {
    await query({ name: "store", text: STORE, values: [id, await post(payload)] });
  };
  const worker = { concurrentJobs: slots, localQueue: { size: slots + 1 }, completeJobBatchDelay: 0 };
  const runner = await run({ preset: { worker }, pgPool: pool, taskList: { job }, noHandleSignals: true });
  return () => runner.stop();
}
