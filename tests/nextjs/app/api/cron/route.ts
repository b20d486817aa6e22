export const maxDuration = 120;

/** Vercel's cron sends CRON_SECRET in a header. It is Taxiway that checks it. */
export async function GET(request: Request) {
  const headers = { Authorization: request.headers.get("Authorization") ?? "" };
  const answer = await fetch(`${process.env.TAXIWAY_URL}/process-queued`, { headers, cache: "no-store" });
  return Response.json(await answer.json(), { status: answer.status });
}
