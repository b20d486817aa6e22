import { forBrowser, pathOf, taxiway } from "@/lib/taxiway";

/** How it is. Asking also makes Taxiway poll the task, so a reader need not wait for the cron's next minute. */
export async function GET(_: Request, { params }: { params: Promise<{ id: string }> }) {
  const { id } = await params;
  return forBrowser(await taxiway(pathOf(id)));
}
