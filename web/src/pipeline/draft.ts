// The pipeline that is being built: plain values, and the way to its text and back.

import type { Catalogue, Parameter, StepType } from "./catalogue";
import { readText, TextError, writeText, type TextArgument, type TextStep } from "./text";

export type Values = Readonly<Record<string, unknown>>;

export interface Step {
  /** Only tells steps apart while they are moved. */
  id: string;
  name: string;
  /** What was given; what is left out has its default. */
  values: Values;
  /** Kept, but left out of the text. */
  off?: boolean;
}

export interface Draft {
  frame: number | null;
  steps: readonly Step[];
  metadata: Values | null;
  format: { name: string; values: Values } | null;
}

export const EMPTY: Draft = { frame: null, steps: [], metadata: null, format: null };

let made = 0;
export const newId = (): string => `s${Date.now().toString(36)}${(made++).toString(36)}`;

/** A text that only the service can read: it has presets, or steps that this page doesn't know. */
export class NeedsService extends Error {}

/** The draft of a text; throws `TextError`, or `NeedsService` for what must be expanded first. */
export function draftOf(text: string, catalogue: Catalogue): Draft {
  const steps = readText(text);
  if (steps.some((step) => step.name === "preset")) throw new NeedsService(text);
  let frame: number | null = null;
  let format: Draft["format"] = null;
  let metadata: Values | null = null;
  if (steps[0]?.name === "frame") {
    frame = Number(valuesOf(steps[0], known(catalogue.ends, "frame", steps[0]))["frame"]);
    steps.shift();
  }
  for (let last = steps.at(-1); last && (last.name === "format" || last.name === "metadata"); last = steps.at(-1)) {
    if (last.name === "metadata") metadata = valuesOf(last, known(catalogue.ends, "metadata", last));
    else format = formatOf(last, catalogue);
    steps.pop();
  }
  const operations = steps.map((step): Step => ({ id: newId(), name: step.name, values: valuesOf(step, known(catalogue.operations, step.name, step)) }));
  return { frame, steps: operations, metadata, format };
}

function known(table: ReadonlyMap<string, StepType>, name: string, step: TextStep): StepType {
  const found = table.get(name);
  if (found === undefined) throw new TextError(`At character ${step.position + 1}: there is no step "${name}".`, step.position);
  return found;
}

function formatOf(step: TextStep, catalogue: Catalogue): { name: string; values: Values } {
  const [first, ...others] = step.arguments;
  const name = first?.elements[0] ?? "";
  const type = catalogue.formats.get(name);
  if (type === undefined) throw new TextError(`At character ${step.position + 1}: there is no format "${name}" to write.`, step.position);
  return { name, values: valuesOf({ ...step, arguments: others }, type) };
}

function valuesOf(step: TextStep, type: StepType): Values {
  const values: Record<string, unknown> = {};
  step.arguments.forEach((argument, index) => {
    if (argument.name === null && index > 0 && step.arguments[index - 1]?.name !== null) {
      refuse(step, "an argument without a name stands behind one with a name");
    }
    const parameter = argument.name === null ? type.parameters[index] : type.parameters.find((one) => one.name === argument.name);
    if (parameter === undefined) {
      refuse(step, argument.name === null ? `it takes at most ${type.parameters.length} arguments` : `it has no parameter "${argument.name}"`);
    }
    if (parameter.name in values) refuse(step, `${parameter.name} is given twice`);
    if (argument.elements.length > 1 && parameter.kind !== "numbers" && parameter.kind !== "choices") {
      refuse(step, `${parameter.name} is no list; a colon in a value is written ~3A`);
    }
    values[parameter.name] = valueOf(argument, parameter);
  });
  return values;
}

function refuse(step: TextStep, what: string): never {
  throw new TextError(`At character ${step.position + 1}: ${step.name}: ${what}.`, step.position);
}

/** What a word means; a word that means nothing stays text, and the service says what is wrong with it. */
function valueOf(argument: TextArgument, parameter: Parameter): unknown {
  if (parameter.kind === "numbers") return argument.elements.map(numberOf);
  if (parameter.kind === "choices") return argument.elements;
  const word = argument.elements[0] ?? "";
  if (parameter.kind === "boolean") return TRUE.has(word.toLowerCase()) ? true : FALSE.has(word.toLowerCase()) ? false : word;
  if (parameter.kind === "color") return colorOf(word);
  if (parameter.kind === "integer" || parameter.kind === "number") return numberOf(word);
  if (parameter.kind === "choice") return parameter.choices.find((choice) => String(choice) === word) ?? word;
  return word;
}

const TRUE = new Set(["true", "1", "yes", "y", "on", "t"]);
const FALSE = new Set(["false", "0", "no", "n", "off", "f"]);
const NUMBER = /^[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?$/i;

const numberOf = (word: string): number | string => (NUMBER.test(word) && Number.isFinite(Number(word)) ? Number(word) : word);

/** Lower case, without a mark, each of three digits doubled: as the service writes it. */
function colorOf(word: string): string {
  const text = word.replace(/^#/, "").toLowerCase();
  return /^[0-9a-f]{3}$/.test(text) ? text.replace(/./g, "$&$&") : text;
}

/** The text of a draft. */
export function textOf(draft: Draft, catalogue: Catalogue): string {
  const steps: TextStep[] = [];
  if (draft.frame !== null) steps.push(textStep("frame", [{ name: null, elements: [String(draft.frame)] }]));
  for (const step of draft.steps) {
    if (step.off) continue;
    const type = catalogue.operations.get(step.name);
    steps.push(textStep(step.name, type ? textArguments(step.values, type) : []));
  }
  const metadata = catalogue.ends.get("metadata");
  if (draft.metadata !== null && metadata) {
    const found = textArguments(draft.metadata, metadata);
    if (found.length > 0) steps.push(textStep("metadata", found));
  }
  if (draft.format !== null) {
    const type = catalogue.formats.get(draft.format.name);
    const options = type ? textArguments(draft.format.values, type) : [];
    steps.push(textStep("format", [{ name: null, elements: [draft.format.name] }, ...options]));
  }
  return writeText(steps);
}

const textStep = (name: string, found: TextArgument[]): TextStep => ({ name, arguments: found, position: 0 });

/** Without defaults; the first ones by position as long as none is left out. */
function textArguments(values: Values, type: StepType): TextArgument[] {
  const found: TextArgument[] = [];
  type.parameters.forEach((parameter, index) => {
    const value = values[parameter.name];
    if (value === undefined || value === null || isDefault(value, parameter)) return;
    const elements = (Array.isArray(value) ? value : [value]).map((item) => wordOf(item, parameter));
    const inPlace = index < type.positional && index === found.length && !(elements.length === 1 && elements[0] === "");
    found.push({ name: inPlace ? null : parameter.name, elements });
  });
  return found;
}

export const isDefault = (value: unknown, parameter: Parameter): boolean =>
  !parameter.required && JSON.stringify(value) === JSON.stringify(parameter.fallback);

function wordOf(value: unknown, parameter: Parameter): string {
  if (typeof value === "number" && parameter.kind !== "choice") return numberWord(value);
  return String(value);
}

/** As Python writes it: whole numbers without a point, exponents of two digits from 1e-05 and 1e16 on, without "+". */
export function numberWord(value: number): string {
  if (Number.isInteger(value) && Math.abs(value) < 2 ** 53) return String(value === 0 ? 0 : value);
  const [digits = "", power = "0"] = value.toExponential().split("e");
  const exponent = Number(power);
  if (exponent < -4 || exponent >= 16) return `${digits}e${exponent < 0 ? "-" : ""}${String(Math.abs(exponent)).padStart(2, "0")}`;
  if (Number.isInteger(value)) return `${BigInt(value)}.0`;
  // Shorter than 1e-6, browsers would write an exponent.
  return exponent < 0 ? value.toFixed(digits.replace(/[-.]/g, "").length - 1 - exponent) : String(value);
}
