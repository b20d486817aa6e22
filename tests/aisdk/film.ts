import { experimental_generateVideo } from "@ai-sdk/workflow/video";
import { TaxiwayVideoModel } from "./provider.ts";

/** A durable film: the run sleeps, without a process, until Taxiway calls its webhook. */
export async function film(prompt: string, image: string) {
  "use workflow";

  const { videos, warnings } = await experimental_generateVideo({
    model: new TaxiwayVideoModel("gen4_turbo"),
    prompt: { text: prompt, image },
    aspectRatio: "16:9",
    fps: 24,
  });
  return { videos, warnings };
}
