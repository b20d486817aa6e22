import { forBrowser, taxiway } from "@/lib/taxiway";

/** Queue a video. `key` is the browser's, one for each film: sent twice, it is the same video. */
export async function POST(request: Request) {
  const { key, prompt, image } = await request.json();
  // Here the app checks who is asking, and whether they may.
  const answer = await taxiway("/videos", {
    method: "POST",
    headers: { "Content-Type": "application/json", "Idempotency-Key": String(key) },
    body: JSON.stringify({ input: { promptText: prompt, promptImage: image } }),
  });
  return forBrowser(answer);
}
