// The pipeline that is being built: kept in this browser, with its history, its text, and what the service says of it.

import { computed, effect, signal } from "@preact/signals";

import * as api from "../../../net/api";
import { isAbort, returns, Unreachable, words } from "../../../net/http";
import { catalogueOf, type Catalogue } from "../../../pipeline/catalogue";
import { draftOf, EMPTY, NeedsService, textOf, type Draft } from "../../../pipeline/draft";
import { isDraft, reconciled, without } from "../../../pipeline/edit";
import { TextError } from "../../../pipeline/text";
import { stored } from "../../../state/storage";

export interface PipelineState {
  valid: boolean;
  /** The service has not said yet. */
  checking: boolean;
  error?: { detail: string; step: number | null; position: number | null };
  needs: { what: string; command: string | null }[];
}

const MOST_UNDONE = 100;
/** Changes of one field within this time are one step of the history. */
const MERGE_MS = 1_000;
const CHECK_AFTER_MS = 60;

export const catalogue = signal<Catalogue | undefined>(undefined);
export const presets = signal<readonly api.Preset[]>([]);
export const catalogueError = signal<unknown>(undefined);

export const draft = stored<Draft>("draft", EMPTY, isDraft);
/** The text while it is being written, if it isn't the draft's own; it may have faults. */
export const written = stored<string | null>("draft-text", null, (value) => value === null || typeof value === "string");

const canonical = computed(() => (catalogue.value ? textOf(draft.value, catalogue.value) : ""));
export const pipelineText = computed(() => written.value ?? canonical.value);
export const pipelineState = signal<PipelineState>({ valid: false, checking: true, needs: [] });
/** The draft stands for the text: false while the text can't be read. */
export const isRead = signal(true);

let loading: Promise<void> | undefined;

/** Ask for operations, formats and presets once; again after a failure. */
export function loadCatalogue(): Promise<void> {
  loading ??= load().catch((error: unknown) => {
    loading = undefined;
    catalogueError.value = error;
    throw error;
  });
  return loading;
}

async function load(): Promise<void> {
  const [operations, formats, known] = await Promise.all([api.operations(), api.formats(), api.presets()]);
  presets.value = known.items;
  catalogue.value = catalogueOf(operations.items, formats.items);
  catalogueError.value = undefined;
  if (written.peek() !== null) write(written.peek() ?? "");
}

/** Ask again where something is missing: it may have been installed, or its model fetched, meanwhile. */
export async function refreshCatalogue(): Promise<void> {
  if (catalogue.peek() !== undefined && presets.peek().some((preset) => !preset.available)) await load();
}

// -- history ------------------------------------------------------------------------------------------------------

const undone = signal<readonly Draft[]>([]);
const past = signal<readonly Draft[]>([]);
let merging = { key: "", at: 0 };
export const canUndo = computed(() => past.value.length > 0);
export const canRedo = computed(() => undone.value.length > 0);

/** Change the draft; changes with one `key` that follow each other quickly are undone together. */
export function edit(next: Draft, key = ""): void {
  written.value = null;
  become(next, key);
}

function become(next: Draft, key: string): void {
  const before = draft.peek();
  if (next === before) return;
  const now = Date.now();
  if (!(key && key === merging.key && now - merging.at < MERGE_MS)) past.value = [...past.peek(), before].slice(-MOST_UNDONE);
  merging = { key, at: now };
  undone.value = [];
  isRead.value = true;
  draft.value = next;
}

export function undo(): void {
  const last = past.peek().at(-1);
  if (last === undefined) return;
  past.value = past.peek().slice(0, -1);
  undone.value = [...undone.peek(), draft.peek()];
  settle(last);
}

export function redo(): void {
  const next = undone.peek().at(-1);
  if (next === undefined) return;
  undone.value = undone.peek().slice(0, -1);
  past.value = [...past.peek(), draft.peek()];
  settle(next);
}

function settle(next: Draft): void {
  merging = { key: "", at: 0 };
  written.value = null;
  isRead.value = true;
  draft.value = next;
}

// -- text ---------------------------------------------------------------------------------------------------------

/** The text was changed by hand. The draft follows as far as the text can be read. */
export function write(text: string): void {
  const known = catalogue.peek();
  written.value = text;
  if (known === undefined) return;
  try {
    const next = reconciled(draft.peek(), draftOf(text, known));
    if (textOf(next, known) !== textOf(draft.peek(), known)) become(next, "text");
    isRead.value = true;
  } catch (error) {
    if (!(error instanceof TextError || error instanceof NeedsService)) throw error;
    isRead.value = false;
  }
}

/** Done with writing: what was understood is shown as it is written normally. */
export function writtenOut(): void {
  if (isRead.peek()) written.value = null;
}

/** Replace everything, as a preset or a saved pipeline does. `missing` are references that stand for images to choose. */
export async function replaceBy(text: string, missing: readonly string[] = []): Promise<void> {
  await loadCatalogue();
  const known = catalogue.peek();
  if (known === undefined) return;
  edit(without(draftOf(await expanded(text, known), known), missing, known));
}

/** The steps of a text behind those that are here; its output takes the place of ours where it says one. */
export async function append(text: string, missing: readonly string[] = []): Promise<void> {
  await loadCatalogue();
  const known = catalogue.peek();
  if (known === undefined) return;
  const more = without(draftOf(await expanded(text, known), known), missing, known);
  const here = draft.peek();
  edit({ ...here, steps: [...here.steps, ...more.steps], format: more.format ?? here.format, metadata: more.metadata ?? here.metadata });
}

async function expanded(text: string, known: Catalogue): Promise<string> {
  try {
    draftOf(text, known);
    return text;
  } catch (error) {
    if (!(error instanceof NeedsService)) throw error;
    const found = await api.checkPipeline(text);
    if (!found.text) throw new Error(found.error?.detail ?? "The service can't read this pipeline.");
    return found.text;
  }
}

// -- what the service says ----------------------------------------------------------------------------------------

let asking: AbortController | undefined;

effect(() => {
  const text = pipelineText.value;
  const known = catalogue.value;
  returns.value; // it is asked again when it was away
  asking?.abort();
  if (known === undefined) return;
  const fault = faultOf(text, known);
  if (fault !== undefined) {
    pipelineState.value = { valid: false, checking: false, error: fault, needs: [] };
    return;
  }
  pipelineState.value = { ...pipelineState.peek(), checking: true };
  const mine = new AbortController();
  asking = mine;
  const timer = setTimeout(() => void check(text, known, mine.signal), CHECK_AFTER_MS);
  mine.signal.addEventListener("abort", () => clearTimeout(timer));
});

/** What this page sees by itself. */
function faultOf(text: string, known: Catalogue): PipelineState["error"] | undefined {
  try {
    draftOf(text, known);
    return undefined;
  } catch (error) {
    if (error instanceof TextError) return { detail: error.message, step: null, position: error.position };
    if (error instanceof NeedsService) return undefined;
    throw error;
  }
}

async function check(text: string, known: Catalogue, asked: AbortSignal): Promise<void> {
  try {
    const found = await api.checkPipeline(text, asked);
    if (!asked.aborted) told(known, found);
  } catch (error) {
    if (isAbort(error) || asked.aborted) return;
    if (error instanceof Unreachable) {
      pipelineState.value = { valid: isRead.peek(), checking: false, needs: [] };
      return;
    }
    pipelineState.value = { valid: false, checking: false, error: { detail: words(error), step: null, position: null }, needs: [] };
  }
}

function told(known: Catalogue, found: api.PipelineCheck): void {
  const needs = found.needs ?? [];
  if (!found.valid) {
    const { detail = "The service can't read this pipeline." } = found.error ?? {};
    pipelineState.value = { valid: false, checking: false, error: { detail, step: found.step ?? null, position: found.position ?? null }, needs };
    return;
  }
  if (!isRead.peek() && typeof found.text === "string") become(reconciled(draft.peek(), draftOf(found.text, known)), "text");
  pipelineState.value = { valid: true, checking: false, needs };
}

/** Id of the step that the service's number (from 0, as written) means; steps that are off don't count. */
export function idOfStep(number: number | null, from: Draft): string | null {
  if (number === null) return null;
  const first = from.frame === null ? 0 : 1;
  return from.steps.filter((step) => !step.off)[number - first]?.id ?? null;
}
