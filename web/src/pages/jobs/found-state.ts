// Images that are searched for by what was found in them: what the address asks for, and the pages that were read.

import { computed, signal } from "@preact/signals";

import * as api from "../../net/api";
import type { Task } from "../../net/api";
import { isAbort } from "../../net/http";
import { go, route } from "../../state/router";

const PAGE = 100;
/** Pages that are read at once where they hold nothing: each looks at the last 10,000 tasks of a word. */
const EMPTY_PAGES = 20;

export interface Asked {
  label: string;
  caption: string;
  /** As the service writes it: `1..`. */
  faces: string;
  /** Only images of this job. */
  job: string;
}

const NAMES = ["label", "caption", "faces", "job"] as const;

export const asked = computed<Asked>(() => Object.fromEntries(NAMES.map((name) => [name, route.value.query.get(name) ?? ""])) as unknown as Asked);
/** There is something to search for; a job alone says only where. */
export const asks = computed(() => asked.value.label !== "" || asked.value.caption !== "" || asked.value.faces !== "");
/** Whether an address of the page of jobs is that of a search. */
export const isSearch = (query: URLSearchParams): boolean => query.has("find") || NAMES.some((name) => query.has(name));

export const found = signal<readonly Task[]>([]);
export const next = signal<string | null>(null);
export const reading = signal(false);
export const failure = signal<unknown>(undefined);

export const addressOf = (wanted: Partial<Asked>): string => `/jobs?${new URLSearchParams([["find", "1"], ...Object.entries(wanted).filter(([, value]) => value !== "")]).toString()}`;

export function ask(changed: Partial<Asked>): void {
  go(addressOf({ ...asked.peek(), ...changed }), true);
}

let asking = new AbortController();

/** Search anew. */
export async function search(): Promise<void> {
  asking.abort();
  asking = new AbortController();
  found.value = [];
  next.value = null;
  failure.value = undefined;
  if (asks.peek()) await read(asking);
  else reading.value = false;
}

export async function more(): Promise<void> {
  if (next.peek() !== null && !reading.peek()) await read(asking);
}

async function read(mine: AbortController): Promise<void> {
  reading.value = true;
  const { label, caption, faces, job } = asked.peek();
  const query = { label: label || undefined, caption: caption || undefined, faces: faces || undefined, job: job || undefined, limit: PAGE };
  try {
    for (let page = 0; page < EMPTY_PAGES; page += 1) {
      const { items, next: after } = await api.findTasks({ ...query, cursor: next.peek() ?? undefined }, mine.signal);
      if (mine.signal.aborted) return;
      found.value = [...found.peek(), ...items];
      next.value = after;
      if (items.length > 0 || after === null) break;
    }
  } catch (error) {
    if (!isAbort(error)) failure.value = error;
  } finally {
    if (mine === asking) reading.value = false;
  }
}
