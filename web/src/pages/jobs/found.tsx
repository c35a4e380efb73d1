// Images of all jobs, or of one, by what was found in them: labels, words of captions, faces.

import { useSignal, useSignalEffect } from "@preact/signals";
import { useEffect } from "preact/hooks";

import type { Task } from "../../net/api";
import { Empty, Failure } from "../../ui/basics";
import { plural } from "../../ui/format";
import { Icon } from "../../ui/icons";
import { Viewer } from "../../ui/viewer/viewer";
import { Virtual } from "../../ui/virtual";
import { TaskHead, TaskRow } from "./detail";
import { type Asked, ask, asked, asks, failure, found, more, next, reading, search } from "./found-state";

const SEARCH_MS = 250;
const NEAR_END = 5;
const SOME_FACES = "1..";

export function Found() {
  const opened = useSignal<string | undefined>(undefined);
  useSignalEffect(() => {
    asked.value; // whatever of it changes
    void search();
  });
  const tasks = found.value;
  const at = opened.value === undefined ? -1 : tasks.findIndex((task) => task.id === opened.value);
  return (
    <main id="content" class="page jobs" tabIndex={-1} aria-busy={reading.value}>
      <p>
        <a href={asked.value.job ? `/jobs/${asked.value.job}` : "/jobs"} class="back">
          <Icon name="back" size={16} /> {asked.value.job ? "The job" : "All jobs"}
        </a>
      </p>
      <header class="page-head">
        <h1>{asked.value.job ? "Find images of a job" : "Find images"}</h1>
        <div class="tools">
          <Words name="label" label="Label, such as cat" />
          <Words name="caption" label="Words of the caption" />
          <label class="switch">
            <input type="checkbox" role="switch" checked={asked.value.faces !== ""} onChange={(event) => ask({ faces: event.currentTarget.checked ? SOME_FACES : "" })} />
            With faces
          </label>
        </div>
      </header>
      {failure.value !== undefined && <Failure error={failure.value} again={search} />}
      {tasks.length > 0 ? <Rows tasks={tasks} onOpen={(id) => (opened.value = id)} /> : failure.value === undefined && !reading.value && <Nothing />}
      <p class="soft list-end" role="status">
        {reading.value ? "Searching …" : tasks.length > 0 ? `${plural(tasks.length, "image")}${next.value === null ? "" : " so far"}` : ""}
      </p>
      {at >= 0 && (
        <Viewer
          tasks={tasks}
          index={at}
          onIndex={(index) => {
            opened.value = tasks[index]?.id;
            if (index >= tasks.length - NEAR_END) void more();
          }}
          onClose={() => (opened.value = undefined)}
        />
      )}
    </main>
  );
}

function Words({ name, label }: { name: "label" | "caption"; label: string }) {
  const text = useSignal(asked.value[name]);
  useEffect(() => {
    if (text.value.trim() === asked.peek()[name]) return undefined;
    const timer = setTimeout(() => ask({ [name]: text.value.trim() } as Partial<Asked>), SEARCH_MS);
    return () => clearTimeout(timer);
  }, [text.value]);
  return (
    <label class="search">
      <Icon name="search" />
      <span class="offscreen">{label}</span>
      <input type="search" placeholder={label} maxLength={200} value={text.value} onInput={(event) => (text.value = event.currentTarget.value)} />
    </label>
  );
}

function Rows({ tasks, onOpen }: { tasks: readonly Task[]; onOpen: (id: string) => void }) {
  return (
    <>
      <TaskHead />
      <Virtual items={tasks} keyOf={(task) => task.id} rowHeight={60} label="Images" onEnd={() => void more()} render={(task) => <TaskRow task={task} onOpen={() => onOpen(task.id)} />} class="card" />
    </>
  );
}

function Nothing() {
  if (asks.value) return <Empty icon="search" title="Nothing like that was found in any image" />;
  return (
    <Empty icon="search" title="What should be in the image?">
      <p>
        Images are found by what the steps <code>classify</code>, <code>auto_tag</code>, <code>caption</code> and <code>faces</code> found in them.
      </p>
    </Empty>
  );
}
