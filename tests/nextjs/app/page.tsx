"use client";

import { useEffect, useState, type FormEvent } from "react";

type Video = { id: string; status: string; progress: number | null; error?: string };

const ENDED = ["completed", "failed", "cancelled"];
const POLL_MILLISECONDS = 5000;

export default function Page() {
  const [key, setKey] = useState("");
  const [video, setVideo] = useState<Video>();
  const [problem, setProblem] = useState("");

  useEffect(() => {
    if (!video || ENDED.includes(video.status)) return;
    const timer = setTimeout(async () => {
      const answer = await fetch(`/api/videos/${video.id}`).catch(() => undefined);
      setVideo(answer?.ok ? await answer.json() : { ...video });
    }, POLL_MILLISECONDS);
    return () => clearTimeout(timer);
  }, [video]);

  async function queue(event: FormEvent<HTMLFormElement>) {
    event.preventDefault();
    const form = Object.fromEntries(new FormData(event.currentTarget));
    const once = key || crypto.randomUUID();
    setKey(once); // kept until there is an answer: who tries again makes no second video
    const body = JSON.stringify({ ...form, key: once });
    const answer = await fetch("/api/videos", { method: "POST", body }).catch(() => undefined);
    const result = await answer?.json().catch(() => undefined);
    if (answer && answer.status < 500) setKey("");
    if (answer?.ok) setVideo(result);
    setProblem(answer?.ok ? "" : (result?.error ?? "No answer. Try again."));
  }

  return (
    <main>
      <form onSubmit={queue}>
        <input name="prompt" placeholder="What happens" required />
        <input name="image" type="url" placeholder="https://…, the first picture" required />
        <button>Make a video</button>
      </form>
      {problem && <p role="alert">{problem}</p>}
      {video && !ENDED.includes(video.status) && <progress value={video.progress ?? undefined} />}
      {video?.status === "completed" && <video src={`/api/videos/${video.id}/file`} controls autoPlay muted />}
      {video && <p role="status">{video.error ?? video.status}</p>}
    </main>
  );
}
