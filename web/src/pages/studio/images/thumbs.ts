// Small pictures of files, made by the browser when they are first seen: a few at a time, and a bounded number kept.

/** A thumbnail's width in device pixels. */
const WIDTH = 240;
const TOGETHER = 2;
/** Of 240 × 180 pixels at 4 bytes: about 50 MB. */
const KEPT = 300;
/** Beyond this a decoded image may cost the tab its life. */
const LARGEST_BYTES = 120_000_000;

interface Waiting {
  file: File;
  signal: AbortSignal;
  done: (made: ImageBitmap | null) => void;
}

/** In the order of their last use. */
const kept = new Map<File, ImageBitmap>();
const cannot = new WeakSet<File>();
const queue: Waiting[] = [];
let busy = 0;

/** The thumbnail, or null for what this browser can't decode; it belongs to this module and may be closed later, so
 * draw it at once. Nothing is done for what `signal` has given up. */
export function thumbnail(file: File, signal: AbortSignal): Promise<ImageBitmap | null> {
  const found = kept.get(file);
  if (found) {
    kept.delete(file);
    kept.set(file, found);
    return Promise.resolve(found);
  }
  if (cannot.has(file) || file.size > LARGEST_BYTES) return Promise.resolve(null);
  return new Promise((done) => {
    queue.push({ file, signal, done });
    pump();
  });
}

export function forgetThumbnails(files: readonly File[]): void {
  for (const file of files) {
    kept.get(file)?.close();
    kept.delete(file);
  }
}

function pump(): void {
  while (busy < TOGETHER) {
    // The latest first: after a long scroll that is what is seen.
    const next = queue.pop();
    if (next === undefined) return;
    if (next.signal.aborted) continue;
    busy += 1;
    void make(next.file).then((made) => {
      busy -= 1;
      next.done(made);
      pump();
    });
  }
}

async function make(file: File): Promise<ImageBitmap | null> {
  const there = kept.get(file);
  if (there) return there;
  try {
    const made = await createImageBitmap(file, { resizeWidth: WIDTH, resizeQuality: "medium" });
    kept.set(file, made);
    if (kept.size > KEPT) {
      const [oldest, bitmap] = kept.entries().next().value as [File, ImageBitmap];
      kept.delete(oldest);
      bitmap.close();
    }
    return made;
  } catch {
    cannot.add(file);
    return null;
  }
}
