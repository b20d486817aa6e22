import { forBrowser, pathOf, taxiway } from "@/lib/taxiway";

/** The file: on to where it is today. Its bytes do not pass through here, and the key goes nowhere. */
export async function GET(_: Request, { params }: { params: Promise<{ id: string }> }) {
  const { id } = await params;
  const answer = await taxiway(`${pathOf(id)}/file`);
  const address = answer.headers.get("Location");
  return address ? Response.redirect(address, 302) : forBrowser(answer);
}
