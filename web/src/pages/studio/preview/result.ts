// What the service makes of the preview's picture.

import * as api from "../../../net/api";
import type { Draft } from "../../../pipeline/draft";
import type { Data } from "../../../ui/marks";

export interface Result {
  /** Null for pipelines that give data only. */
  picture: { url: string; width: number; height: number; bytes: number; type: string } | null;
  data: Data;
  /** Milliseconds from the question to the picture on the screen's edge. */
  ms: number;
}

/** Formats that every browser shows; others are shown as PNG. */
const SHOWN = new Set(["jpeg", "png", "webp", "gif", "auto", "avif", "bmp"]);

/** The draft as it is run for the preview: its frame was taken already, and what comes back must be seen. */
export function forPreview(draft: Draft, sourceType: string): Draft {
  const { format } = draft;
  const seen = format ? SHOWN.has(format.name) : SHOWN.has(sourceType.replace("image/", ""));
  return { ...draft, frame: null, format: seen ? format : { name: "png", values: {} } };
}

export async function resultOf(image: Blob, pipeline: string, signal: AbortSignal): Promise<Result> {
  const begun = performance.now();
  const answer = await api.process(image, pipeline, signal);
  const type = answer.headers.get("content-type") ?? "";
  if (type.includes("json")) {
    const { data } = (await answer.json()) as { data: Data };
    return { picture: null, data, ms: performance.now() - begun };
  }
  const blob = await answer.blob();
  const header = answer.headers.get("x-pixelmill-data");
  const [picture, data] = await Promise.all([pictureOf(blob, type), dataOf(header, image, pipeline, signal)]);
  return { picture, data, ms: performance.now() - begun };
}

async function pictureOf(blob: Blob, type: string): Promise<NonNullable<Result["picture"]>> {
  const url = URL.createObjectURL(blob);
  const image = new Image();
  image.src = url;
  try {
    await image.decode();
  } catch {
    URL.revokeObjectURL(url);
    throw new Error("The result is there, but this browser can't show it. Choose another format to see a preview.");
  }
  return { url, width: image.naturalWidth, height: image.naturalHeight, bytes: blob.size, type };
}

/** A header holds little: more is asked for by itself. */
async function dataOf(header: string | null, image: Blob, pipeline: string, signal: AbortSignal): Promise<Data> {
  if (header === null) return {};
  if (header !== "too-large") return JSON.parse(header) as Data;
  return ((await api.processData(image, pipeline, signal)).data ?? {}) as Data;
}
