// Submits a job so that no answer that gets lost doubles or halves it.

import * as api from "../../../net/api";
import { Problem, Unreachable } from "../../../net/http";

export interface Submission {
  /** The Idempotency-Key: the same submission sent again gives the same job. */
  key: string;
  pipeline: string;
  name: string;
  priority: "interactive" | "normal" | "batch";
  uploads: readonly string[];
}

/** What the service takes in one request. */
export const MOST_IN_ONE = 100_000;
const MOST_TRIES = 40;
const LONGEST_WAIT_S = 30;

export interface Way {
  /** Resolves when the service answers again. */
  back: (signal: AbortSignal) => Promise<void>;
  wait: (seconds: number, signal: AbortSignal) => Promise<void>;
  signal: AbortSignal;
  most?: number;
}

/** An upload isn't there any more: its id, where it is told. */
export class UploadGone extends Error {
  constructor(readonly upload: string | null) {
    super("Some uploads have expired.");
  }
}

export async function submit(wanted: Submission, way: Way): Promise<api.Job> {
  const most = way.most ?? MOST_IN_ONE;
  const sealed = wanted.uploads.length <= most;
  const first = { pipeline: wanted.pipeline, name: wanted.name, priority: wanted.priority, uploads: [...wanted.uploads.slice(0, most)], sealed };
  let job = await again(() => api.submitJob(first, wanted.key), way);
  // Pages have no key: after a lost answer the job's own count tells whether the page has arrived.
  for (let from = Math.max(most, job.counts.total); from < wanted.uploads.length && !job.sealed; from = job.counts.total) {
    const page = [...wanted.uploads.slice(from, from + most)];
    const last = from + page.length >= wanted.uploads.length;
    job = await again(async (retried) => {
      const now = retried ? await api.job(job.id) : job;
      return now.counts.total > from || now.sealed ? now : api.addTasks(job.id, page, last);
    }, way);
  }
  if (!job.sealed) job = await again(() => api.sealJob(job.id), way);
  return job;
}

async function again(work: (retried: boolean) => Promise<api.Job>, way: Way): Promise<api.Job> {
  for (let tries = 0; ; tries += 1) {
    way.signal.throwIfAborted();
    try {
      return await work(tries > 0);
    } catch (error) {
      if (error instanceof Problem && error.slug === "not-found") {
        const context = error.extra["context"] as { upload?: string } | undefined;
        if (context?.upload) throw new UploadGone(context.upload);
      }
      if (tries >= MOST_TRIES) throw error;
      if (error instanceof Unreachable) await way.back(way.signal);
      else if (error instanceof Problem && (error.status === 429 || error.status === 503)) await way.wait(Math.min(error.retryAfter ?? 1, LONGEST_WAIT_S), way.signal);
      else throw error;
    }
  }
}
