// When a task waited and ran: every attempt as a bar on one scale, and in words.

import type * as api from "../../net/api";
import { duration, time } from "../format";

interface Attempt {
  target?: string | null;
  started?: string | null;
  ended?: string | null;
  error?: { title?: string; detail?: string } | null;
}

export function Timeline({ task }: { task: api.TaskDetail }) {
  const lost = task.lost_attempts as Attempt[];
  const last: Attempt[] = task.started ? [{ target: task.target, started: task.started, ended: task.ended }] : [];
  const attempts = [...lost, ...last];
  const begin = Date.parse(task.queued);
  const end = Math.max(begin + 1, ...attempts.map((one) => momentOf(one.ended) ?? Date.now()));
  const place = (moment: string | null | undefined) => (100 * (Math.max(begin, momentOf(moment) ?? end) - begin)) / (end - begin);
  return (
    <section>
      <h3>Timeline</h3>
      <ol class="timeline">
        <li>
          <span class="numbers soft">{time(task.queued)}</span>
          <span>{task.run > 1 ? `queued, for run ${task.run}` : "queued"}</span>
        </li>
        {attempts.map((one, number) => {
          const isLost = number < lost.length;
          const from = place(one.started);
          return (
            <li key={number}>
              <span class="numbers soft">{one.started ? time(one.started) : "–"}</span>
              <span>
                attempt {number + 1} on {one.target ?? "an unknown machine"}
                {isLost ? ": lost" : task.ended ? `: ${task.state}` : ": running"}
                {one.started && one.ended && ` after ${duration(Math.max(0, Date.parse(one.ended) - Date.parse(one.started)) / 1000)}`}
                {isLost && <span class="why">{one.error?.detail || one.error?.title || "It gave no answer."}</span>}
              </span>
              <span class="track" aria-hidden="true">
                <span class={`bar ${isLost ? "failed" : task.state}`} style={{ marginInlineStart: `${Math.min(99, from)}%`, width: `${Math.max(1, place(one.ended) - from)}%` }} />
              </span>
            </li>
          );
        })}
      </ol>
    </section>
  );
}

const momentOf = (text: string | null | undefined): number | undefined => (text ? Date.parse(text) : undefined);
