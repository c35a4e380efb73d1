// One run of the Studio: waits for the uploads, submits, follows the job, and finds it again after a reload.

import { computed, effect, signal } from "@preact/signals";

import * as api from "../../../net/api";
import { isAbort, reachable, words } from "../../../net/http";
import { isHere, pictures, settled, type Picture } from "../images/model";
import { pipelineText } from "../pipeline/state";
import { renewExpiring, renewMissing } from "../uploads/queue";
import { keepRun, keptRun } from "./kept";
import { isEnded, LiveJob } from "./live";
import { submit, UploadGone, type Submission } from "./submit";

export type Priority = Submission["priority"];

/** What is under way before there is a job. */
export const preparing = signal<"uploading" | "submitting" | null>(null);
export const failure = signal<string | null>(null);
/** The job that is shown: running, or ended. */
export const live = signal<LiveJob | null>(null);
export const jobName = signal("");
export const priority = signal<Priority>("normal");
/** Images that a run leaves out since they couldn't be uploaded. */
export const leftOut = signal(0);
/** Counts the runs that began; whoever shows results turns to them when it changes. */
export const runsBegun = signal(0);

export const running = computed(() => {
  const job = live.value?.job.value;
  return live.value !== null && !live.value.gone.value && (job == null || !isEnded(job.state));
});

/** Times that uploads which the service has forgotten are sent anew for one run. */
const MOST_RENEWALS = 5;

let stopping: AbortController | undefined;

export async function startRun(): Promise<void> {
  if (preparing.peek() || pictures.peek().length === 0) return;
  stopping = new AbortController();
  failure.value = null;
  const pipeline = pipelineText.peek();
  try {
    for (let renewals = 0; ; renewals += 1) {
      const sent = await uploaded(stopping.signal);
      if (sent.length === 0) throw new Error("None of the images could be uploaded. Each says why.");
      leftOut.value = pictures.peek().length - sent.length;
      const uploads = sent.map(({ id }) => id);
      const wanted: Submission = { key: crypto.randomUUID?.() ?? fallbackKey(), pipeline, name: jobName.peek().trim(), priority: priority.peek(), uploads };
      try {
        await hand(wanted, sent.map(({ picture }) => picture), stopping.signal);
        return;
      } catch (error) {
        if (!(error instanceof UploadGone) || renewals >= MOST_RENEWALS) throw error;
        renewMissing(renewals === 0 ? error.upload : null);
      }
    }
  } catch (error) {
    if (!isAbort(error)) failure.value = words(error);
  } finally {
    preparing.value = null;
  }
}

/** Before there is a job: give up what waits for it. */
export function stopPreparing(): void {
  stopping?.abort();
}

export async function cancelRun(): Promise<void> {
  const shown = live.peek();
  if (shown) shown.job.value = await api.cancelJob(shown.id);
}

export async function retryRun(): Promise<void> {
  const shown = live.peek();
  if (!shown) return;
  shown.job.value = await api.retryJob(shown.id);
  shown.readAll();
}

/** After a reload: the job that was shown, or the submission whose answer never came. */
export function findAgain(): void {
  const kept = keptRun();
  if (live.peek() || preparing.peek() || kept === null) return;
  if (kept.job) show(kept.job, []);
  else if (kept.pending) void resume(kept.pending);
}

/** Forget the shown job; it stays among the jobs. */
export function closeRun(): void {
  live.peek()?.close();
  live.value = null;
  leftOut.value = 0;
  keepRun(null);
  for (const one of pictures.peek()) one.task.value = null;
}

async function resume(pending: Submission): Promise<void> {
  stopping = new AbortController();
  try {
    await hand(pending, [], stopping.signal);
  } catch (error) {
    keepRun(null);
    if (!isAbort(error)) failure.value = `The run that was being submitted did not start: ${words(error)}`;
  } finally {
    preparing.value = null;
  }
}

async function hand(wanted: Submission, order: readonly Picture[], stop: AbortSignal): Promise<void> {
  preparing.value = "submitting";
  keepRun({ job: null, pending: wanted });
  try {
    const job = await submit(wanted, { back, wait, signal: stop });
    show(job.id, order);
  } catch (error) {
    // A submission that was stopped while nobody answered may have arrived: its job is among the jobs then.
    keepRun(live.peek() ? { job: live.peek()?.id ?? null, pending: null } : null);
    throw error;
  }
}

function show(id: string, order: readonly Picture[]): void {
  live.peek()?.close();
  for (const one of pictures.peek()) one.task.value = null;
  for (const one of order) one.task.value = "queued";
  keepRun({ job: id, pending: null });
  const uploadedOnce = new Set(order);
  live.value = new LiveJob(
    id,
    order,
    (seq, state) => {
      const picture = order[seq];
      if (picture) picture.task.value = state;
    },
    () => {
      // Its inputs went with it, so another run needs them again.
      for (const one of uploadedOnce) one.task.value = null;
      if (uploadedOnce.size > 0) renewMissing(null);
      keepRun(null);
    },
  );
  if (order.length > 0) runsBegun.value += 1;
}

/** Every image that is in the store once all have settled, in their order. */
async function uploaded(stop: AbortSignal): Promise<{ picture: Picture; id: string }[]> {
  preparing.value = "uploading";
  renewExpiring();
  await until(() => settled.value, stop);
  return pictures.peek().flatMap((picture) => {
    const upload = picture.upload.peek();
    return upload.state === "stored" && isHere(picture) ? [{ picture, id: upload.id }] : [];
  });
}

const back = (stop: AbortSignal): Promise<void> => until(() => reachable.value, stop);

function until(holds: () => boolean, stop: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    let end: (() => void) | undefined;
    let over = false;
    const finish = (call: () => void) => {
      over = true;
      end?.();
      stop.removeEventListener("abort", aborted);
      call();
    };
    const aborted = () => finish(() => reject(new DOMException("It was stopped.", "AbortError")));
    if (stop.aborted) return aborted();
    stop.addEventListener("abort", aborted);
    end = effect(() => {
      if (!over && holds()) finish(resolve);
    });
    if (over) end();
  });
}

function wait(seconds: number, stop: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, 1000 * seconds);
    stop.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(new DOMException("It was stopped.", "AbortError"));
    }, { once: true });
  });
}

/** Addresses without TLS (but this machine's own) have no randomUUID. */
const fallbackKey = (): string => [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
