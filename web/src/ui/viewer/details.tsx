// What is known of a task, in words: its error, sizes, times, where it ran, its data.

import type * as api from "../../net/api";
import { Badge, CopyButton } from "../basics";
import { bytes, count, duration, moment } from "../format";
import { Icon } from "../icons";
import { OutcomeData } from "../outcome-data";

export function Details({ task }: { task: api.TaskDetail }) {
  const { outcome, error } = task;
  return (
    <div class="viewer-details">
      {error && (
        <div class="viewer-error" role="note">
          <Icon name="warning" />
          <div>
            <h3>{error.title}</h3>
            {error.detail && <p>{error.detail}</p>}
          </div>
        </div>
      )}
      {outcome && <Captions data={outcome.data} />}
      <section>
        <h3>What became of it</h3>
        <dl class="facts">
          <Fact name="State">
            <Badge tone={task.state} />
          </Fact>
          {outcome && <Fact name="Input">{`${shape(outcome.source_size)} ${outcome.source_format}`}</Fact>}
          {outcome?.format && <Fact name="Result">{`${shape(outcome.size)} ${outcome.format}${outcome.bytes === null ? "" : `, ${bytes(outcome.bytes)}`}${(outcome.frames ?? 1) > 1 ? `, ${count(outcome.frames ?? 1)} frames` : ""}`}</Fact>}
          {outcome && !outcome.format && <Fact name="Result">data only</Fact>}
        </dl>
      </section>
      <section>
        <h3>Where and when</h3>
        <dl class="facts">
          {task.target && <Fact name="Ran on">{`${task.target}${task.worker ? `, process ${task.worker}` : ""}`}</Fact>}
          {task.why && <Fact name="Since">{task.why}</Fact>}
          <Fact name="Attempts">{`${count(task.attempts)}${task.run > 1 ? `, run ${task.run}` : ""}`}</Fact>
          <Fact name="Queued">{moment(task.queued)}</Fact>
          {task.started && <Fact name="Waited">{seconds(task.queued, task.started)}</Fact>}
          {task.started && task.ended && <Fact name="Took">{seconds(task.started, task.ended)}</Fact>}
          {(task.cost ?? 0) > 0 && <Fact name="Cost">{String(task.cost)}</Fact>}
        </dl>
        {outcome && <Timings timings={outcome.timings} />}
      </section>
      {task.lost_attempts.length > 0 && <Lost attempts={task.lost_attempts} />}
      {outcome && Object.keys(outcome.data).length > 0 && <OutcomeData data={outcome.data} />}
      <details class="viewer-json">
        <summary>All of it as JSON</summary>
        <CopyButton text={() => JSON.stringify(task, null, 2)} />
        <pre tabIndex={0} aria-label="The task as JSON">{JSON.stringify(task, null, 2)}</pre>
      </details>
    </div>
  );
}

function Fact({ name, children }: { name: string; children: preact.ComponentChildren }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd class="numbers">{children}</dd>
    </div>
  );
}

/** What says the most comes first and large. */
function Captions({ data }: { data: Readonly<Record<string, unknown>> }) {
  const found = Object.values(data).flatMap((value) => {
    const caption = (value as { caption?: unknown } | null)?.caption;
    return typeof caption === "string" ? [caption] : [];
  });
  return found.length > 0 ? (
    <>
      {found.map((caption) => (
        <p key={caption} class="viewer-caption">
          {caption}
        </p>
      ))}
    </>
  ) : null;
}

function Timings({ timings }: { timings: Readonly<Record<string, number>> }) {
  const shown = Object.entries(timings).filter(([name]) => name.endsWith("_ms"));
  const most = Math.max(1, ...shown.map(([, value]) => value));
  if (shown.length === 0) return null;
  return (
    <table class="timings">
      <caption>Timings</caption>
      <tbody>
        {shown.map(([name, value]) => (
          <tr key={name}>
            <th scope="row">{name.replace(/_ms$/, "").replaceAll("_", " ")}</th>
            <td class="timing-bar" aria-hidden="true">
              <span style={{ width: `${(100 * value) / most}%` }} />
            </td>
            <td class="numbers">{duration(value / 1000)}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function Lost({ attempts }: { attempts: api.TaskDetail["lost_attempts"] }) {
  return (
    <section>
      <h3>Attempts that were lost</h3>
      <ol class="lost-attempts">
        {attempts.map((attempt, index) => {
          const { target, error, started, ended } = attempt as { target?: string; error?: { title?: string; detail?: string }; started?: string; ended?: string };
          return (
            <li key={index}>
              <strong>{target ?? "unknown place"}</strong> {started && <span class="soft numbers">{moment(started)}{ended ? `, after ${seconds(started, ended)}` : ""}</span>}
              <p>{error?.detail || error?.title || "It gave no answer."}</p>
            </li>
          );
        })}
      </ol>
    </section>
  );
}

const shape = (size: readonly number[] | null): string => (size ? `${size[0]} × ${size[1]}` : "");
const seconds = (from: string, to: string): string => duration(Math.max(0, Date.parse(to) - Date.parse(from)) / 1000);
