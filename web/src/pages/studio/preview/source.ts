// The picture that the preview works on: small enough to be sent again and again.

import * as api from "../../../net/api";

export const MOST_SIDE = 1_024;
/** Small pictures go as they are, unless their file is large all the same. */
const MOST_BYTES = 3_000_000;

export interface Source {
  blob: Blob;
  url: string;
  width: number;
  height: number;
  /** Sizes in pixels act on less than the real picture. */
  downscaled: boolean;
}

/** Throws what the service says where neither browser nor service can read it. */
export async function sourceOf(file: Blob, frame: number | null, signal: AbortSignal): Promise<Source> {
  const bitmap = frame === null ? await decoded(file) : null;
  if (bitmap === null) return fromService(file, frame, signal);
  try {
    const { width, height } = bitmap;
    if (Math.max(width, height) <= MOST_SIDE && file.size <= MOST_BYTES) return { blob: file, url: URL.createObjectURL(file), width, height, downscaled: false };
    const scale = Math.min(1, MOST_SIDE / Math.max(width, height));
    const small = { width: Math.max(1, Math.round(width * scale)), height: Math.max(1, Math.round(height * scale)) };
    const blob = await drawn(bitmap, small.width, small.height, file.type === "image/jpeg" ? "image/jpeg" : "image/png");
    return { blob, url: URL.createObjectURL(blob), ...small, downscaled: scale < 1 };
  } finally {
    bitmap.close();
  }
}

/** Null for formats that this browser can't read. */
async function decoded(file: Blob): Promise<ImageBitmap | null> {
  try {
    return await createImageBitmap(file);
  } catch {
    return null;
  }
}

async function drawn(bitmap: ImageBitmap, width: number, height: number, type: string): Promise<Blob> {
  // The browser's own reduction is smooth; canvases alone alias.
  const small = await createImageBitmap(bitmap, { resizeWidth: width, resizeHeight: height, resizeQuality: "high" });
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  canvas.getContext("2d")?.drawImage(small, 0, 0);
  small.close();
  return new Promise((resolve, reject) => {
    canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("The browser could not make the picture smaller."))), type, 0.95);
  });
}

async function fromService(file: Blob, frame: number | null, signal: AbortSignal): Promise<Source> {
  const first = frame === null ? "" : `frame:${frame}/`;
  const answer = await api.process(file, `${first}resize:${MOST_SIDE},${MOST_SIDE},fit=inside/format:png`, signal);
  const blob = await answer.blob();
  const { width, height } = await createImageBitmap(blob);
  return { blob, url: URL.createObjectURL(blob), width, height, downscaled: Math.max(width, height) >= MOST_SIDE };
}
