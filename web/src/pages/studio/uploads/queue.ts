// Sends images to the store while the person builds: four at a time, in order. When nobody answers it waits and goes on.

import { effect } from "@preact/signals";

import * as api from "../../../net/api";
import { isAbort, lost, Problem, reachable, Unreachable, words } from "../../../net/http";
import { session, signedIn } from "../../../state/session";
import { bytes } from "../../../ui/format";
import { isHere, onAdded, onRemoved, pictures, setUpload, type Picture } from "../images/model";

const TOGETHER = 4;
/** Broken connections of one file before it is called failed; the service answered in between each time. */
const MOST_BREAKS = 6;
/** Refusals that ask for patience (429, 503) before a file is called failed. */
const MOST_WAITS = 30;
const LONGEST_WAIT_S = 30;
/** Without a byte gone for so long, the connection counts as broken. */
const STALL_MS = 45_000;
/** An upload that ends sooner is sent again before a run. */
const EXPIRES_SOON_MS = 120_000;

interface Sending {
  abort: AbortController;
  breaks: number;
  waits: number;
}

const queue: Picture[] = [];
const sending = new Map<Picture, Sending>();
const troubles = new WeakMap<Picture, { breaks: number; waits: number }>();
let notBefore = 0;
let timer: ReturnType<typeof setTimeout> | undefined;

export function startUploads(): () => void {
  const added = (some: readonly Picture[]) => enqueue(some);
  const removed = (some: readonly Picture[]) => {
    for (const one of some) sending.get(one)?.abort.abort();
  };
  onAdded.add(added);
  onRemoved.add(removed);
  const stop = effect(() => {
    if (reachable.value && signedIn.value) pump();
  });
  return () => {
    onAdded.delete(added);
    onRemoved.delete(removed);
    stop();
  };
}

function enqueue(some: readonly Picture[]): void {
  const most = session.peek()?.limits.max_bytes;
  for (const one of some) {
    if (one.file.size === 0) setUpload(one, { state: "failed", why: "The file is empty.", again: false });
    else if (most !== undefined && one.file.size > most) {
      const why = `The file has ${bytes(one.file.size)}; this service takes ${bytes(most)}. Make it smaller, then drop it again.`;
      setUpload(one, { state: "failed", why, again: false });
    } else {
      setUpload(one, { state: "waiting" });
      queue.push(one);
    }
  }
  pump();
}

/** Send failed ones again, or those whose upload is gone. */
export function sendAgain(some: readonly Picture[]): void {
  for (const one of some) troubles.delete(one);
  enqueue(some.filter((one) => !sending.has(one) && one.upload.peek().state !== "waiting"));
}

const mayRetry = (one: Picture): boolean => {
  const upload = one.upload.peek();
  return upload.state === "failed" && upload.again;
};

/** Whether another try of any failed one could help. */
export const canRetry = (): boolean => pictures.peek().some(mayRetry);

export function retryFailed(): void {
  sendAgain(pictures.peek().filter(mayRetry));
}

/** Uploads that the service forgets before a run could use them are sent again. Returns how many. */
export function renewExpiring(now = Date.now()): number {
  const old = pictures.peek().filter((one) => {
    const upload = one.upload.peek();
    return upload.state === "stored" && upload.expires < now + EXPIRES_SOON_MS;
  });
  sendAgain(old);
  return old.length;
}

/** The service doesn't know this upload (any more): what is as old or older is gone too; null: everything is. */
export function renewMissing(id: string | null): number {
  const stored = pictures.peek().flatMap((one) => {
    const upload = one.upload.peek();
    return upload.state === "stored" ? [{ one, upload }] : [];
  });
  const named = stored.find(({ upload }) => upload.id === id);
  const gone = named ? stored.filter(({ upload }) => upload.created <= named.upload.created) : stored;
  sendAgain(gone.map(({ one }) => one));
  return gone.length;
}

function pump(): void {
  const wait = notBefore - Date.now();
  if (wait > 0) {
    timer ??= setTimeout(() => {
      timer = undefined;
      pump();
    }, wait);
    return;
  }
  while (sending.size < TOGETHER && reachable.peek() && signedIn.peek()) {
    const next = queue.shift();
    if (next === undefined) return;
    // Removed, or sent by another way meanwhile.
    if (next.upload.peek().state !== "waiting" || !isHere(next)) continue;
    void sendOne(next);
  }
}

async function sendOne(picture: Picture): Promise<void> {
  const trouble = troubles.get(picture) ?? { breaks: 0, waits: 0 };
  troubles.set(picture, trouble);
  const mine: Sending = { abort: new AbortController(), ...trouble };
  sending.set(picture, mine);
  setUpload(picture, { state: "sending", share: 0 });
  let moved = Date.now();
  const stall = setInterval(() => {
    if (Date.now() - moved < STALL_MS) return;
    mine.abort.abort("stall");
    lost();
  }, 5_000);
  try {
    const made = await api.upload(picture.name, picture.file, {
      signal: mine.abort.signal,
      onProgress: (sent, total) => {
        moved = Date.now();
        if (picture.upload.peek().state === "sending") setUpload(picture, { state: "sending", share: total > 0 ? sent / total : 1 });
      },
    });
    troubles.delete(picture);
    if (isHere(picture)) setUpload(picture, { state: "stored", id: made.id, created: Date.parse(made.created), expires: Date.parse(made.expires) });
  } catch (error) {
    if (isHere(picture)) await failed(picture, error, mine.abort.signal.reason === "stall");
  } finally {
    clearInterval(stall);
    sending.delete(picture);
    pump();
  }
}

async function failed(picture: Picture, error: unknown, stalled: boolean): Promise<void> {
  const trouble = troubles.get(picture) ?? { breaks: 0, waits: 0 };
  const wrong = (why: string, again = true) => setUpload(picture, { state: "failed", why, again });
  const goOn = () => {
    setUpload(picture, { state: "waiting" });
    queue.unshift(picture);
  };
  if (error instanceof Unreachable || stalled || isAbort(error)) {
    if (!(await readable(picture.file))) return wrong("The browser can't read this file any more: it was moved, changed or removed. Drop it again.", false);
    trouble.breaks += 1;
    if (trouble.breaks >= MOST_BREAKS) return wrong(`The connection broke ${MOST_BREAKS} times while this file was sent.`);
    return goOn();
  }
  if (error instanceof Problem && error.status === 401) return goOn();
  if (error instanceof Problem && (error.status === 429 || error.status === 503)) {
    trouble.waits += 1;
    if (trouble.waits >= MOST_WAITS) return wrong(words(error));
    notBefore = Date.now() + 1000 * Math.min(error.retryAfter ?? 1, LONGEST_WAIT_S);
    return goOn();
  }
  wrong(words(error), !(error instanceof Problem && error.status === 413));
}

/** A file that was changed or removed since it was dropped can't be sent, which looks like a broken connection. */
async function readable(file: File): Promise<boolean> {
  try {
    await file.slice(0, 1).arrayBuffer();
    return true;
  } catch {
    return false;
  }
}
