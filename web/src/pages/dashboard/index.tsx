// The fleet as it is now, and its last hour or day.

import type { ComponentChildren } from "preact";
import { useEffect } from "preact/hooks";

import { Problem } from "../../net/http";
import { isAdmin, session } from "../../state/session";
import { Empty, Failure, Progress } from "../../ui/basics";
import { Chart } from "../../ui/chart";
import { count, duration } from "../../ui/format";
import { Machines, Overflow } from "./machines";
import { choose, errorsByReason, failure, loaded, machines, range, shares, shown, start, sum, targets, type Columns, type Range } from "./state";

const RANGES: [Range, string][] = [
  ["minutes", "5 minutes"],
  ["hour", "Hour"],
  ["day", "Day"],
];

export default function Dashboard() {
  useEffect(() => (isAdmin.value ? start() : undefined), [isAdmin.value]);
  if (session.value && !isAdmin.value) return <NotAdmin />;
  return (
    <main id="content" class="page dashboard" tabIndex={-1} aria-busy={!loaded.value && failure.value === undefined}>
      <header class="page-head">
        <h1>Dashboard</h1>
        <div class="segments" role="group" aria-label="Time that is shown">
          {RANGES.map(([name, label]) => (
            <button key={name} type="button" class="button" aria-pressed={range.value === name} onClick={() => void choose(name).catch((error: unknown) => (failure.value = error))}>
              {label}
            </button>
          ))}
        </div>
      </header>
      {failure.value instanceof Problem && <Failure error={failure.value} />}
      <Tiles />
      <section class="charts" aria-label="Over time">
        <Charts columns={shown.value} />
      </section>
      <Machines />
      <Shares />
      <Overflow />
      <Errors />
    </main>
  );
}

function NotAdmin() {
  return (
    <main id="content" class="page" tabIndex={-1}>
      <h1>Dashboard</h1>
      <Empty icon="dashboard" title="The dashboard needs the scope admin">
        <p>
          It shows the work of everybody. Sign in with a token that has it: <code>pixelmill tokens create NAME --scope admin</code>
        </p>
      </Empty>
    </main>
  );
}

const perSecond = (columns: Columns): number => (range.value === "day" ? 60 : 1) * Math.max(1, Math.min(10, columns["at"]?.length ?? 1));

/** Mean of the last rows. */
function recently(columns: Columns, names: string[]): number {
  const rows = Math.min(10, columns["at"]?.length ?? 0);
  const total = names.flatMap((name) => (columns[name] ?? []).slice(-rows)).reduce<number>((all, value) => all + (value ?? 0), 0);
  return total / perSecond(columns);
}

function Tiles() {
  const columns = shown.value;
  const ended = sum("succeeded") + sum("failed");
  const away = sum("overflow");
  const waiting = machines.value.flatMap((one) => (one.dispatcher ? [one.dispatcher] : []));
  const last = (name: string): number => columns[name]?.at(-1) ?? 0;
  const cost = targets.value.reduce((all, one) => all + (one.gate.day?.cost ?? 0), 0);
  return (
    <dl class="tiles">
      <Tile name="Throughput" value={`${recently(columns, ["succeeded", "failed"]).toFixed(1)}/s`} more={`${count(ended)} tasks in this time`} />
      <Tile name="Running" value={count(targets.value.reduce((all, one) => all + one.running, 0))} more={`of ${count(targets.value.reduce((all, one) => all + one.capacity, 0))} slots`} />
      <Tile name="Queue" value={count(last("waiting"))} more={last("waiting") > 0 ? `the oldest waits ${duration(last("oldest_s"))}` : "nothing waits"} />
      <Tile name="On own machines" value={ended + away > 0 ? `${Math.round(100 * (1 - away / Math.max(1, ended)))} %` : "–"} more={`${count(away)} in overflow`} />
      <Tile name="Failed" value={count(sum("failed"))} more={ended > 0 ? `${((100 * sum("failed")) / ended).toFixed(1)} % of all` : "of none"} bad={sum("failed") > 0} />
      <Tile name="Cost today" value={targets.value.some((one) => one.overflow) ? cost.toFixed(cost < 1 ? 4 : 2) : "–"} more={budget()} />
      {waiting.some((one) => one.draining) && <Tile name="State" value="draining" more="a service is shutting down" bad />}
    </dl>
  );
}

function budget(): string {
  const left = targets.value.map((one) => one.gate.day?.budget_left).find((value) => value !== undefined);
  if (left === undefined) return "no overflow is set up";
  return left === null ? "no limit for the day" : `${left.toFixed(2)} left of the day's budget`;
}

function Tile({ name, value, more, bad = false }: { name: string; value: string; more: ComponentChildren; bad?: boolean }) {
  return (
    <div class={bad ? "tile card bad" : "tile card"}>
      <dt>{name}</dt>
      <dd>
        <b class="numbers">{value}</b>
        <span class="soft">{more}</span>
      </dd>
    </div>
  );
}

function Charts({ columns }: { columns: Columns }) {
  const at = (columns["at"] ?? []) as number[];
  const values = (name: string) => columns[name] ?? [];
  const step = range.value === "day" ? 60 : 1;
  const rate = (name: string) => (step === 1 ? values(name) : values(name).map((value) => (value === null ? null : value / step)));
  const seconds = (value: number) => duration(value);
  const whole = (value: number) => (Number.isInteger(value) ? count(value) : value.toFixed(1));
  return (
    <>
      <Chart
        title="Tasks a second"
        at={at}
        show={whole}
        together="time"
        lines={[
          { label: "done", color: "--good", values: rate("succeeded"), fill: true },
          { label: "of these in overflow", color: "--busy", values: rate("overflow") },
          { label: "failed", color: "--bad", values: rate("failed") },
        ]}
      />
      <Chart
        title="Queue"
        at={at}
        show={whole}
        together="time"
        lines={[
          { label: "waiting", color: "--warn", values: values("waiting"), fill: true },
          { label: "running", color: "--accent", values: values("running") },
          ...(columns["throttled"] ? [{ label: "throttled", color: "--bad", values: rate("throttled") }] : []),
        ]}
      />
      <Chart title="Age of the queue's head" at={at} show={seconds} together="time" lines={[{ label: "oldest", color: "--warn", values: values("oldest_s"), fill: true }]} />
      <Chart title="Wait before a task starts" at={at} show={seconds} least={0.1} together="time" lines={percentiles("wait", columns)} />
      <Chart title="Time that a task runs" at={at} show={seconds} least={0.1} together="time" lines={percentiles("run", columns)} />
      {columns["cost"] && <Chart title="Cost of overflow" at={at} show={(value) => value.toFixed(5)} least={0.0001} together="time" lines={[{ label: "each second", color: "--busy", values: rate("cost"), fill: true }]} />}
    </>
  );
}

function percentiles(name: string, columns: Columns) {
  return [
    { label: "p50", color: "--good", values: columns[`${name}_p50_s`] ?? [] },
    { label: "p95", color: "--warn", values: columns[`${name}_p95_s`] ?? [] },
    { label: "p99", color: "--bad", values: columns[`${name}_p99_s`] ?? [] },
  ];
}

/** Where the work of the last hour (or day) was done. */
function Shares() {
  const found = Object.entries(shares.value).sort((one, other) => other[1] - one[1]);
  const total = found.reduce((all, [, number]) => all + number, 0);
  const away = new Set(targets.value.filter((one) => one.overflow).map((one) => one.name));
  if (total === 0) return null;
  return (
    <section class="card shares" aria-labelledby="shares-title">
      <h2 id="shares-title">Work by target, {range.value === "day" ? "last day" : "last hour"}</h2>
      <ul>
        {found.map(([name, number]) => (
          <li key={name}>
            <span>
              {name} <span class="soft">{away.has(name) ? "overflow" : "own"}</span>
            </span>
            <Progress value={number} most={total} label={`Share of ${name}`} parts={[{ name: away.has(name) ? "running" : "succeeded", value: number }]} />
            <span class="numbers">
              {count(number)} <span class="soft">{((100 * number) / total).toFixed(1)} %</span>
            </span>
          </li>
        ))}
      </ul>
    </section>
  );
}

function Errors() {
  const found = errorsByReason.value;
  if (found.length === 0) return null;
  return (
    <section class="card errors" aria-labelledby="errors-title">
      <h2 id="errors-title">Failures by reason</h2>
      <table class="table">
        <thead>
          <tr>
            <th scope="col">Reason</th>
            <th scope="col" class="number">
              Tasks
            </th>
          </tr>
        </thead>
        <tbody>
          {found.map(([reason, number]) => (
            <tr key={reason}>
              <td>
                <a href={`/v1/problems/${reason}`}>{reason}</a>
              </td>
              <td class="number">{count(number)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}
