// On which picture the data of a step lies: it speaks of pixels of the image that the step saw.

import type { Catalogue } from "./catalogue";
import type { Step } from "./draft";

export type Place = "source" | "result";

/** Steps beside the family "geometry" whose result has other places than what they saw. */
const MOVES: Record<string, (values: Step["values"]) => boolean> = {
  border: () => true,
  faces: (values) => values["mode"] === "crop",
  match: (values) => values["draw"] !== false,
};

/** By name of the step; a step between two that move pixels is missing, for its picture isn't shown anywhere. */
export function placesOf(steps: readonly Step[], known: Catalogue): Map<string, Place> {
  const used = steps.filter((step) => !step.off);
  const moves = used.map((step) => known.operations.get(step.name)?.family === "geometry" || MOVES[step.name]?.(step.values) === true);
  const found = new Map<string, Place>();
  used.forEach((step, index) => {
    if (!moves.slice(index).includes(true)) found.set(step.name, "result");
    else if (!moves.slice(0, index).includes(true)) found.set(step.name, "source");
  });
  return found;
}
