// The strip that starts a run and tells how it goes.

import { useEffect, useState } from "preact/hooks";

import * as api from "../../../net/api";
import { reachable } from "../../../net/http";
import { Badge, Button, LinkButton, Progress, WorkButton } from "../../../ui/basics";
import { count, duration, plural } from "../../../ui/format";
import { Icon } from "../../../ui/icons";
import { pictures, totals } from "../images/model";
import { pipelineState, pipelineText } from "../pipeline/state";
import { isEnded, type LiveJob } from "./live";
import { cancelRun, failure, jobName, leftOut, live, preparing, priority, retryRun, running, startRun, stopPreparing, type Priority } from "./run";

export function RunBar() {
  return (
    <section class="run-bar card" aria-label="Run">
      <div class="run-controls">
        <label class="run-field name">
          <span>Name</span>
          <input type="text" maxLength={200} placeholder="optional" value={jobName.value} onInput={(event) => (jobName.value = event.currentTarget.value)} />
        </label>
        <label class="run-field">
          <span>Priority</span>
          <select value={priority.value} onChange={(event) => (priority.value = event.currentTarget.value as Priority)}>
            <option value="interactive">Before others</option>
            <option value="normal">Normal</option>
            <option value="batch">When idle</option>
          </select>
        </label>
        <StartButton />
      </div>
      <State />
      {failure.value !== null && (
        <div class="run-failure" role="alert">
          <Icon name="warning" size={16} />
          <p>{failure.value}</p>
          <Button kind="quiet" icon="close" label="Dismiss" onClick={() => (failure.value = null)} />
        </div>
      )}
    </section>
  );
}

/** Why a run can't start now, in words; null where it can. */
function hindrance(): string | null {
  if (pictures.value.length === 0) return "Drop or choose images first.";
  if (pipelineText.value.trim() === "") return "Add a step to the pipeline.";
  const { valid, error, needs, checking } = pipelineState.value;
  if (needs.length > 0) return `The pipeline needs ${needs.map((one) => one.what).join(", ")}.`;
  if (!valid && !checking) return error ? "The pipeline has a fault; it is told beside it." : "The pipeline can't run as it is.";
  return null;
}

function StartButton() {
  const why = hindrance();
  const images = pictures.value.length;
  if (preparing.value !== null) {
    return (
      <Button icon="stop" onClick={stopPreparing}>
        Stop
      </Button>
    );
  }
  const again = live.value !== null;
  return (
    <Button kind="main" icon="play" disabled={why !== null} title={why ?? undefined} onClick={() => void startRun()}>
      {again ? "Run again" : "Run"}
      {images > 0 && <span class="numbers"> {plural(images, "image")}</span>}
    </Button>
  );
}

function State() {
  if (preparing.value === "uploading") {
    const { stored, waiting, sending, failed } = totals.value;
    const all = stored + waiting + sending;
    return (
      <div class="run-state">
        <Progress label="Uploads before the run" value={stored} most={all + failed} />
        <p class="run-words numbers">
          {reachable.value ? "Sending the last images" : "Waiting for the service"}: {count(stored)} of {count(all)}. The run starts by itself.
        </p>
      </div>
    );
  }
  if (preparing.value === "submitting") {
    return (
      <div class="run-state">
        <p class="run-words">{reachable.value ? "Submitting the job…" : "Waiting for the service. The job is submitted once, when it is back."}</p>
      </div>
    );
  }
  if (live.value !== null && !live.value.gone.value) return <Going shown={live.value} />;
  const why = hindrance();
  return (
    <div class="run-state">
      <p class="run-words soft">{live.value?.gone.value ? "The job was deleted." : (why ?? "Ready.")}</p>
    </div>
  );
}

function Going({ shown }: { shown: LiveJob }) {
  useSecond(running.value);
  const job = shown.job.value;
  const counts = shown.rows.value.length > 0 ? shown.counts.value : job?.counts;
  if (!job || !counts) return <div class="run-state"><p class="run-words soft">Reading the job…</p></div>;
  const ended = counts.succeeded + counts.failed + counts.cancelled;
  const total = Math.max(job.counts.total, ended);
  const parts = [
    { name: "succeeded", value: counts.succeeded },
    { name: "failed", value: counts.failed },
    { name: "cancelled", value: counts.cancelled },
    { name: "running", value: counts.running },
  ];
  const over = isEnded(job.state);
  return (
    <div class="run-state">
      <div class="run-line">
        <Badge tone={job.state}>{STATES[job.state]}</Badge>
        <Progress label="Progress of the run" value={ended} most={total} parts={parts} />
        <span class="numbers">
          {count(ended)} / {count(total)}
        </span>
      </div>
      <div class="run-line">
        <p class="run-words numbers">{over ? endedWords(job, counts) : goingWords(shown, total - ended)}</p>
        <div class="run-actions">
          {!over && (
            <WorkButton icon="stop" work={cancelRun}>
              Cancel
            </WorkButton>
          )}
          {over && counts.failed + counts.cancelled > 0 && (
            <WorkButton icon="retry" work={retryRun}>
              Retry {count(counts.failed + counts.cancelled)}
            </WorkButton>
          )}
          {counts.succeeded > 0 && (
            <LinkButton href={api.archiveUrl(shown.id)} icon="down" download>
              Download {over ? "all" : "so far"}
            </LinkButton>
          )}
        </div>
      </div>
    </div>
  );
}

const STATES: Record<string, string> = { queued: "queued", running: "running", succeeded: "done", failed: "ended", cancelled: "cancelled" };

function goingWords(shown: LiveJob, left: number): string {
  if (!reachable.value) return "The service does not answer; the run goes on when it is back.";
  const now = Date.now();
  const rate = shown.pace.rate(now);
  const rest = shown.pace.left(left, now);
  const parts = [rate === null ? "" : `${rate >= 10 ? Math.round(rate) : rate.toFixed(1)} images/s`, rest === null ? "" : `about ${duration(Math.max(1, Math.ceil(rest)))} left`, places(shown)];
  return parts.filter(Boolean).join(" · ") || "Waiting for a free worker";
}

function endedWords(job: api.Job, counts: { succeeded: number; failed: number; cancelled: number }): string {
  const took = job.started && job.ended ? ` in ${duration((Date.parse(job.ended) - Date.parse(job.started)) / 1000)}` : "";
  const parts = [
    `${count(counts.succeeded)} done${took}`,
    counts.failed > 0 ? `${count(counts.failed)} failed` : "",
    counts.cancelled > 0 ? `${count(counts.cancelled)} cancelled` : "",
    leftOut.value > 0 ? `${plural(leftOut.value, "image")} not sent` : "",
    live.value ? places(live.value) : "",
  ];
  return parts.filter(Boolean).join(" · ");
}

/** Where tasks ran, the most first. */
function places(shown: LiveJob): string {
  const by = new Map<string, number>();
  for (const row of shown.rows.value) if (row.target && isEnded(row.state)) by.set(row.target, (by.get(row.target) ?? 0) + 1);
  const found = [...by].sort((one, other) => other[1] - one[1]);
  if (found.length === 0) return "";
  return `on ${found.slice(0, 4).map(([target, many]) => (found.length === 1 ? target : `${target} ${count(many)}`)).join(", ")}`;
}

/** Draw again every second while something goes on. */
function useSecond(on: boolean): void {
  const [, set] = useState(0);
  useEffect(() => {
    if (!on) return;
    const timer = setInterval(() => set((now) => now + 1), 1_000);
    return () => clearInterval(timer);
  }, [on]);
}
