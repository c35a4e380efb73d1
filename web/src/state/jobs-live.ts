// What happens to jobs, as every page hears it; and a word when one of them ends.

import * as api from "../net/api";
import { follow, type StreamEvent } from "../net/stream";
import { notify, notifyOutside } from "./notices";

export interface JobEvent {
  id: string;
  state: string;
  counts: Record<string, number>;
}

type Listener = (event: StreamEvent) => void;

const ENDS = new Set(["succeeded", "failed", "cancelled"]);
const listeners = new Set<Listener>();
const reopened = new Set<() => void>();
const open = new Map<string, string>();
let stop: (() => void) | undefined;

/** Follow the events of one's jobs as long as the page is there. */
export function startJobEvents(): void {
  stop ??= follow("events", receive, () => {
    for (const call of [...reopened]) call();
  });
}

export function onJobEvent(listener: Listener, onReopen?: () => void): () => void {
  listeners.add(listener);
  if (onReopen) reopened.add(onReopen);
  return () => {
    listeners.delete(listener);
    if (onReopen) reopened.delete(onReopen);
  };
}

function receive(event: StreamEvent): void {
  if (event.type === "job") void tellOfEnd(event.data as unknown as JobEvent);
  for (const listener of [...listeners]) listener(event);
}

/** Once for each end: a retried job ends again. */
async function tellOfEnd(job: JobEvent): Promise<void> {
  const before = open.get(job.id);
  if (!ENDS.has(job.state)) {
    open.set(job.id, job.state);
    return;
  }
  if (before === undefined) return;
  open.delete(job.id);
  const { succeeded = 0, failed = 0 } = job.counts;
  const named = await api.job(job.id).catch(() => undefined); // it may be deleted by now
  const name = named?.name || "A job";
  const text =
    job.state === "succeeded"
      ? `${name} is done: ${succeeded} ${succeeded === 1 ? "image" : "images"}.`
      : job.state === "failed"
        ? `${name} has ended: ${succeeded} done, ${failed} failed.`
        : `${name} was cancelled.`;
  notify(job.state === "failed" ? "bad" : "good", text, { label: "Open", href: `/jobs/${job.id}` });
  notifyOutside("Pixelmill", text, `/jobs/${job.id}`);
}
