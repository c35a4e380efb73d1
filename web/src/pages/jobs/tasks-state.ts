// One job and its tasks: read in pages, and read again where events say that something changed.

import { computed, signal } from "@preact/signals";

import * as api from "../../net/api";
import type { Job, Task } from "../../net/api";
import { isAbort, returns } from "../../net/http";
import { follow, type StreamEvent } from "../../net/stream";
import { onJobEvent } from "../../state/jobs-live";
import { isAdmin, session } from "../../state/session";

const PAGE = 100;
const REFRESH_MS = 500;
/** Pages that are read again at a time; more wait for the next turn. */
const PAGES_A_TURN = 3;

/** How far a task over tiles is. */
export interface Progress {
  tiles: number;
  of: number;
  megapixels_s: number;
  seconds_left: number | null;
}

interface Page {
  /** Where it begins; null for the first. */
  cursor: string | null;
  tasks: Task[];
}

/** Everything about the job of an address; `stop` ends it. */
export class JobView {
  readonly job = signal<Job | undefined>(undefined);
  readonly failure = signal<unknown>(undefined);
  readonly gone = signal(false);
  readonly loading = signal(false);
  readonly state = signal("");
  /** Of tasks that run over tiles, by id. */
  readonly progress = signal<ReadonlyMap<string, Progress>>(new Map());
  private readonly pages = signal<readonly Page[]>([]);
  private next: string | null = null;
  private readonly changed = new Set<number>();
  private timer: ReturnType<typeof setTimeout> | undefined;
  private readonly ends: (() => void)[] = [];
  private asking = new AbortController();
  /** Events of the job so far: an answer that was on its way meanwhile is older than they. */
  private told = 0;

  readonly tasks = computed<readonly Task[]>(() => this.pages.value.flatMap((page) => page.tasks));

  constructor(readonly id: string) {
    void this.load();
    const receive = (event: StreamEvent) => this.receive(event);
    const again = () => void this.load();
    this.ends.push(onJobEvent(receive, again));
    let seen = returns.peek();
    this.ends.push(
      returns.subscribe((value) => {
        if (value !== seen) void this.load();
        seen = value;
      }),
    );
  }

  stop(): void {
    this.asking.abort();
    clearTimeout(this.timer);
    for (const end of this.ends.splice(0)) end();
  }

  /** All anew: the job and the pages that are shown. */
  async load(): Promise<void> {
    this.asking.abort();
    this.asking = new AbortController();
    const { signal: stopped } = this.asking;
    this.loading.value = true;
    this.changed.clear(); // what changes from now on is read again
    const told = this.told;
    try {
      const job = await api.job(this.id);
      this.followOthers(job);
      const wanted = Math.max(1, this.pages.peek().length);
      const pages: Page[] = [];
      let cursor: string | null = null;
      for (let number = 0; number < wanted; number += 1) {
        const page = await this.page(cursor, stopped);
        pages.push({ cursor, tasks: page.items });
        cursor = page.next;
        if (cursor === null) break;
      }
      this.pages.value = pages;
      this.next = cursor;
      if (told === this.told) this.job.value = job;
      else await this.readJob(job);
      this.failure.value = undefined;
    } catch (error) {
      if (!isAbort(error)) this.failure.value = error;
    } finally {
      this.loading.value = false;
    }
  }

  /** Until no event came in between. */
  private async readJob(job: Job): Promise<void> {
    for (let told = -1; told !== this.told; ) {
      told = this.told;
      this.job.value = job;
      job = await api.job(this.id);
    }
    this.job.value = job;
  }

  async choose(state: string): Promise<void> {
    this.state.value = state;
    this.pages.value = [];
    await this.load();
  }

  async more(): Promise<void> {
    const cursor = this.next;
    if (cursor === null || this.loading.peek()) return;
    this.loading.value = true;
    try {
      const page = await this.page(cursor, this.asking.signal);
      this.pages.value = [...this.pages.peek(), { cursor, tasks: page.items }];
      this.next = page.next;
    } catch (error) {
      if (!isAbort(error)) this.failure.value = error;
    } finally {
      this.loading.value = false;
    }
  }

  private page(cursor: string | null, stopped: AbortSignal) {
    return api.tasks(this.id, { limit: PAGE, cursor, state: this.state.peek() }, stopped);
  }

  /** The stream of one's own jobs doesn't have those of others. */
  private followOthers(job: Job): void {
    if (job.owner === session.peek()?.owner || !isAdmin.peek() || this.ends.length > 2) return;
    this.ends.push(follow("all-events", (event) => this.receive(event), () => void this.load()));
  }

  private receive(event: StreamEvent): void {
    if (event.data["job"] !== this.id && event.data["id"] !== this.id) return;
    if (event.type === "deleted") this.gone.value = true;
    if (event.type === "job") this.told += 1;
    if (event.type === "job" && this.job.peek()) {
      const now = this.job.peek() as Job;
      const { state, counts } = event.data as unknown as Pick<Job, "state" | "counts">;
      this.job.value = { ...now, state, counts: { ...counts, total: now.counts.total } };
      if (state !== now.state) void this.readJob(this.job.peek() as Job).catch(() => undefined);
    }
    if (event.type === "progress") {
      const { id, progress } = event.data as { id: string; progress: Progress };
      this.progress.value = new Map(this.progress.peek()).set(id, progress);
    }
    if (event.type === "task") {
      const { id, state, seq } = event.data as { id: string; state: Task["state"]; seq: number };
      this.changed.add(seq);
      if (this.progress.peek().has(id)) this.progress.value = new Map([...this.progress.peek()].filter(([one]) => one !== id));
      this.show(id, state);
      this.timer ??= setTimeout(() => void this.refresh(), REFRESH_MS);
    }
  }

  /** The state at once; where it ran and what came of it with the next reading. */
  private show(id: string, state: Task["state"]): void {
    const pages = this.pages.peek();
    const place = pages.findIndex((page) => page.tasks.some((task) => task.id === id));
    const page = pages[place];
    if (!page) return;
    const tasks = page.tasks.map((task) => (task.id === id ? { ...task, state } : task));
    this.pages.value = pages.with(place, { ...page, tasks });
  }

  private async refresh(): Promise<void> {
    const pages = this.pages.peek();
    const stale = pages.filter((page) => page.tasks.some((task) => this.changed.has(task.seq))).slice(0, PAGES_A_TURN);
    try {
      for (const page of stale) {
        for (const task of page.tasks) this.changed.delete(task.seq);
        const { items } = await this.page(page.cursor, this.asking.signal);
        this.pages.value = this.pages.peek().map((other) => (other.cursor === page.cursor ? { ...other, tasks: items } : other));
      }
      if (stale.length === 0) this.changed.clear(); // of pages that aren't shown, which are read when they are
      if (this.state.peek() !== "" || (this.pages.peek().length === 0 && this.next === null)) await this.load();
    } catch (error) {
      if (!isAbort(error)) this.failure.value = error;
    } finally {
      this.timer = this.changed.size > 0 ? setTimeout(() => void this.refresh(), REFRESH_MS) : undefined;
    }
  }
}
