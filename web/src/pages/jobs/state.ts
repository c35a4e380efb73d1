// The list of jobs as the address says (filters, search), kept true by events.

import { computed, effect, signal } from "@preact/signals";

import * as api from "../../net/api";
import type { Job } from "../../net/api";
import { isAbort, returns } from "../../net/http";
import { follow, type StreamEvent } from "../../net/stream";
import { onJobEvent } from "../../state/jobs-live";
import { go, route } from "../../state/router";
import { isAdmin } from "../../state/session";
import { stored } from "../../state/storage";

const PAGE = 50;
const SETTLE_MS = 300;

export interface Filters {
  state: string;
  q: string;
}

export const filters = computed<Filters>(() => ({ state: route.value.query.get("state") ?? "", q: route.value.query.get("q") ?? "" }));
/** Admins may look at everybody's jobs. */
export const everybody = stored("jobs.everybody", false);
const all = computed(() => everybody.value && isAdmin.value);

export const jobs = signal<readonly Job[]>([]);
export const next = signal<string | null>(null);
export const loading = signal(false);
export const loaded = signal(false);
export const failure = signal<unknown>(undefined);

export function setFilters(changed: Partial<Filters>): void {
  const wanted = { ...filters.peek(), ...changed };
  const query = new URLSearchParams(Object.entries(wanted).filter(([, value]) => value !== "")).toString();
  go(query ? `/jobs?${query}` : "/jobs", true);
}

let asking: AbortController | undefined;

/** The first page anew, as long as what is shown. */
export async function load(): Promise<void> {
  asking?.abort();
  const mine = new AbortController();
  asking = mine;
  loading.value = true;
  try {
    const limit = Math.min(1_000, Math.max(PAGE, jobs.peek().length));
    const page = await api.jobs({ ...filters.peek(), all: all.peek() ? 1 : undefined, limit }, mine.signal);
    jobs.value = page.items;
    next.value = page.next;
    failure.value = undefined;
    loaded.value = true;
  } catch (error) {
    if (!isAbort(error)) failure.value = error;
  } finally {
    if (asking === mine) loading.value = false;
  }
}

export async function more(): Promise<void> {
  if (next.peek() === null || loading.peek()) return;
  loading.value = true;
  try {
    const page = await api.jobs({ ...filters.peek(), all: all.peek() ? 1 : undefined, limit: PAGE, cursor: next.peek() });
    const known = new Set(jobs.peek().map((job) => job.id));
    jobs.value = [...jobs.peek(), ...page.items.filter((job) => !known.has(job.id))];
    next.value = page.next;
  } catch (error) {
    failure.value = error;
  } finally {
    loading.value = false;
  }
}

let timer: ReturnType<typeof setTimeout> | undefined;

function loadSoon(): void {
  clearTimeout(timer);
  timer = setTimeout(() => void load(), SETTLE_MS);
}

/** Apply what an event says of a job; one that isn't shown may belong here now. */
function receive(event: StreamEvent): void {
  if (event.type === "deleted") {
    jobs.value = jobs.peek().filter((job) => job.id !== event.data["job"]);
    return;
  }
  if (event.type !== "job") return;
  const { id, state, counts } = event.data as { id: string; state: Job["state"]; counts: Job["counts"] };
  const shown = jobs.peek().find((job) => job.id === id);
  if (!shown) return loadSoon();
  const total = shown.counts.total;
  jobs.value = jobs.peek().map((job) => (job.id === id ? { ...job, state, counts: { ...counts, total: Math.max(total, sumOf(counts)) } } : job));
  if (shown.state !== state) loadSoon(); // times, and whether it still passes the filter
}

const sumOf = (counts: Job["counts"]): number => counts.queued + counts.running + counts.succeeded + counts.failed + counts.cancelled;

/** Keep the list true until the returned function is called. */
export function start(): () => void {
  const stopFilters = effect(() => {
    void filters.value;
    void all.value;
    jobs.value = [];
    loaded.value = false;
    void load();
  });
  let stopAll: (() => void) | undefined;
  const stopChoice = effect(() => {
    stopAll?.();
    stopAll = all.value ? follow("all-events", receive, loadSoon) : undefined;
  });
  const stopOwn = onJobEvent((event) => {
    if (!all.peek()) receive(event);
  }, loadSoon);
  let seen = returns.peek();
  const stopReturns = returns.subscribe((value) => {
    if (value !== seen) loadSoon();
    seen = value;
  });
  return () => {
    stopFilters();
    stopChoice();
    stopAll?.();
    stopOwn();
    stopReturns();
    clearTimeout(timer);
  };
}
