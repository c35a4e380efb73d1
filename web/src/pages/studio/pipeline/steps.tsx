// The steps of the pipeline as cards: each with its line, its form on request, and everything that can be done to it.

import { signal } from "@preact/signals";
import { useId } from "preact/hooks";

import type { Catalogue, StepType } from "../../../pipeline/catalogue";
import type { Step } from "../../../pipeline/draft";
import { changed, duplicated, moved, removed, withValue } from "../../../pipeline/edit";
import { summaryOf, titleOf } from "../../../pipeline/summary";
import { Button } from "../../../ui/basics";
import { Icon } from "../../../ui/icons";
import { drag, grab } from "./drag";
import { Fields } from "./fields";
import { draft, edit, idOfStep, pipelineState, written } from "./state";

/** Of the step whose form is open. */
export const opened = signal<string | null>(null);
const said = signal("");

export function Steps({ known }: { known: Catalogue }) {
  const { steps } = draft.value;
  return (
    <>
      <ol class={`steps ${drag.value ? "dragging" : ""}`} aria-label="Steps">
        {steps.map((step, index) => (
          <StepCard key={step.id} step={step} index={index} count={steps.length} type={known.operations.get(step.name)} />
        ))}
      </ol>
      <p class="offscreen" role="status">
        {said.value}
      </p>
    </>
  );
}

function StepCard({ step, index, count, type }: { step: Step; index: number; count: number; type: StepType | undefined }) {
  const body = useId();
  const isOpen = opened.value === step.id;
  const { error } = pipelineState.value;
  const wrong = error && written.value === null && idOfStep(error.step, draft.value) === step.id ? error.detail : undefined;
  const held = drag.value;
  const place = (to: number) => move(step, to);
  const keys = (event: KeyboardEvent) => {
    if (!event.altKey || (event.key !== "ArrowUp" && event.key !== "ArrowDown")) return;
    event.preventDefault();
    place(index + (event.key === "ArrowUp" ? -1 : 1));
  };
  return (
    <li
      data-step={step.id}
      class={`step ${step.off ? "off" : ""} ${isOpen ? "open" : ""} ${wrong ? "wrong" : ""} ${held?.id === step.id ? "held" : ""} ${dropClass(index, step.id)}`}
      style={held?.id === step.id ? { transform: `translateY(${held.by}px)` } : {}}
      onKeyDown={keys}
    >
      <div class="step-head">
        <span class="grip" title="Drag to another place" onPointerDown={(event) => grab(event, step.id, place)}>
          <Icon name="grip" />
        </span>
        <button type="button" class="step-name" aria-expanded={isOpen} aria-controls={body} onClick={() => (opened.value = isOpen ? null : step.id)}>
          <strong>{titleOf(step.name)}</strong>
          <span class="soft">{type ? summaryOf(step.values, type) : "This service doesn't know this step"}</span>
        </button>
        <span class="switch">
          <input
            type="checkbox"
            role="switch"
            aria-label={`${titleOf(step.name)}: used`}
            title={step.off ? "Switched off" : "In use"}
            checked={!step.off}
            onChange={(event) => edit(changed(draft.peek(), step.id, ({ off: _, ...one }) => (event.currentTarget.checked ? one : { ...one, off: true })))}
          />
        </span>
      </div>
      {wrong && (
        <p class="hint bad step-error" role="alert">
          {wrong}
        </p>
      )}
      <div id={body} class="step-body" hidden={!isOpen}>
        {isOpen && (
          <>
            {type && <Help type={type} />}
            {type && <Fields parameters={type.parameters} values={step.values} onChange={(name, value) => edit(changed(draft.peek(), step.id, (one) => ({ ...one, values: withValue(one.values, name, value) })), `${step.id}.${name}`)} />}
            <div class="step-actions" role="group" aria-label={`${titleOf(step.name)}: place`}>
              <Button kind="quiet" icon="up" label={`Move ${titleOf(step.name)} up`} disabled={index === 0} onClick={() => place(index - 1)} />
              <Button kind="quiet" icon="down" label={`Move ${titleOf(step.name)} down`} disabled={index === count - 1} onClick={() => place(index + 1)} />
              <Button kind="quiet" icon="copy" label={`Duplicate ${titleOf(step.name)}`} onClick={() => duplicate(step)} />
              <Button kind="quiet" icon="trash" label={`Remove ${titleOf(step.name)}`} onClick={() => remove(step, index)} />
            </div>
          </>
        )}
      </div>
    </li>
  );
}

function Help({ type }: { type: StepType }) {
  return (
    <details class="step-help">
      <summary>About this step</summary>
      <p>{type.description || type.summary}</p>
      {type.example && (
        <p class="soft">
          For example <code>{type.example}</code>
        </p>
      )}
    </details>
  );
}

/** A line where the held step would land. */
function dropClass(index: number, id: string): string {
  const held = drag.value;
  if (!held || held.id === id) return "";
  const from = draft.value.steps.findIndex((step) => step.id === held.id);
  if (held.to === from) return "";
  const without = index > from ? index - 1 : index;
  if (without === held.to) return "drop-before";
  return held.to === draft.value.steps.length - 1 && without === held.to - 1 ? "drop-after" : "";
}

function move(step: Step, to: number): void {
  const next = moved(draft.peek(), step.id, to);
  if (next === draft.peek()) return;
  edit(next);
  said.value = `${titleOf(step.name)} is now step ${next.steps.findIndex((one) => one.id === step.id) + 1} of ${next.steps.length}.`;
}

function duplicate(step: Step): void {
  const { draft: next, id } = duplicated(draft.peek(), step.id);
  edit(next);
  focusStep(id);
}

function remove(step: Step, index: number): void {
  const next = removed(draft.peek(), step.id);
  edit(next);
  opened.value = null;
  said.value = `${titleOf(step.name)} was removed.`;
  const neighbor = next.steps[Math.min(index, next.steps.length - 1)];
  requestAnimationFrame(() => {
    const found = neighbor ? document.querySelector<HTMLElement>(`li[data-step="${neighbor.id}"] .step-name`) : document.querySelector<HTMLElement>(".add-step");
    found?.focus();
  });
}

/** Open a step and go to its form; to its name where it has none. */
export function focusStep(id: string): void {
  opened.value = id;
  requestAnimationFrame(() => {
    const card = document.querySelector<HTMLElement>(`li[data-step="${id}"]`);
    const first = card?.querySelector<HTMLElement>(".fields input:not([type=range]), .fields select, .fields textarea") ?? card?.querySelector<HTMLElement>(".step-name");
    first?.focus();
    card?.scrollIntoView({ block: "nearest" });
  });
}
