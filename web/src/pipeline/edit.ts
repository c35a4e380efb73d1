// Changes of a draft, as plain functions: what a hand, a key or a new text does to the steps.

import type { Catalogue } from "./catalogue";
import { draftOf, newId, type Draft, type Step, type Values } from "./draft";

const withSteps = (draft: Draft, steps: readonly Step[]): Draft => ({ ...draft, steps });

export function changed(draft: Draft, id: string, change: (step: Step) => Step): Draft {
  return withSteps(draft, draft.steps.map((step) => (step.id === id ? change(step) : step)));
}

export function withValue(values: Values, name: string, value: unknown): Values {
  const { [name]: _, ...others } = values;
  return value === undefined ? others : { ...others, [name]: value };
}

export const removed = (draft: Draft, id: string): Draft => withSteps(draft, draft.steps.filter((step) => step.id !== id));

export function duplicated(draft: Draft, id: string): { draft: Draft; id: string } {
  const at = draft.steps.findIndex((step) => step.id === id);
  const found = draft.steps[at];
  if (found === undefined) return { draft, id };
  const copy: Step = { ...found, id: newId() };
  return { draft: withSteps(draft, draft.steps.toSpliced(at + 1, 0, copy)), id: copy.id };
}

/** With the step at another place; `to` counts places after it was taken out. */
export function moved(draft: Draft, id: string, to: number): Draft {
  const at = draft.steps.findIndex((step) => step.id === id);
  const found = draft.steps[at];
  const place = Math.max(0, Math.min(to, draft.steps.length - 1));
  if (found === undefined || place === at) return draft;
  return withSteps(draft, draft.steps.toSpliced(at, 1).toSpliced(place, 0, found));
}

/** A new step at the end, with the values of the operation's example. */
export function added(draft: Draft, name: string, catalogue: Catalogue): { draft: Draft; id: string } {
  const step: Step = { id: newId(), name, values: exampleOf(name, catalogue) };
  return { draft: withSteps(draft, [...draft.steps, step]), id: step.id };
}

/** Files that an example names aren't here. */
function exampleOf(name: string, catalogue: Catalogue): Values {
  const type = catalogue.operations.get(name);
  const values = type?.example ? (draftOf(type.example, catalogue).steps[0]?.values ?? {}) : {};
  const files = new Set(type?.parameters.filter((one) => one.kind === "image").map((one) => one.name));
  return Object.fromEntries(Object.entries(values).filter(([key]) => !files.has(key)));
}

/** Without those references of images: they must be chosen. */
export function without(draft: Draft, references: readonly string[], catalogue: Catalogue): Draft {
  if (references.length === 0) return draft;
  const steps = draft.steps.map((step): Step => {
    const images = catalogue.operations.get(step.name)?.parameters.filter((one) => one.kind === "image") ?? [];
    const values = images.reduce((all, { name }) => (references.includes(String(all[name])) ? withValue(all, name, undefined) : all), step.values);
    return { ...step, values };
  });
  return withSteps(draft, steps);
}

/** The steps of a text that was written anew: ids are kept for what stayed, and so are steps that are switched off. */
export function reconciled(before: Draft, after: Draft): Draft {
  const old = before.steps.filter((step) => !step.off);
  const same = (a: Step | undefined, b: Step | undefined) => a !== undefined && b !== undefined && a.name === b.name;
  let front = 0;
  while (same(old[front], after.steps[front])) front += 1;
  let back = 0;
  const shorter = Math.min(old.length, after.steps.length) - front;
  while (back < shorter && same(old.at(-1 - back), after.steps.at(-1 - back))) back += 1;
  const shift = after.steps.length - old.length;
  const steps = after.steps.map((step, index): Step => {
    const kept = index < front ? old[index] : index >= after.steps.length - back ? old[index - shift] : undefined;
    return kept ? { ...step, id: kept.id } : step;
  });
  let active = 0;
  let more = 0;
  for (const step of before.steps) {
    if (!step.off) active += 1;
    else steps.splice(Math.min(active <= front ? active : Math.max(front, active + shift), after.steps.length) + more++, 0, step);
  }
  return withSteps(after, steps);
}

/** Whether this is a draft: what a browser kept may be of an older page. */
export function isDraft(value: unknown): value is Draft {
  if (value === null || typeof value !== "object") return false;
  const { frame, steps, metadata, format } = value as Partial<Draft>;
  return (
    (frame === null || typeof frame === "number") &&
    Array.isArray(steps) &&
    steps.every((step) => typeof step?.id === "string" && typeof step.name === "string" && isObject(step.values)) &&
    (metadata === null || isObject(metadata)) &&
    (format === null || (isObject(format) && typeof format?.name === "string" && isObject(format?.values)))
  );
}

const isObject = (value: unknown): boolean => value !== null && typeof value === "object" && !Array.isArray(value);
