// One task large: its input beside its result, and what is known of it. The next and the one before by arrow keys.

import { signal } from "@preact/signals";
import { useEffect, useId, useRef, useState } from "preact/hooks";

import * as api from "../../net/api";
import { isAbort, returns, Unreachable } from "../../net/http";
import { Button, Failure, LinkButton } from "../basics";
import { count } from "../format";
import { marksOf } from "../marks";
import { Details } from "./details";
import { Stage, type Way } from "./stage";

/** As much as lists know of a task; the viewer reads the rest. */
export interface ViewerTask {
  id: string;
  name: string;
  state: string;
  run: number;
}

interface ViewerProps {
  tasks: readonly ViewerTask[];
  index: number;
  onIndex: (index: number) => void;
  onClose: () => void;
}

const way = signal<Way>("slider");
const marks = signal(true);

/** Shown as long as it is there; render nothing to close it. */
export function Viewer({ tasks, index, onIndex, onClose }: ViewerProps) {
  const dialog = useRef<HTMLDialogElement>(null);
  const id = useId();
  const task = tasks[index];
  useEffect(() => {
    const element = dialog.current;
    if (element && !element.open) element.showModal();
    return () => element?.close();
  }, []);
  const to = (next: number) => {
    if (next >= 0 && next < tasks.length) onIndex(next);
  };
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.ctrlKey || event.metaKey || event.altKey || (event.target as Element).matches("input, select, textarea, pre, [tabindex='0'][role='region']")) return;
    const next = { ArrowRight: index + 1, ArrowLeft: index - 1, Home: 0, End: tasks.length - 1 }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    to(next);
  };
  if (!task) return null;
  return (
    <dialog
      ref={dialog}
      class="viewer"
      aria-labelledby={id}
      onKeyDown={onKeyDown}
      onCancel={(event) => {
        event.preventDefault();
        onClose();
      }}
    >
      <header class="viewer-head">
        <h2 id={id} title={task.name}>
          {task.name}
        </h2>
        <p class="soft numbers" aria-live="polite">
          {count(index + 1)} of {count(tasks.length)}
        </p>
        <Button icon="back" label="Previous" aria-disabled={index === 0} onClick={() => to(index - 1)} />
        <Button icon="arrow" label="Next" aria-disabled={index >= tasks.length - 1} onClick={() => to(index + 1)} />
        <Button kind="quiet" icon="close" label="Close" onClick={onClose} />
      </header>
      <Body key={task.id} task={task} />
    </dialog>
  );
}

function Body({ task }: { task: ViewerTask }) {
  const [detail, setDetail] = useState<api.TaskDetail | undefined>();
  const [error, setError] = useState<unknown>();
  const read = async () => {
    try {
      setDetail(await api.task(task.id));
      setError(undefined);
    } catch (failure) {
      if (!isAbort(failure)) setError(failure);
    }
  };
  useEffect(() => void read(), [task.id, task.state, task.run, returns.value]);
  if (detail === undefined) {
    return <div class="viewer-body">{error !== undefined && <Failure error={error} {...(error instanceof Unreachable ? {} : { again: read })} />}</div>;
  }
  const hasImage = Boolean(detail.outcome?.format);
  const marked = detail.outcome ? marksOf(detail.outcome.data).length > 0 : false;
  return (
    <div class="viewer-body">
      <div class="viewer-stage">
        <div class="viewer-tools">
          {hasImage && (
            <div class="choice" role="group" aria-label="Compare">
              <Button aria-pressed={way.value === "slider"} onClick={() => (way.value = "slider")}>
                Slider
              </Button>
              <Button aria-pressed={way.value === "beside"} onClick={() => (way.value = "beside")}>
                Side by side
              </Button>
            </div>
          )}
          {marked && (
            <label class="switch">
              <input type="checkbox" role="switch" checked={marks.value} onChange={(event) => (marks.value = event.currentTarget.checked)} />
              Marks
            </label>
          )}
          {detail.outcome && (
            <LinkButton href={api.resultUrl(detail.id)} icon="down" download>
              Download {hasImage ? "" : "data"}
            </LinkButton>
          )}
        </div>
        <Stage task={detail} way={way.value} marks={marks.value} />
      </div>
      <Details task={detail} />
    </div>
  );
}
