// The run that this tab showed last, so that a reload finds it again; a new tab finds the browser's last one.

import type { Submission } from "./submit";

export interface KeptRun {
  job: string | null;
  /** A submission whose answer hasn't come: sent again it gives the same job. */
  pending: Submission | null;
}

const NAME = "pixelmill.studio.run";
/** Beyond so many ids the browser's storage would be full; such a submission is kept only as long as the page. */
const MOST_PENDING = 20_000;

export function keepRun(run: KeptRun | null): void {
  const pending = run?.pending && run.pending.uploads.length <= MOST_PENDING ? run.pending : null;
  const text = run && (run.job || pending) ? JSON.stringify({ ...run, pending }) : null;
  for (const store of stores()) {
    try {
      if (text === null) store.removeItem(NAME);
      else store.setItem(NAME, text);
    } catch {
      // Forbidden or full: the run lasts as long as the page.
    }
  }
}

export function keptRun(): KeptRun | null {
  for (const store of stores()) {
    try {
      const text = store.getItem(NAME);
      if (text) return JSON.parse(text) as KeptRun;
    } catch {
      // As if there were none.
    }
  }
  return null;
}

/** The tab's own first: two tabs may show two runs. */
function stores(): Storage[] {
  try {
    return [sessionStorage, localStorage];
  } catch {
    return [];
  }
}
