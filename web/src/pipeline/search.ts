// Finding an operation by what people type: name, family, summary; the best first.

import type { Catalogue, StepType } from "./catalogue";
import { titleOf } from "./summary";

export interface Group {
  family: string;
  types: readonly StepType[];
}

/** All by family where nothing is asked; else what has every word, those whose name begins with it first. */
export function searched(catalogue: Catalogue, asked: string): Group[] {
  const all = [...catalogue.operations.values()];
  const query = asked.trim().toLowerCase();
  const terms = query.split(/\s+/).filter(Boolean);
  if (terms.length === 0) return catalogue.families.map((family) => ({ family, types: all.filter((type) => type.family === family) }));
  const found = all
    .map((type) => ({ type, rank: rankOf(type, query, terms) }))
    .filter(({ rank }) => rank > 0)
    .sort((a, b) => b.rank - a.rank);
  return found.length === 0 ? [] : [{ family: "Found", types: found.map(({ type }) => type) }];
}

function rankOf(type: StepType, query: string, terms: readonly string[]): number {
  const name = titleOf(type.name).toLowerCase();
  const text = `${name} ${type.name} ${type.family} ${type.summary} ${type.description}`.toLowerCase();
  if (!terms.every((term) => text.includes(term))) return 0;
  if (name === query || type.name === query) return 6;
  if (type.summary.toLowerCase().startsWith(query)) return 5;
  if (name.startsWith(query)) return 4;
  if (name.includes(query)) return 3;
  return `${type.family} ${type.summary}`.toLowerCase().includes(query) ? 2 : 1;
}
