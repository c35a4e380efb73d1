// One task: its result beside its input, every attempt on a line of time, its data and errors.

import { useEffect } from "preact/hooks";
import { useSignal } from "@preact/signals";

import * as api from "../../net/api";
import type { Task, TaskDetail } from "../../net/api";
import { Badge, Button, Failure, LinkButton } from "../../ui/basics";
import { Dialog } from "../../ui/dialog";
import { bytes, duration, time } from "../../ui/format";

interface Attempt {
  target?: string | null;
  worker?: string | null;
  started?: string | null;
  ended?: string | null;
  error?: { title: string; detail: string; type: string } | null;
}

interface TaskDialogProps {
  tasks: readonly Task[];
  id: string;
  onChange: (id: string) => void;
  onClose: () => void;
}

export function TaskDialog({ tasks, id, onChange, onClose }: TaskDialogProps) {
  const detail = useSignal<TaskDetail | undefined>(undefined);
  const failure = useSignal<unknown>(undefined);
  const index = tasks.findIndex((task) => task.id === id);
  const listed = tasks[index];
  const load = async () => {
    try {
      detail.value = await api.task(id);
      failure.value = undefined;
    } catch (error) {
      failure.value = error;
    }
  };
  useEffect(() => void load(), [id, listed?.state, listed?.run]);
  const move = (by: number) => {
    const to = tasks[index + by];
    if (to) onChange(to.id);
  };
  const shown = detail.value?.id === id ? detail.value : undefined;
  return (
    <Dialog title={listed?.name ?? "Task"} onClose={onClose} wide>
      <div
        class="task-dialog"
        onKeyDown={(event) => {
          if (event.key === "ArrowLeft") move(-1);
          if (event.key === "ArrowRight") move(1);
        }}
      >
        <div class="task-bar">
          {listed && <Badge tone={listed.state} />}
          <span class="soft numbers">
            {index + 1} of {tasks.length}
          </span>
          <Button icon="back" label="The one before" disabled={index <= 0} onClick={() => move(-1)} />
          <Button icon="arrow" label="The next one" disabled={index >= tasks.length - 1} onClick={() => move(1)} />
        </div>
        {failure.value !== undefined && <Failure error={failure.value} again={load} />}
        {shown && <Pictures task={shown} />}
        {shown?.error && <Reason error={shown.error} />}
        {shown && <Timeline task={shown} />}
        {shown && <Facts task={shown} />}
      </div>
    </Dialog>
  );
}

/** Why an input can't be shown either. */
const UNREADABLE = new Set(["unsupported-format", "corrupt-image", "limit-exceeded", "object-not-found"]);

function Pictures({ task }: { task: TaskDetail }) {
  const readable = !UNREADABLE.has(task.error?.type.split("/").pop() ?? "");
  const hasImage = task.state === "succeeded" && task.outcome?.format;
  return (
    <div class="pictures">
      <figure>
        {readable && <img src={api.thumbnailUrl(task.id, "input", 1024)} alt={`Input: ${task.name}`} />}
        <figcaption class="soft">
          Input <a href={api.inputUrl(task.id)}>as it was sent</a>
        </figcaption>
      </figure>
      {hasImage && (
        <figure>
          <img src={api.thumbnailUrl(task.id, "result", 1024, task.run)} alt={`Result: ${task.name}`} />
          <figcaption class="soft">
            Result <LinkButton href={api.resultUrl(task.id)} kind="quiet" icon="down" download>Download</LinkButton>
          </figcaption>
        </figure>
      )}
    </div>
  );
}

function Reason({ error }: { error: { title: string; detail: string; type: string } }) {
  return (
    <div class="notice bad">
      <p>
        <b>{error.title}.</b> {error.detail} <a href={error.type}>What this means</a>
      </p>
    </div>
  );
}

/** Waiting, then each attempt, as bars on one scale. */
function Timeline({ task }: { task: TaskDetail }) {
  const lost = task.lost_attempts as Attempt[];
  const last: Attempt[] = task.started ? [{ target: task.target, worker: task.worker, started: task.started, ended: task.ended, error: task.error }] : [];
  const attempts = [...lost, ...last];
  const begin = Date.parse(task.queued);
  const end = Math.max(begin + 1, ...attempts.map((one) => Date.parse(one.ended ?? new Date().toISOString())));
  const place = (moment: string | null | undefined) => (100 * (Math.max(begin, moment ? Date.parse(moment) : end) - begin)) / (end - begin);
  return (
    <section aria-labelledby="timeline-title">
      <h3 id="timeline-title">Timeline</h3>
      <ol class="timeline">
        <li>
          <span class="numbers soft">{time(task.queued)}</span>
          <span>queued</span>
        </li>
        {attempts.map((one, number) => (
          <li key={number}>
            <span class="numbers soft">{one.started ? time(one.started) : "–"}</span>
            <span>
              attempt {number + 1} on {one.target ?? "an unknown machine"}
              {one.started && one.ended && `, ${duration((Date.parse(one.ended) - Date.parse(one.started)) / 1000)}`}
              {number < lost.length ? ": lost" : task.ended ? `: ${task.state}` : ": running"}
              {number < lost.length && one.error && <span class="why"> {one.error.detail}</span>}
            </span>
            <span class="track" aria-hidden="true">
              <span class={`bar ${number < lost.length ? "failed" : task.state}`} style={{ marginInlineStart: `${place(one.started)}%`, width: `${Math.max(1, place(one.ended) - place(one.started))}%` }} />
            </span>
          </li>
        ))}
      </ol>
      {task.why && (
        <p class="soft">
          It ran on {task.target}, since {task.why}.
        </p>
      )}
    </section>
  );
}

function Facts({ task }: { task: TaskDetail }) {
  const { outcome } = task;
  if (!outcome) return null;
  const timings = Object.entries(outcome.timings ?? {});
  const hasData = Object.keys(outcome.data ?? {}).length > 0;
  return (
    <section aria-labelledby="outcome-title">
      <h3 id="outcome-title">Outcome</h3>
      <dl class="facts">
        {outcome.source_size && (
          <div>
            <dt>Source</dt>
            <dd class="numbers">
              {outcome.source_size.join(" × ")} {outcome.source_format}
            </dd>
          </div>
        )}
        {outcome.size && (
          <div>
            <dt>Result</dt>
            <dd class="numbers">
              {outcome.size.join(" × ")} {outcome.format}
              {outcome.bytes != null && `, ${bytes(outcome.bytes)}`}
            </dd>
          </div>
        )}
        {timings.map(([name, value]) => (
          <div key={name}>
            <dt>{name.replace("_ms", "")}</dt>
            <dd class="numbers">{value.toFixed(1)} ms</dd>
          </div>
        ))}
        {task.cost > 0 && (
          <div>
            <dt>Cost</dt>
            <dd class="numbers">{task.cost.toFixed(6)}</dd>
          </div>
        )}
      </dl>
      {hasData && (
        <details>
          <summary>Data</summary>
          <pre tabIndex={0}>{JSON.stringify(outcome.data, null, 2)}</pre>
        </details>
      )}
    </section>
  );
}
