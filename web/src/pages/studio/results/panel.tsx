// The results of the shown run beside their inputs.

import { signal } from "@preact/signals";
import { useState } from "preact/hooks";

import { Badge, Button, Empty } from "../../../ui/basics";
import { count } from "../../../ui/format";
import { Icon } from "../../../ui/icons";
import { PickGrid } from "../../../ui/pick-grid";
import { TaskThumbnail } from "../../../ui/thumbnail";
import { Viewer } from "../../../ui/viewer/viewer";
import { Thumb } from "../images/cell";
import { isHere } from "../images/model";
import { isEnded, TASK_WORDS, type LiveJob, type Row } from "../run/live";
import { closeRun, live, running } from "../run/run";

const ROW_PX = 168;
const CELL_PX = 230;
const THUMB_PX = 320;

const keyOf = (row: Row): string => row.id;
const onlyFailed = signal(false);

export function ResultsPanel() {
  const shown = live.value;
  return (
    <section class="results" aria-labelledby="results-title">
      {shown === null || shown.gone.value ? (
        <>
          <h2 id="results-title" class="offscreen">
            Results
          </h2>
          <Empty icon="play" title="No results yet">
            <p>Drop images, build a pipeline, and run it: every result appears here beside its input.</p>
          </Empty>
        </>
      ) : (
        <Shown key={shown.id} shown={shown} />
      )}
    </section>
  );
}

function Shown({ shown }: { shown: LiveJob }) {
  const all = shown.rows.value;
  const failed = shown.counts.value.failed;
  const filtered = onlyFailed.value && failed > 0;
  const rows = filtered ? all.filter((row) => row.state === "failed") : all;
  const [active, setActive] = useState(0);
  const [open, setOpen] = useState<string | null>(null);
  const [focus, setFocus] = useState<{ index: number } | undefined>();
  const at = open === null ? -1 : rows.findIndex((row) => row.id === open);
  const job = shown.job.value;
  return (
    <>
      <header class="panel-head">
        <h2 id="results-title" title={job?.name}>
          {job?.name || "Results"} <span class="soft numbers">{count(all.length)}</span>
        </h2>
        <div class="panel-tools">
          {failed > 0 && (
            <Button aria-pressed={filtered} onClick={() => (onlyFailed.value = !filtered)}>
              Failed <span class="numbers">{count(failed)}</span>
            </Button>
          )}
          <a class="button quiet" href={`/jobs/${shown.id}`}>
            Details
          </a>
          {!running.value && <Button kind="quiet" icon="close" label="Put these results away; they stay among the jobs" onClick={closeRun} />}
        </div>
      </header>
      {job && <p class="results-pipeline mono" title={job.pipeline}>{job.pipeline}</p>}
      <div class="results-scroll">
        <PickGrid
          items={rows}
          keyOf={keyOf}
          rowHeight={ROW_PX}
          cellWidth={CELL_PX}
          label="Results"
          active={Math.min(active, Math.max(0, rows.length - 1))}
          onActive={setActive}
          focus={focus}
          render={(row, index, tabIndex) => (
            <Result
              row={row}
              shown={shown}
              tabIndex={tabIndex}
              onOpen={() => {
                setActive(index);
                setOpen(row.id);
              }}
            />
          )}
        />
      </div>
      {at >= 0 && (
        <Viewer
          tasks={rows}
          index={at}
          onIndex={(next) => {
            setActive(next);
            setOpen(rows[next]?.id ?? null);
          }}
          onClose={() => {
            setOpen(null);
            // The one that was looked at last, not the one that was opened.
            setFocus({ index: at });
          }}
        />
      )}
    </>
  );
}

function Result({ row, shown, tabIndex, onOpen }: { row: Row; shown: LiveJob; tabIndex: 0 | -1; onOpen: () => void }) {
  const picture = shown.order[row.seq];
  const short = row.name.split("/").pop() ?? row.name;
  return (
    <button type="button" class={`pick result ${row.state}`} tabIndex={tabIndex} title={row.name} onClick={onOpen}>
      <span class="result-pair">
        <span class="result-side">
          {picture && isHere(picture) ? (
            <Thumb file={picture.file} />
          ) : row.unreadable || (row.state === "failed" && row.error === null) ? (
            <span class="thumbnail">
              <Icon name="image" size={28} />
            </span>
          ) : (
            <TaskThumbnail task={row.id} of="input" size={THUMB_PX} alt="" />
          )}
        </span>
        <span class={`result-side after ${row.state}`}>
          {row.state === "succeeded" && row.image ? (
            <TaskThumbnail task={row.id} of="result" size={THUMB_PX} run={row.run} alt="" />
          ) : (
            <span class="result-none">
              <Icon name={ICONS[row.state] ?? "clock"} size={24} />
              {row.state === "failed" && <span class="result-why">{row.error}</span>}
              {row.image === false && row.state === "succeeded" && <span class="result-why">data</span>}
            </span>
          )}
        </span>
      </span>
      <span class="result-foot">
        <span class="picture-name">{short}</span>
        {isEnded(row.state) && row.target && <span class="result-where soft">{row.target}</span>}
        <Badge tone={row.state}>{TASK_WORDS[row.state]}</Badge>
      </span>
    </button>
  );
}

const ICONS = { queued: "clock", running: "bolt", succeeded: "check", failed: "warning", cancelled: "stop" } as const;
