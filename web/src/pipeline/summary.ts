// One line about a step: what was chosen, in words.

import type { Parameter, StepType } from "./catalogue";
import { isDefault, type Values } from "./draft";

export function summaryOf(values: Values, type: StepType): string {
  const parts = type.parameters.flatMap((parameter, index) => {
    const value = values[parameter.name];
    if (value === undefined || value === null || isDefault(value, parameter)) return [];
    return [partOf(value, parameter, index < type.positional && index < 4)];
  });
  return parts.length > 0 ? parts.join(" · ") : type.summary;
}

const WIDE = new Set(["width", "height"]);

function partOf(value: unknown, parameter: Parameter, plain: boolean): string {
  if (parameter.kind === "boolean") return value === true ? parameter.title : `${parameter.title}: no`;
  if (parameter.kind === "image") return `${parameter.title} chosen`;
  const text = Array.isArray(value) ? (value.length > 4 ? `${value.length} numbers` : value.join(", ")) : parameter.kind === "color" ? `#${String(value)}` : String(value);
  if (parameter.kind === "choice" && plain) return text;
  if (WIDE.has(parameter.name)) return `${parameter.title} ${text} px`;
  return `${parameter.title} ${text.length > 40 ? `${text.slice(0, 39)}…` : text}`;
}

/** "white_balance" as a title. */
export const titleOf = (name: string): string => (name.charAt(0).toUpperCase() + name.slice(1)).replaceAll("_", " ");
