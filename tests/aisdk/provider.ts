import { APICallError } from "@ai-sdk/provider";

type Start = {
  prompt: string | undefined;
  aspectRatio: string | undefined;
  resolution: string | undefined;
  duration: number | undefined;
  fps: number | undefined;
  seed: number | undefined;
  image: { type: "url"; url: string } | { type: "file"; mediaType: string; data: string | Uint8Array } | undefined;
  generateAudio: boolean | undefined;
  headers?: Record<string, string | undefined>;
  abortSignal?: AbortSignal;
  webhookUrl?: string;
};
type Status = { operation: unknown; headers?: Record<string, string | undefined>; abortSignal?: AbortSignal };
type Webhook<Received> = { webhook: () => PromiseLike<{ url: string; received: Received }> };
type Video = {
  id: string;
  status: "queued" | "processing" | "completed" | "failed" | "cancelled";
  error: { code: string; message: string } | null;
  warnings: { type: string; feature: string; message: string }[];
  outputs: { url: string; media_type: string }[];
};

/** A video model of the AI SDK whose videos Taxiway makes. Its address and key are read where they are used. */
export class TaxiwayVideoModel {
  readonly specificationVersion = "v4";
  readonly provider = "taxiway";
  readonly maxVideosPerCall = 1;
  readonly modelId: string;

  constructor(modelId: string) {
    this.modelId = modelId;
  }

  // A workflow writes the model down between two of its steps: nothing secret may be in it.
  static [Symbol.for("workflow-serialize")](model: TaxiwayVideoModel) {
    return { modelId: model.modelId };
  }

  static [Symbol.for("workflow-deserialize")]({ modelId }: { modelId: string }) {
    return new TaxiwayVideoModel(modelId);
  }

  /** Taxiway reports the end to an address: the SDK may make one and wait there. */
  async handleWebhookOption<Received>({ webhook }: Webhook<Received>) {
    const { url, received } = await webhook();
    return { webhookUrl: url, received };
  }

  /** Queue the video. The SDK's idempotency key goes along, so that a repeat makes no second one. */
  async doStart(options: Start) {
    const body = {
      input: {
        model: this.modelId,
        promptText: options.prompt,
        promptImage: options.image && address(options.image),
        duration: options.duration,
        seed: options.seed,
      },
      aspect_ratio: options.aspectRatio,
      resolution: options.resolution,
      fps: options.fps,
      generate_audio: options.generateAudio,
      webhook_url: options.webhookUrl,
    };
    const { video, response } = await this.ask("/videos", options, body);
    return { operation: video.id, warnings: warnings(video), response };
  }

  /** How it is; once it has ended, its outputs or the reason. */
  async doStatus({ operation, ...options }: Status) {
    const { video, response } = await this.ask(`/videos/${operation}`, options);
    if (video.status === "completed") {
      const videos = video.outputs.map((output) => ({ type: "url" as const, url: output.url, mediaType: output.media_type }));
      return { status: "completed" as const, videos, warnings: [], response };
    }
    if (video.status === "failed" || video.status === "cancelled") {
      const reason = video.error ? `${video.error.code}: ${video.error.message}` : video.status;
      return { status: "error" as const, error: `${reason} (video ${video.id})`, response };
    }
    return { status: "pending" as const, response };
  }

  private async ask(path: string, options: Pick<Status, "headers" | "abortSignal">, body?: object) {
    const url = `${process.env.TAXIWAY_URL}${path}`;
    const headers = new Headers({ Authorization: `Bearer ${process.env.TAXIWAY_API_KEY}` });
    const key = Object.entries(options.headers ?? {}).find(([name]) => name.toLowerCase() === "idempotency-key")?.[1];
    if (body) headers.set("Content-Type", "application/json");
    if (body && key) headers.set("Idempotency-Key", key);
    const init = { method: body ? "POST" : "GET", headers, body: JSON.stringify(body), signal: options.abortSignal };
    const answer = await fetch(url, init).catch((cause: Error) => {
      throw new APICallError({ message: cause.message, url, requestBodyValues: body, cause, isRetryable: true });
    });
    const text = await answer.text();
    if (!answer.ok) {
      const isRetryable = answer.status === 408 || answer.status === 429 || answer.status >= 500;
      const message = `Taxiway answered ${answer.status}: ${text}`;
      throw new APICallError({ message, url, requestBodyValues: body, statusCode: answer.status, isRetryable });
    }
    const response = { timestamp: new Date(), modelId: this.modelId, headers: Object.fromEntries(answer.headers) };
    return { video: JSON.parse(text) as Video, response };
  }
}

/** An image's address; its bytes are one, too. */
function address(image: NonNullable<Start["image"]>) {
  if (image.type === "url") return image.url;
  const data = typeof image.data === "string" ? image.data : Buffer.from(image.data).toString("base64");
  return `data:${image.mediaType};base64,${data}`;
}

/** What was not done as it was asked for, in the SDK's words. */
function warnings(video: Video) {
  return video.warnings.map(({ type, feature, message }) =>
    type === "unsupported"
      ? { type: "unsupported" as const, feature, details: message }
      : { type: "other" as const, message },
  );
}
