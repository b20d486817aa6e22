import { createServer, type IncomingMessage } from "node:http";
import { buffer } from "node:stream/consumers";
import { experimental_generateVideo } from "ai";
import OpenAI from "openai";
import { Webhook } from "standardwebhooks";
import { start } from "workflow/api";
import { TaxiwayVideoModel } from "./provider.ts";

type Handler = (request: Request) => Promise<Response>;

const BUILT = new URL(".well-known/workflow/v1/", import.meta.url);
const flow: { POST: Handler } = await import(`${BUILT}flow.mjs`);
const webhook: { POST: Handler } = await import(`${BUILT}webhook.mjs`);
const WEBHOOK_SECRET = process.env.WEBHOOK_SECRET!;

let toLose = 0;
const verified: unknown[] = [];

/** A film in this request: the SDK polls until there is one. */
async function plain(request: Request) {
  const { prompt, image } = await request.json();
  const { video, warnings } = await experimental_generateVideo({
    model: new TaxiwayVideoModel("gen4_turbo"),
    prompt: { text: prompt, image },
    poll: { intervalMs: 100 },
    download, // the SDK's own refuses a loopback, where the simulator's files are
  });
  return Response.json({ bytes: video.uint8Array.length, mediaType: video.mediaType, warnings });
}

async function download({ url }: { url: URL }) {
  return { data: await (await fetch(url)).bytes(), mediaType: undefined };
}

/** A film out of a durable run; this request waits for its end. The first `lost` deliveries do not arrive. */
async function durable(request: Request) {
  const { prompt, image, lost } = await request.json();
  toLose = lost;
  const run = await start({ workflowId: "workflow//./film//film" }, [prompt, image]);
  return Response.json(await run.returnValue);
}

/** The app's own webhook, checked by both of the libraries that an app would take. */
async function received(request: Request) {
  const body = await request.text();
  const headers = Object.fromEntries(request.headers);
  const openai = new OpenAI({ apiKey: "none", webhookSecret: WEBHOOK_SECRET });
  const event = await openai.webhooks.unwrap(body, headers);
  new Webhook(WEBHOOK_SECRET).verify(body, headers);
  verified.push(event);
  return new Response(null, { status: 204 });
}

async function handle(request: Request): Promise<Response> {
  const { pathname } = new URL(request.url);
  if (pathname === "/plain") return plain(request);
  if (pathname === "/durable") return durable(request);
  if (pathname === "/received") return received(request);
  if (pathname === "/verified") return Response.json(verified);
  if (pathname.endsWith("/v1/flow")) return flow.POST(request);
  if (!pathname.includes("/v1/webhook/")) return new Response(null, { status: 404 });
  return toLose-- > 0 ? new Response(null, { status: 500 }) : webhook.POST(request);
}

async function asRequest(incoming: IncomingMessage) {
  const { method, url, headers } = incoming;
  const body = method === "GET" || method === "HEAD" ? undefined : await buffer(incoming);
  return new Request(`http://${headers.host}${url}`, { method, headers: headers as Record<string, string>, body });
}

createServer(async (incoming, outgoing) => {
  const problem = (error: Error) => Response.json({ error: error.message }, { status: 500 });
  const answer = await asRequest(incoming).then(handle).catch(problem);
  outgoing.writeHead(answer.status, Object.fromEntries(answer.headers));
  outgoing.end(await answer.bytes());
}).listen(Number(process.env.PORT));
