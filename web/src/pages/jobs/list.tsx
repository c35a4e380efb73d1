// All jobs: live progress, filters, search; cancel, retry, delete.

import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";

import * as api from "../../net/api";
import type { Job } from "../../net/api";
import { isAdmin, session } from "../../state/session";
import { askForNotifications, wantsNotifications } from "../../state/notices";
import { Badge, Empty, Failure, LinkButton, Progress, WorkButton } from "../../ui/basics";
import { Confirm } from "../../ui/dialog";
import { count, duration, moment, plural } from "../../ui/format";
import { Icon } from "../../ui/icons";
import { Virtual } from "../../ui/virtual";
import { everybody, failure, filters, jobs, load, loaded, loading, more, next, setFilters, start } from "./state";

const STATES: [string, string][] = [
  ["", "All"],
  ["queued", "Queued"],
  ["running", "Running"],
  ["succeeded", "Succeeded"],
  ["failed", "Failed"],
  ["cancelled", "Cancelled"],
];
const SEARCH_MS = 250;

export function JobList() {
  useEffect(start, []);
  const deleting = useSignal<Job | undefined>(undefined);
  return (
    <main id="content" class="page jobs" tabIndex={-1} aria-busy={!loaded.value && failure.value === undefined}>
      <header class="page-head">
        <h1>Jobs</h1>
        <Tools />
      </header>
      {failure.value !== undefined && <Failure error={failure.value} again={load} />}
      {loaded.value && jobs.value.length === 0 ? (
        <Nothing />
      ) : (
        <>
          <div class="job-row job-head soft" aria-hidden="true">
            <span>Job</span>
            <span>State</span>
            <span>Progress</span>
            <span>Created</span>
            <span />
          </div>
          <Virtual items={jobs.value} keyOf={(job) => job.id} rowHeight={72} label="Jobs" onEnd={() => void more()} render={(job) => <JobRow job={job} onDelete={() => (deleting.value = job)} />} class="card" />
          <p class="soft list-end" role="status">
            {loading.value ? "Reading …" : next.value === null && jobs.value.length > 0 ? plural(jobs.value.length, "job") : ""}
          </p>
        </>
      )}
      {deleting.value && (
        <Confirm
          title="Delete this job?"
          text={`${nameOf(deleting.value)} and its ${plural(deleting.value.counts.total, "result")} are removed for good. What still runs is cancelled.`}
          yes="Delete"
          work={() => api.deleteJob(deleting.value?.id ?? "").then(load)}
          onClose={() => (deleting.value = undefined)}
        />
      )}
    </main>
  );
}

export const nameOf = (job: Job): string => job.name || `Job ${job.id.slice(-8)}`;

function Tools() {
  const text = useSignal(filters.value.q);
  useEffect(() => {
    if (text.value === filters.peek().q) return undefined;
    const timer = setTimeout(() => setFilters({ q: text.value }), SEARCH_MS);
    return () => clearTimeout(timer);
  }, [text.value]);
  return (
    <div class="tools">
      <label class="search">
        <Icon name="search" />
        <span class="offscreen">Search by name or id</span>
        <input type="search" placeholder="Search by name or id" value={text.value} onInput={(event) => (text.value = event.currentTarget.value)} />
      </label>
      <label class="choice">
        <span class="offscreen">State</span>
        <select value={filters.value.state} onChange={(event) => setFilters({ state: event.currentTarget.value })}>
          {STATES.map(([value, label]) => (
            <option key={value} value={value}>
              {label}
            </option>
          ))}
        </select>
      </label>
      <LinkButton href="/jobs?find=1" icon="search">
        Find images
      </LinkButton>
      {isAdmin.value && session.value?.tokens_needed && (
        <label class="switch">
          <input type="checkbox" role="switch" checked={everybody.value} onChange={(event) => (everybody.value = event.currentTarget.checked)} />
          Everybody's
        </label>
      )}
      {typeof Notification !== "undefined" && Notification.permission !== "denied" && !wantsNotifications.value && (
        <WorkButton kind="quiet" icon="bell" work={askForNotifications}>
          Notify me
        </WorkButton>
      )}
    </div>
  );
}

function Nothing() {
  const { state, q } = filters.value;
  if (state || q)
    return (
      <Empty icon="search" title="No job passes these filters">
        <button type="button" class="button" onClick={() => setFilters({ state: "", q: "" })}>
          Show all
        </button>
      </Empty>
    );
  return (
    <Empty icon="jobs" title="There are no jobs yet">
      <p>A job is a set of images that go through one pipeline.</p>
      <LinkButton href="/" kind="main" icon="studio">
        Start one in the Studio
      </LinkButton>
    </Empty>
  );
}

function JobRow({ job, onDelete }: { job: Job; onDelete: () => void }) {
  return (
    <div class="job-row">
      <div class="job-name">
        <a href={`/jobs/${job.id}`}>{nameOf(job)}</a>
        <code title={job.pipeline}>{job.pipeline || "no steps"}</code>
      </div>
      <div>
        <Badge tone={job.state} />
        {everybody.value && isAdmin.value && <span class="owner soft">{job.owner}</span>}
      </div>
      <JobProgress job={job} />
      <time dateTime={job.created} class="soft numbers">
        {moment(job.created)}
      </time>
      <JobActions job={job} onDelete={onDelete} brief />
    </div>
  );
}

export function JobProgress({ job }: { job: Job }) {
  const { succeeded, failed, cancelled, running, total } = job.counts;
  const done = succeeded + failed + cancelled;
  const parts = (["succeeded", "failed", "cancelled", "running"] as const).map((name) => ({ name, value: job.counts[name] }));
  const words = [failed > 0 ? `${count(failed)} failed` : "", running > 0 ? `${count(running)} running` : "", timeOf(job)].filter(Boolean);
  return (
    <div class="job-progress">
      <Progress value={done} most={total} label={`Progress of ${nameOf(job)}`} parts={parts} />
      <span class="numbers soft">
        {count(done)} of {count(total)}
        {words.length > 0 && ` · ${words.join(" · ")}`}
      </span>
    </div>
  );
}

function timeOf(job: Job): string {
  if (!job.started) return "";
  const until = job.ended ? Date.parse(job.ended) : Date.now();
  return duration(Math.max(0, (until - Date.parse(job.started)) / 1000));
}

export function JobActions({ job, onDelete, brief = false }: { job: Job; onDelete: () => void; brief?: boolean }) {
  const open = job.state === "queued" || job.state === "running";
  const again = job.counts.failed + job.counts.cancelled > 0 && !open;
  const named = (verb: string) => (brief ? { label: `${verb} ${nameOf(job)}` } : {});
  return (
    <div class="actions">
      {open && (
        <WorkButton kind={brief ? "quiet" : "plain"} icon="stop" work={() => api.cancelJob(job.id)} {...named("Cancel")}>
          {brief ? undefined : "Cancel"}
        </WorkButton>
      )}
      {again && (
        <WorkButton kind={brief ? "quiet" : "plain"} icon="retry" work={() => api.retryJob(job.id)} {...named("Retry what failed in")}>
          {brief ? undefined : "Retry what failed"}
        </WorkButton>
      )}
      {!brief && job.counts.succeeded > 0 && (
        <LinkButton href={api.archiveUrl(job.id)} icon="down" download>
          Download all
        </LinkButton>
      )}
      <WorkButton kind={brief ? "quiet" : "danger"} icon="trash" work={async () => onDelete()} {...named("Delete")}>
        {brief ? undefined : "Delete"}
      </WorkButton>
    </div>
  );
}
