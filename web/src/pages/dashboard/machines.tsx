// Each machine with its load, threshold and gate; each overflow target with its circuit and what it cost.

import { Badge, Empty, Progress } from "../../ui/basics";
import { Chart } from "../../ui/chart";
import { bytes, count, duration } from "../../ui/format";
import { machines, targets, type Machine, type Target } from "./state";

const KINDS: Record<string, string> = { here: "this service", joined: "joined", service: "service" };
const SHOWN_S = 300;

export function Machines() {
  return (
    <section aria-labelledby="machines-title">
      <h2 id="machines-title">Machines</h2>
      <div class="machines">
        {machines.value.map((machine) => (
          <MachineCard key={`${machine.replica ?? ""}/${machine.name}`} machine={machine} />
        ))}
      </div>
    </section>
  );
}

function MachineCard({ machine }: { machine: Machine }) {
  const { now, target } = machine;
  return (
    <article class="card machine" aria-label={machine.name}>
      <header>
        <h3>{machine.name}</h3>
        <span class="soft">
          {KINDS[machine.kind] ?? machine.kind} · {machine.cores} cores
        </span>
        <GateBadge target={target} draining={machine.draining ?? machine.dispatcher?.draining ?? false} />
      </header>
      {target && <Slots target={target} />}
      {target && !target.gate.open && <p class="why">{target.gate.reason}</p>}
      <LoadChart machine={machine} what="cpu" />
      <LoadChart machine={machine} what="ram" />
      <dl class="facts">
        {now && (
          <div>
            <dt>Own memory</dt>
            <dd class="numbers">{bytes(now.own_rss)}</dd>
          </div>
        )}
        {machine.latency_ms != null && (
          <div>
            <dt>Way there</dt>
            <dd class="numbers">{duration(machine.latency_ms / 1000)}</dd>
          </div>
        )}
        <div>
          <dt>Version</dt>
          <dd>{machine.version}</dd>
        </div>
        {machine.extras && machine.extras.length > 0 && (
          <div>
            <dt>Extras</dt>
            <dd>{machine.extras.join(", ")}</dd>
          </div>
        )}
        {(target?.restarts ?? 0) > 0 && (
          <div>
            <dt>Restarts of processes</dt>
            <dd class="numbers">{count(target?.restarts ?? 0)}</dd>
          </div>
        )}
      </dl>
    </article>
  );
}

function GateBadge({ target, draining }: { target: Target | undefined; draining: boolean }) {
  if (draining) return <Badge tone="shut">draining</Badge>;
  if (!target) return <Badge tone="cancelled">takes no tasks</Badge>;
  return <Badge tone={target.gate.open ? "open" : "shut"}>{target.gate.open ? "gate open" : "gate shut"}</Badge>;
}

function Slots({ target }: { target: Target }) {
  return (
    <div class="slots">
      <Progress value={target.running} most={target.capacity} label={`Slots of ${target.name}`} parts={[{ name: "running", value: target.running }]} />
      <span class="numbers">
        {target.running} of {target.capacity} {target.capacity === 1 ? "slot" : "slots"}
      </span>
    </div>
  );
}

/** Others' load and our own, stacked, under the threshold that the gate watches. */
function LoadChart({ machine, what }: { machine: Machine; what: "cpu" | "ram" }) {
  const columns = machine.history ?? {};
  const from = Math.max(0, (columns["at"]?.length ?? 0) - SHOWN_S);
  const at = (columns["at"] ?? []).slice(from) as number[];
  const host = (columns[`host_${what}`] ?? []).slice(from);
  const own = (columns[`own_${what}`] ?? []).slice(from);
  const threshold = what === "cpu" ? machine.target?.gate.cpu_threshold : machine.target?.gate.ram_threshold;
  const percent = (value: number) => `${Math.round(value)} %`;
  return (
    <Chart
      title={what === "cpu" ? "CPU" : "RAM"}
      small
      height={64}
      most={100}
      at={at}
      show={percent}
      lines={[
        { label: "all", color: "--soft", values: host, fill: true },
        { label: "ours", color: "--accent", values: own, fill: true },
      ]}
      marks={threshold === undefined ? [] : [{ value: threshold, label: `gate ${threshold} %` }]}
    />
  );
}

export function Overflow() {
  const found = targets.value.filter((one) => one.overflow);
  return (
    <section aria-labelledby="overflow-title">
      <h2 id="overflow-title">Overflow</h2>
      {found.length === 0 ? (
        <Empty icon="bolt" title="No overflow is set up">
          <p>Serverless containers and functions can take tasks while these machines are full; docs/overflow.md says how.</p>
        </Empty>
      ) : (
        <div class="scrolls card">
          <table class="table">
            <thead>
              <tr>
                <th scope="col">Target</th>
                <th scope="col">Gate</th>
                <th scope="col">Circuit</th>
                <th scope="col" class="number">Calls now</th>
                <th scope="col" class="number">Mean call</th>
                <th scope="col" class="number">Calls today</th>
                <th scope="col" class="number">Failed</th>
                <th scope="col" class="number">Cost this hour</th>
                <th scope="col" class="number">Cost today</th>
                <th scope="col" class="number">Budget left</th>
              </tr>
            </thead>
            <tbody>
              {found.map((one) => (
                <OverflowRow key={one.name} target={one} />
              ))}
            </tbody>
          </table>
        </div>
      )}
    </section>
  );
}

function OverflowRow({ target }: { target: Target }) {
  const { gate } = target;
  const money = (value: number | null | undefined) => (value == null ? "–" : value.toFixed(value < 1 ? 4 : 2));
  const left = [gate.hour?.budget_left, gate.day?.budget_left].filter((value): value is number => value != null);
  return (
    <tr>
      <th scope="row">{target.name}</th>
      <td>
        <Badge tone={gate.open ? "open" : "shut"}>{gate.open ? "open" : "shut"}</Badge> <span class="soft">{gate.reason}</span>
      </td>
      <td>
        <Badge tone={gate.circuit === "closed" ? "open" : "failed"}>{gate.circuit ?? "–"}</Badge> <span class="soft">{gate.circuit_reason}</span>
      </td>
      <td class="number">
        {target.running} of {target.capacity}
      </td>
      <td class="number">{gate.mean_s == null ? "–" : duration(gate.mean_s)}</td>
      <td class="number">{count(gate.day?.calls ?? 0)}</td>
      <td class="number">{count(gate.day?.failures ?? 0)}</td>
      <td class="number">{money(gate.hour?.cost)}</td>
      <td class="number">{money(gate.day?.cost)}</td>
      <td class="number">{left.length === 0 ? "no limit" : money(Math.min(...left))}</td>
    </tr>
  );
}
