import { forBrowser, pathOf, taxiway } from "@/lib/taxiway";

/** How it is. Asking also makes Taxiway submit the video when it is its turn, then poll its task: no cron is needed. */
export async function GET(_: Request, { params }: { params: Promise<{ id: string }> }) {
  const { id } = await params;
  return forBrowser(await taxiway(pathOf(id)));
}
