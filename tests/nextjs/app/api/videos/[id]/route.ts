import { forBrowser, pathOf, taxiway } from "@/lib/taxiway";

/** How it is. Asking also makes Taxiway submit the video and poll its task, so a browser that polls needs no cron. */
export async function GET(_: Request, { params }: { params: Promise<{ id: string }> }) {
  const { id } = await params;
  return forBrowser(await taxiway(pathOf(id)));
}
