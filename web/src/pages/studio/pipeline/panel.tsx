// The pipeline: what is read, its steps, what is written, and the same as text.

import { useSignalEffect } from "@preact/signals";
import { useEffect, useState } from "preact/hooks";

import { returns } from "../../../net/http";
import { EMPTY } from "../../../pipeline/draft";
import { signedIn } from "../../../state/session";
import { Button, Failure } from "../../../ui/basics";
import { AddStep } from "./add-step";
import { InputEnd, OutputEnd } from "./ends";
import { Library, Save, use } from "./library";
import { canRedo, canUndo, catalogue, catalogueError, draft, edit, loadCatalogue, presets, redo, refreshCatalogue, undo, written } from "./state";
import { Steps } from "./steps";
import { TextForm } from "./text-form";

type Shown = "add" | "library" | "save" | null;

export function PipelinePanel() {
  const [shown, setShown] = useState<Shown>(null);
  const known = catalogue.value;
  // Once somebody is signed in, and again when the service was away.
  useSignalEffect(() => {
    returns.value;
    if (signedIn.value && catalogue.peek() === undefined) loadCatalogue().catch(() => undefined); // shown below
  });
  useEffect(() => {
    addEventListener("keydown", keys);
    addEventListener("focus", refresh); // who comes back from a terminal may have run the command there
    return () => {
      removeEventListener("keydown", keys);
      removeEventListener("focus", refresh);
    };
  }, []);
  const close = () => setShown(null);
  const { steps } = draft.value;
  const isEmpty = steps.length === 0;
  return (
    <section class="pipeline" aria-labelledby="pipeline-title">
      <header class="pipeline-head">
        <h2 id="pipeline-title">Pipeline</h2>
        <div class="pipeline-tools" role="group" aria-label="The whole pipeline">
          <Button kind="quiet" icon="undo" label="Undo" disabled={!canUndo.value} onClick={undo} />
          <Button kind="quiet" icon="redo" label="Redo" disabled={!canRedo.value} onClick={redo} />
          <Button kind="quiet" icon="folder" label="Open a preset or a saved pipeline" onClick={() => (refresh(), setShown("library"))} />
          <Button kind="quiet" icon="save" label="Save this pipeline" disabled={isEmpty && draft.value.format === null} onClick={() => setShown("save")} />
          <Button kind="quiet" icon="trash" label="Remove everything" disabled={draft.value === EMPTY || (isEmpty && draft.value.format === null && written.value === null)} onClick={() => edit(EMPTY)} />
        </div>
      </header>
      {catalogueError.value !== undefined && <Failure error={catalogueError.value} again={loadCatalogue} />}
      {known === undefined ? (
        catalogueError.value === undefined && <p class="soft">Reading the catalogue…</p>
      ) : (
        <>
          <InputEnd />
          {isEmpty ? <Beginnings /> : <Steps known={known} />}
          <Button class="add-step" icon="add" onClick={() => setShown("add")}>
            Add a step
          </Button>
          <OutputEnd known={known} />
          <TextForm />
        </>
      )}
      {shown === "add" && known && <AddStep known={known} onClose={close} />}
      {shown === "library" && <Library onClose={close} />}
      {shown === "save" && <Save onClose={close} />}
    </section>
  );
}

/** A failure leaves what is shown as it is. */
const refresh = (): void => void refreshCatalogue().catch(() => undefined);

/** Where nothing is built yet. */
function Beginnings() {
  return (
    <div class="beginnings">
      <p class="soft">Start from a preset, or add steps of your own.</p>
      <ul>
        {presets.value.map((preset) => (
          <li key={preset.name}>
            <button
              type="button"
              class="beginning"
              disabled={!preset.available}
              title={[preset.summary, ...preset.missing.map(({ what, command }) => (command ? `${what}: ${command}` : what))].join("\n")}
              onClick={() => void use(preset.pipeline, preset.title, preset.images)}
            >
              {preset.title}
            </button>
          </li>
        ))}
      </ul>
    </div>
  );
}

/** Fields undo what is typed by themselves, and a dialog has its own keys. */
function keys(event: KeyboardEvent): void {
  if (!(event.ctrlKey || event.metaKey) || event.altKey) return;
  const key = event.key.toLowerCase();
  const back = key === "z" && !event.shiftKey;
  const forth = (key === "z" && event.shiftKey) || key === "y";
  if ((!back && !forth) || isWriting(event.target) || document.querySelector("dialog[open]")) return;
  event.preventDefault();
  if (back) undo();
  else redo();
}

const NOT_WRITTEN = new Set(["range", "checkbox", "radio", "color", "button", "file"]);

function isWriting(target: EventTarget | null): boolean {
  if (target instanceof HTMLTextAreaElement) return true;
  if (target instanceof HTMLInputElement) return !NOT_WRITTEN.has(target.type);
  return target instanceof HTMLElement && target.isContentEditable;
}
