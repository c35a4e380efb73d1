// One job: how far it is, its tasks, and what became of each.

import { useSignal } from "@preact/signals";
import { useCallback, useEffect, useMemo, useRef } from "preact/hooks";

import * as api from "../../net/api";
import type { Job, Task } from "../../net/api";
import { Problem } from "../../net/http";
import { go } from "../../state/router";
import { Badge, CopyButton, Empty, Failure, LinkButton } from "../../ui/basics";
import { Confirm } from "../../ui/dialog";
import { count, duration, moment, plural } from "../../ui/format";
import { Icon } from "../../ui/icons";
import { Viewer } from "../../ui/viewer/viewer";
import { Virtual } from "../../ui/virtual";
import { addressOf } from "./found-state";
import { JobActions, JobProgress, nameOf } from "./list";
import { JobView, type Progress } from "./tasks-state";

/** More tasks are read when the viewer comes so close to the last of those that are here. */
const NEAR_END = 5;
const STATES = ["", "queued", "running", "succeeded", "failed", "cancelled"] as const;

export function JobDetail({ id }: { id: string }) {
  const view = useMemo(() => new JobView(id), [id]);
  useEffect(() => () => view.stop(), [view]);
  const opened = useSignal<string | undefined>(undefined);
  const deleting = useSignal(false);
  const reveal = useSignal<{ index: number } | undefined>(undefined);
  const wanted = useRef<string | undefined>(undefined);
  const focusWanted = useCallback((box: HTMLElement) => {
    const row = wanted.current && box.querySelector<HTMLElement>(`[data-task="${wanted.current}"]`);
    if (!row) return;
    wanted.current = undefined;
    row.focus({ preventScroll: true });
  }, []);
  const job = view.job.value;
  const tasks = view.tasks.value;
  const at = opened.value === undefined ? -1 : tasks.findIndex((task) => task.id === opened.value);
  const title = job && `${nameOf(job)} · Pixelmill`;
  useEffect(() => {
    if (title) document.title = title;
  }, [title]);
  const missing = view.failure.value instanceof Problem && view.failure.value.status === 404;
  if (missing || view.gone.value) return <Gone />;
  return (
    <main id="content" class="page jobs" tabIndex={-1} aria-busy={!job && view.failure.value === undefined}>
      <p>
        <a href="/jobs" class="back">
          <Icon name="back" size={16} /> All jobs
        </a>
      </p>
      <header class="page-head">
        <h1>{job ? nameOf(job) : "Job"}</h1>
        {job && <JobActions job={job} onDelete={() => (deleting.value = true)} />}
      </header>
      {view.failure.value !== undefined && <Failure error={view.failure.value} again={() => view.load()} />}
      {job && <Summary job={job} />}
      {job && <Filter view={view} job={job} />}
      {job && (
        <>
          <TaskHead />
          <Virtual items={tasks} keyOf={(task) => task.id} rowHeight={60} label="Tasks" reveal={reveal.value} onRender={focusWanted} onEnd={() => void view.more()} render={(task) => <TaskRow task={task} progress={view.progress.value.get(task.id)} onOpen={() => (opened.value = task.id)} />} class="card" />
        </>
      )}
      {at >= 0 && (
        <Viewer
          tasks={tasks}
          index={at}
          total={job?.counts[view.state.value === "" ? "total" : (view.state.value as "failed")] ?? 0}
          onIndex={(next) => {
            opened.value = tasks[next]?.id;
            if (next >= tasks.length - NEAR_END) void view.more();
          }}
          onClose={() => {
            // The focus goes to the one that was looked at last, wherever it is.
            wanted.current = opened.peek();
            opened.value = undefined;
            reveal.value = { index: at };
          }}
        />
      )}
      {deleting.value && job && (
        <Confirm
          title="Delete this job?"
          text={`${nameOf(job)} and its ${plural(job.counts.total, "result")} are removed for good. What still runs is cancelled.`}
          yes="Delete"
          work={() => api.deleteJob(job.id).then(() => go("/jobs"))}
          onClose={() => (deleting.value = false)}
        />
      )}
    </main>
  );
}

function Gone() {
  return (
    <main id="content" class="page" tabIndex={-1}>
      <h1>Job</h1>
      <Empty icon="search" title="This job isn't here">
        <p>It was deleted, its results have expired, or it belongs to somebody else.</p>
        <a href="/jobs">All jobs</a>
      </Empty>
    </main>
  );
}

function Summary({ job }: { job: Job }) {
  const ran = job.started ? (job.ended ? Date.parse(job.ended) : Date.now()) - Date.parse(job.started) : 0;
  const done = job.counts.succeeded + job.counts.failed;
  return (
    <section class="card summary" aria-label="Summary">
      <div class="summary-line">
        <Badge tone={job.state} />
        <JobProgress job={job} />
      </div>
      <div class="summary-line text">
        <code class="job-pipeline">{job.pipeline || "no steps"}</code>
        <CopyButton text={() => job.pipeline} label="Copy the pipeline">
          Copy
        </CopyButton>
        <LinkButton href={`/?pipeline=${encodeURIComponent(job.pipeline)}`} kind="quiet" icon="studio">
          Open in the Studio
        </LinkButton>
      </div>
      {job.labels && <Labels job={job.id} labels={job.labels} />}
      <dl class="facts">
        <Fact name="Created" value={moment(job.created)} />
        {job.ended && <Fact name="Ended" value={moment(job.ended)} />}
        {ran > 0 && done > 0 && <Fact name="Rate" value={`${(done / (ran / 1000)).toFixed(1)} images/s`} />}
        {job.expires && <Fact name="Results kept until" value={moment(job.expires)} />}
        <Fact name="Priority" value={job.priority} />
        <Fact name="Owner" value={job.owner} />
        <Fact name="Id" value={job.id} />
      </dl>
    </section>
  );
}

/** What most images were tagged with; each leads to them. */
function Labels({ job, labels }: { job: string; labels: Record<string, number> }) {
  const entries = Object.entries(labels);
  if (entries.length === 0) return null;
  return (
    <ul class="labels" aria-label="Labels">
      {entries.map(([label, number]) => (
        <li key={label}>
          <a class="button quiet" href={addressOf({ label, job })}>
            {label} <span class="numbers soft">{count(number)}</span>
          </a>
        </li>
      ))}
    </ul>
  );
}

function Fact({ name, value }: { name: string; value: string }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd class="numbers">{value}</dd>
    </div>
  );
}

function Filter({ view, job }: { view: JobView; job: Job }) {
  return (
    <div class="segments" role="group" aria-label="Tasks that are shown">
      {STATES.map((state) => {
        const number = state === "" ? job.counts.total : job.counts[state];
        return (
          <button key={state} type="button" class="button" aria-pressed={view.state.value === state} disabled={number === 0 && state !== "" && view.state.value !== state} onClick={() => void view.choose(state)}>
            {state === "" ? "all" : state} <span class="numbers">{count(number)}</span>
          </button>
        );
      })}
    </div>
  );
}

const between = (from: string | null, to: string | null): string => (from && to ? duration(Math.max(0, (Date.parse(to) - Date.parse(from)) / 1000)) : "–");

const soFar = ({ tiles, of, megapixels_s: rate, seconds_left: left }: Progress): string =>
  `${count(tiles)} of ${count(of)} tiles, ${rate.toFixed(0)} MP/s${left === null ? "" : `, ${duration(left)} left`}`;

export function TaskHead() {
  return (
    <div class="task-row task-head soft" aria-hidden="true">
      <span />
      <span>Image</span>
      <span>State</span>
      <span>Where</span>
      <span>Waited</span>
      <span>Ran</span>
      <span>Attempts</span>
    </div>
  );
}

export function TaskRow({ task, progress, onOpen }: { task: Task; progress?: Progress | undefined; onOpen: () => void }) {
  const shows = task.state === "succeeded" && task.outcome !== null;
  const of = task.outcome?.format ? "result" : "input"; // what gives data only is shown as it was sent
  return (
    <button type="button" class="task-row" data-task={task.id} onClick={onOpen}>
      <span class="task-thumb">{shows ? <img src={api.thumbnailUrl(task.id, of, 96, task.run)} alt="" loading="lazy" decoding="async" /> : <Icon name={task.state === "failed" ? "warning" : "image"} />}</span>
      <span class="task-name">
        <span>{task.name}</span>
        {progress && task.state === "running" && <span class="soft numbers">{soFar(progress)}</span>}
        {task.error && <span class="why">{task.error.detail}</span>}
      </span>
      <Badge tone={task.state} />
      <span class="soft">{task.target ?? "–"}</span>
      <span class="numbers soft">{between(task.queued, task.started)}</span>
      <span class="numbers soft">{between(task.started, task.ended)}</span>
      <span class="numbers soft">{task.attempts}</span>
    </button>
  );
}
