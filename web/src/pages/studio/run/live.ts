// The tasks of the job that is shown, kept up by its events: an event changes a task's state at once, and the page of the
// list that it stands on is read again soon after for where it ran and what came of it.

import { signal } from "@preact/signals";

import * as api from "../../../net/api";
import { Problem, reachable } from "../../../net/http";
import { openStreams, type StreamEvent } from "../../../net/stream";
import { isUnreadable } from "../../../ui/viewer/stage";
import { onJobEvent } from "../../../state/jobs-live";
import type { Picture } from "../images/model";
import { Pace } from "./pace";

/** Of a task what a grid shows; its data is read when it is opened. */
export interface Row {
  id: string;
  seq: number;
  name: string;
  state: api.TaskState;
  run: number;
  attempts: number;
  target: string | null;
  error: string | null;
  /** Its input is no image that can be read. */
  unreadable: boolean;
  /** Whether there is an image, once it has succeeded; null until that was read. */
  image: boolean | null;
}

/** A task's state for people. */
export const TASK_WORDS: Record<string, string> = { queued: "waits", running: "running", succeeded: "done", failed: "failed", cancelled: "cancelled" };

export type Counts = Record<api.TaskState, number>;

const PAGE = 250;
/** Tasks that are listed here; the Jobs page lists the others. */
export const MOST_ROWS = 100_000;
const REFRESH_MS = 700;
const TELL_MS = 100;
/** How often a job that runs is read while there is no stream (a proxy that holds streams back). */
const WITHOUT_STREAM_MS = 4_000;
const ENDED = new Set<string>(["succeeded", "failed", "cancelled"]);
const RANK: Record<string, number> = { queued: 0, running: 1, succeeded: 2, failed: 2, cancelled: 2 };

export const isEnded = (state: string): boolean => ENDED.has(state);

export class LiveJob {
  readonly job = signal<api.Job | null>(null);
  readonly rows = signal<readonly Row[]>([]);
  readonly counts = signal<Counts>({ queued: 0, running: 0, succeeded: 0, failed: 0, cancelled: 0 });
  /** The job was deleted, or belongs to somebody else. */
  readonly gone = signal(false);
  readonly pace = new Pace();

  private list: Row[] = [];
  /** Cursor by page; the first has none. */
  private readonly cursors: (string | null)[] = [null];
  private readonly dirty = new Set<number>();
  private early = new Map<number, api.TaskState>();
  private reading = false;
  /** An event of the job came while it was read: the answer may be older. */
  private overtaken = false;
  private closed = false;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private telling: ReturnType<typeof setTimeout> | undefined;
  private readonly stop: () => void;
  private readonly watch: ReturnType<typeof setInterval>;
  private readonly tally: Counts = { queued: 0, running: 0, succeeded: 0, failed: 0, cancelled: 0 };

  constructor(
    readonly id: string,
    /** The images of this page that its tasks are of, by their number; empty for a job that was found again. */
    readonly order: readonly Picture[],
    private readonly onState: (seq: number, state: api.TaskState) => void,
    private readonly onDeleted: () => void,
  ) {
    this.stop = onJobEvent((event) => this.receive(event), () => this.readAll());
    this.watch = setInterval(() => {
      if (!openStreams.peek().has("events") && !isEnded(this.job.peek()?.state ?? "") && reachable.peek()) this.readAll();
    }, WITHOUT_STREAM_MS);
    this.readAll();
  }

  close(): void {
    this.closed = true;
    this.stop();
    clearInterval(this.watch);
    clearTimeout(this.timer);
    clearTimeout(this.telling);
  }

  /** After a break, a retry, or at first: everything that may have changed. */
  readAll(): void {
    const pages = Math.max(1, Math.ceil(this.list.length / PAGE));
    for (let page = 0; page < pages; page += 1) this.dirty.add(page);
    this.soon(0);
  }

  private receive(event: StreamEvent): void {
    const data = event.data as { job?: string; id?: string; state?: string; seq?: number };
    if (event.type === "task" && data.job === this.id && data.seq !== undefined) {
      this.change(data.seq, data.state as api.TaskState);
      this.dirty.add(Math.floor(data.seq / PAGE));
      this.soon(REFRESH_MS);
    } else if (event.type === "job" && data.id === this.id) {
      this.overtaken = this.reading;
      const job = this.job.peek();
      const told = (event.data as { counts: Counts }).counts; // without a total
      const counts = { ...told, total: told.queued + told.running + told.succeeded + told.failed + told.cancelled };
      if (job) this.job.value = { ...job, state: data.state as api.JobState, counts };
      this.compare(data.state ?? "", counts);
    } else if (event.type === "deleted" && (data.id === this.id || data.job === this.id)) {
      this.vanish();
    }
  }

  /** What changes many tasks at once (cancel, retry, new pages) is told by the job alone. */
  private compare(state: string, counts: api.Job["counts"]): void {
    if (counts.total > this.list.length) {
      this.dirty.add(this.cursors.length - 1);
      return this.soon(REFRESH_MS);
    }
    const { tally } = this;
    const differs = counts.failed !== tally.failed || counts.cancelled !== tally.cancelled || counts.succeeded !== tally.succeeded;
    if (counts.queued > tally.queued || (isEnded(state) && differs)) this.readAll();
  }

  private change(seq: number, state: api.TaskState): void {
    const row = this.list[seq];
    if (row === undefined) this.early.set(seq, state);
    else this.put({ ...row, state });
  }

  private put(row: Row): void {
    const before = this.list[row.seq];
    if (before) this.tally[before.state] -= 1;
    this.tally[row.state] += 1;
    this.list[row.seq] = row;
    if (before?.state !== row.state) {
      if (before && isEnded(row.state) && !isEnded(before.state)) this.pace.ended(Date.now());
      if (row.state === "running") this.pace.start(Date.now());
      this.onState(row.seq, row.state);
    }
    this.telling ??= setTimeout(() => this.tell(), TELL_MS);
  }

  private tell(): void {
    this.telling = undefined;
    if (this.closed) return;
    this.rows.value = [...this.list];
    this.counts.value = { ...this.tally };
  }

  private soon(after: number): void {
    if (this.closed || this.reading) return;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => void this.read(), after);
  }

  private async read(): Promise<void> {
    this.reading = true;
    this.overtaken = false;
    let wait = REFRESH_MS;
    try {
      this.job.value = await api.job(this.id);
      while (this.dirty.size > 0 && !this.closed) {
        const page = Math.min(...this.dirty);
        this.dirty.delete(page);
        await this.readPage(page).catch((error: unknown) => {
          this.dirty.add(page);
          throw error;
        });
      }
    } catch (error) {
      if (error instanceof Problem && error.status === 404) return this.vanish();
      // Nobody answers, or not now: all is read again when the stream is back, and until then after a while.
      wait = reachable.peek() ? 3_000 : 1_000;
      this.dirty.add(0);
    } finally {
      this.reading = false;
    }
    if (this.dirty.size > 0 || this.overtaken) this.soon(wait);
  }

  private async readPage(page: number): Promise<void> {
    const cursor = this.cursors[page];
    if (cursor === undefined) return; // its turn comes when the page before it was read
    const { items, next } = await api.tasks(this.id, { limit: PAGE, cursor });
    if (this.closed) return;
    for (const task of items) this.merge(task, this.dirty.has(page));
    if (next !== null && (page + 1) * PAGE < MOST_ROWS && this.cursors[page + 1] === undefined) {
      this.cursors[page + 1] = next;
      this.dirty.add(page + 1);
    }
  }

  private merge(task: api.Task, changing: boolean): void {
    const before = this.list[task.seq];
    let state = task.state;
    const told = before?.run === task.run ? before.state : before ? undefined : this.early.get(task.seq);
    // An event may be ahead of the answer; the page is read again then, and that settles it.
    if (changing && told !== undefined && (RANK[told] ?? 0) > (RANK[state] ?? 0)) state = told;
    this.early.delete(task.seq);
    this.put({
      id: task.id,
      seq: task.seq,
      name: task.name,
      state,
      run: task.run,
      attempts: task.attempts,
      target: task.target,
      error: task.error ? task.error.detail || task.error.title : null,
      unreadable: isUnreadable(task.error),
      image: task.outcome ? task.outcome.format != null : null,
    });
  }

  private vanish(): void {
    this.gone.value = true;
    this.close();
    this.onDeleted();
  }
}
