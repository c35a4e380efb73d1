// Where a slider stands for a number: ranges as people use them, not as they are possible.

import type { Parameter } from "./catalogue";

export interface Scale {
  low: number;
  high: number;
  step: number;
  /** Small numbers get more room. */
  curved: boolean;
}

/** Places of a slider. */
export const PLACES = 400;
/** Ranges above this are cut: nobody finds 300 among 65,535 with a slider. */
const WIDE = 1_000;
const COMMON = 2_048;

/** Null where a slider makes no sense. */
export function scaleOf(parameter: Parameter, value: number | undefined): Scale | null {
  const { kind, minimum, maximum } = parameter;
  if ((kind !== "integer" && kind !== "number") || minimum === undefined || maximum === undefined) return null;
  let high = maximum;
  if (maximum - minimum > WIDE) {
    const usual = typeof parameter.fallback === "number" && parameter.fallback > 0 ? Math.max(5 * parameter.fallback, 100) : COMMON;
    high = Math.min(maximum, Math.max(usual, value ?? 0));
  }
  const step = kind === "integer" ? 1 : rounded((high - minimum) / 200);
  const low = parameter.above ? step : minimum;
  return { low, high, step, curved: minimum >= 0 && high - low > 12 && high > 5 * Math.max(minimum, 1) };
}

/** The next lower of 1, 2, 5 times a power of ten. */
function rounded(value: number): number {
  const power = 10 ** Math.floor(Math.log10(value));
  const digit = value / power;
  return Number(((digit >= 5 ? 5 : digit >= 2 ? 2 : 1) * power).toPrecision(1));
}

export function placeOf(value: number, scale: Scale): number {
  const part = Math.max(0, Math.min(1, (value - scale.low) / (scale.high - scale.low)));
  return Math.round(PLACES * (scale.curved ? Math.sqrt(part) : part));
}

export function valueAt(place: number, scale: Scale): number {
  const part = place / PLACES;
  const exact = scale.low + (scale.high - scale.low) * (scale.curved ? part * part : part);
  // Curved ones start fine: a step of a tenth where the number is small.
  const step = scale.curved && scale.step < 1 && exact < scale.high / 20 ? scale.step / 5 : scale.step;
  const value = scale.low + Math.round((exact - scale.low) / step) * step;
  return Number(Math.min(scale.high, value).toPrecision(6));
}
