const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** Ask Taxiway, with the key, which stays on the server. Redirects are for the browser to follow. */
export function taxiway(path: string, init: { method?: string; headers?: Record<string, string>; body?: string } = {}) {
  const headers = { ...init.headers, Authorization: `Bearer ${process.env.TAXIWAY_API_KEY}` };
  return fetch(`${process.env.TAXIWAY_URL}${path}`, { ...init, headers, cache: "no-store", redirect: "manual" });
}

/** The path of a video. What is no id never gets into a path. */
export function pathOf(id: string) {
  return `/videos/${UUID.test(id) ? id : "unknown"}`;
}

/** What the browser may know of an answer: a video as far as a page shows it, or what was wrong. */
export async function forBrowser(answer: Response) {
  const { id, status, progress, error, title, detail } = await answer.json();
  return Response.json({ id, status, progress, error: error?.message ?? detail ?? title }, { status: answer.status });
}
