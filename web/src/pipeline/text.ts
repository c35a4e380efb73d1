// The text form of pipelines, read and written as the service does it:
//
//     pipeline = step *("/" step)
//     step     = name [":" argument *("," argument)]
//     argument = [name "="] element *(":" element)
//     element  = *(ALPHA / DIGIT / "." / "_" / "-" / "~" HEX HEX)

export interface TextArgument {
  elements: string[];
  name: string | null;
}

export interface TextStep {
  name: string;
  arguments: TextArgument[];
  /** Character at which it begins, from 0. */
  position: number;
}

/** What is wrong with a text, and at which character (from 0). */
export class TextError extends Error {
  constructor(
    message: string,
    readonly position: number,
  ) {
    super(message);
    this.name = "TextError";
  }
}

const MAX_TEXT = 8_192;
const NAME = /[A-Za-z][A-Za-z0-9_-]*/y;
const ELEMENT = /(?:[A-Za-z0-9._-]|~[0-9A-Fa-f]{2})*/y;
const UNSAFE = /[^A-Za-z0-9._-]/gu;
const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true });

export function readText(written: string): TextStep[] {
  if (written.length > MAX_TEXT) throw new TextError(`At most ${MAX_TEXT.toLocaleString("en")} characters are read.`, MAX_TEXT);
  const text = written.trimEnd();
  let at = text.length - text.trimStart().length;
  if (at >= text.length) return [];
  const steps: TextStep[] = [];
  for (;;) {
    const { step, end } = readStep(text, at);
    steps.push(step);
    if (end === text.length) return steps;
    at = end + 1;
  }
}

function match(pattern: RegExp, text: string, at: number): string | null {
  pattern.lastIndex = at;
  return pattern.exec(text)?.[0] ?? null;
}

function readStep(text: string, position: number): { step: TextStep; end: number } {
  const name = match(NAME, text, position);
  if (name === null) refuse(text, position, "the name of a step is expected here");
  let at = position + name.length;
  const found: TextArgument[] = [];
  if (text[at] === ":") {
    do {
      const { argument, end } = readArgument(text, at + 1);
      found.push(argument);
      at = end;
    } while (text[at] === ",");
  }
  if (at < text.length && text[at] !== "/") refuse(text, at, "this may not stand here");
  return { step: { name, arguments: found, position }, end: at };
}

function readArgument(text: string, start: number): { argument: TextArgument; end: number } {
  let at = start;
  let name = match(NAME, text, start);
  if (name !== null && text[start + name.length] === "=") at = start + name.length + 1;
  else name = null;
  const elements: string[] = [];
  for (;;) {
    const element = match(ELEMENT, text, at) ?? "";
    elements.push(decode(element, at));
    at += element.length;
    if (text[at] !== ":") break;
    at += 1;
  }
  if (name === null && elements.length === 1 && elements[0] === "" && (at === text.length || ",/".includes(text[at] ?? ""))) {
    refuse(text, at, "an argument is expected here");
  }
  return { argument: { elements, name }, end: at };
}

function refuse(text: string, at: number, what: string): never {
  const found = at >= text.length ? "the text ends" : `found "${text[at]}"`;
  throw new TextError(`At character ${at + 1}: ${what}; ${found}.`, at);
}

function decode(element: string, at: number): string {
  if (!element.includes("~")) return element;
  const bytes: number[] = [];
  for (let index = 0; index < element.length; index += 1) {
    if (element[index] === "~") {
      bytes.push(Number.parseInt(element.slice(index + 1, index + 3), 16));
      index += 2;
    } else {
      bytes.push(element.charCodeAt(index));
    }
  }
  try {
    return decoder.decode(new Uint8Array(bytes));
  } catch {
    throw new TextError(`At character ${at + 1}: this is not UTF-8.`, at);
  }
}

export function encode(value: string): string {
  return value.replace(UNSAFE, (character) =>
    [...encoder.encode(character)].map((byte) => `~${byte.toString(16).toUpperCase().padStart(2, "0")}`).join(""),
  );
}

export function writeText(steps: readonly TextStep[]): string {
  return steps.map(writeStep).join("/");
}

function writeStep(step: TextStep): string {
  if (step.arguments.length === 0) return step.name;
  const found = step.arguments.map(({ name, elements }) => {
    const value = elements.map(encode).join(":");
    return name === null ? value : `${name}=${value}`;
  });
  return `${step.name}:${found.join(",")}`;
}
