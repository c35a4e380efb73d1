// What the dashboard shows: an hour by second (or a day by minute), and each machine now. New seconds come by the stream.

import { computed, signal } from "@preact/signals";

import * as api from "../../net/api";
import { returns } from "../../net/http";
import { follow, type StreamEvent } from "../../net/stream";

export type Columns = Record<string, (number | null)[]>;
export type Range = "minutes" | "hour" | "day";

export interface Gate {
  open: boolean;
  reason: string;
  rule: string;
  cpu_threshold?: number;
  ram_threshold?: number;
  circuit?: string;
  circuit_reason?: string;
  mean_s?: number | null;
  hour?: Spent;
  day?: Spent;
}

export interface Spent {
  calls: number;
  failures: number;
  cost: number;
  reserved: number;
  budget_left: number | null;
}

export interface Target {
  name: string;
  running: number;
  capacity: number;
  reserved: number;
  restarts: number;
  healthy: boolean;
  overflow: boolean;
  gate: Gate;
}

export interface Load {
  at: number;
  host_cpu: number;
  host_ram: number;
  own_cpu: number;
  own_ram: number;
  own_rss: number;
}

export interface Machine {
  name: string;
  kind: string;
  version: string;
  cores: number;
  extras?: string[];
  libraries?: Record<string, string>;
  now: Load | null;
  history?: Columns;
  target?: Target;
  dispatcher?: { draining: boolean; waiting: Record<string, number>; oldest_wait_s: number; targets: Target[] };
  latency_ms?: number | null;
  draining?: boolean;
  replica?: string;
  age_s?: number;
}

interface Row {
  [column: string]: number | null;
}

export interface SampleData {
  at: number;
  nodes: Machine[];
  row: (Row & { reasons?: Record<string, number>; targets?: Record<string, number> }) | null;
  jobs_running?: number;
}

const MINUTES_S = 300;
const KEPT = 3_600;

export const range = signal<Range>("minutes");
export const machines = signal<Machine[]>([]);
export const hour = signal<Columns>({ at: [] });
export const day = signal<Columns | undefined>(undefined);
export const errors = signal<{ at: number; reasons: Record<string, number> }[]>([]);
/** Tasks that ended, by where they ran: of the range as it was read, and what came since. */
export const shares = signal<Record<string, number>>({});
export const failure = signal<unknown>(undefined);
export const loaded = signal(false);
/** When the last sample came, in milliseconds; the page says when they stop. */
export const lastSample = signal(0);

const loads = new Map<string, Columns>();

/** The columns of the range that is shown. */
export const shown = computed<Columns>(() => {
  if (range.value === "day") return day.value ?? { at: [] };
  if (range.value === "hour") return hour.value;
  const { at = [] } = hour.value;
  const last = at.at(-1) ?? 0;
  const from = at.findIndex((moment) => (moment ?? 0) > last - MINUTES_S);
  return Object.fromEntries(Object.entries(hour.value).map(([name, values]) => [name, values.slice(Math.max(0, from))]));
});

/** Every target of every service, own ones first. */
export const targets = computed<Target[]>(() => {
  const all = machines.value.flatMap((one) => one.dispatcher?.targets ?? []);
  return [...all].sort((one, other) => Number(one.overflow) - Number(other.overflow));
});

export const errorsByReason = computed(() => {
  const from = shown.value["at"]?.[0] ?? 0;
  const sums = new Map<string, number>();
  for (const { at, reasons } of errors.value) {
    if (at < from) continue;
    for (const [reason, number] of Object.entries(reasons)) sums.set(reason, (sums.get(reason) ?? 0) + number);
  }
  return [...sums].sort((one, other) => other[1] - one[1]);
});

export function sum(column: string): number {
  return (shown.value[column] ?? []).reduce<number>((total, value) => total + (value ?? 0), 0);
}

export async function load(): Promise<void> {
  try {
    const [history, nodes] = await Promise.all([api.history("hour"), api.nodes()]);
    hour.value = history.columns as Columns;
    errors.value = history.errors as { at: number; reasons: Record<string, number> }[];
    shares.value = history.targets;
    machines.value = (nodes.items as unknown as Machine[]).map(remembered);
    failure.value = undefined;
    loaded.value = true;
  } catch (error) {
    failure.value = error;
  }
}

export async function choose(wanted: Range): Promise<void> {
  if (wanted === "day") {
    const table = await api.history("day");
    day.value = table.columns as Columns;
    errors.value = table.errors as { at: number; reasons: Record<string, number> }[];
    shares.value = table.targets;
  } else if (range.peek() === "day") {
    await load();
  }
  range.value = wanted;
}

/** Follow the fleet until the returned function is called. */
export function start(): () => void {
  void load();
  const stop = follow("metrics", receive, () => void load());
  let seen = returns.peek();
  const unsubscribe = returns.subscribe((value) => {
    if (value !== seen) void load();
    seen = value;
  });
  return () => {
    stop();
    unsubscribe();
  };
}

function receive(event: StreamEvent): void {
  if (event.type !== "sample") return;
  const sample = event.data as unknown as SampleData;
  lastSample.value = Date.now();
  machines.value = sample.nodes.map(remembered);
  if (sample.row) append(sample.row);
}

function append({ reasons, targets: ended, ...row }: NonNullable<SampleData["row"]>): void {
  const at = row["at"] ?? 0;
  const before = hour.peek();
  if (at === null || at <= (before["at"]?.at(-1) ?? 0)) return;
  const names = new Set([...Object.keys(before), ...Object.keys(row)]);
  const next: Columns = {};
  for (const name of names) next[name] = [...(before[name] ?? []), row[name] ?? null].slice(-KEPT);
  hour.value = next;
  if (ended) shares.value = Object.fromEntries([...new Set([...Object.keys(shares.peek()), ...Object.keys(ended)])].map((name) => [name, (shares.peek()[name] ?? 0) + (ended[name] ?? 0)]));
  if (range.peek() === "day") return;
  if (reasons && Object.keys(reasons).length > 0) errors.value = [...errors.peek(), { at, reasons }].slice(-KEPT);
}

const LOADS = ["at", "host_cpu", "host_ram", "own_cpu", "own_ram"] as const;

/** A machine with its samples of the last hour, which the stream doesn't repeat. */
function remembered(machine: Machine): Machine {
  const key = `${machine.replica ?? ""}/${machine.name}`;
  let columns = machine.history && (machine.history["at"]?.length ?? 0) > 0 ? machine.history : loads.get(key);
  columns ??= Object.fromEntries(LOADS.map((name) => [name, []]));
  const { now } = machine;
  if (now && now.at > (columns["at"]?.at(-1) ?? 0)) {
    const known = columns;
    columns = Object.fromEntries(LOADS.map((name) => [name, [...(known[name] ?? []), now[name]].slice(-KEPT)]));
  }
  loads.set(key, columns);
  return { ...machine, history: columns };
}
