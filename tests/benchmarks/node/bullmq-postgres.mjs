// BullMQ on PostgreSQL.
import { createPostgresBackend } from "bullmq";
import { openWith, workWith } from "./bullmq.mjs";

const postgres = { connection: { connectionString: process.env.BENCH_DATABASE, migrate: true } };
const backend = [createPostgresBackend];

export const open = () => openWith(postgres, backend);
export const work = (slots, post) => workWith(slots, post, postgres, backend);
