// Which page is shown: the path of the address, changed without loading anew.

import { computed, signal } from "@preact/signals";

export interface Route {
  page: "studio" | "jobs" | "dashboard" | "unknown";
  /** Id of a job below /jobs/. */
  job: string | null;
  query: URLSearchParams;
}

const here = signal(location.pathname + location.search);
addEventListener("popstate", () => {
  here.value = location.pathname + location.search;
});

export const route = computed<Route>(() => parse(here.value));

export function parse(path: string): Route {
  const [name = "/", search = ""] = path.split("?", 2);
  const query = new URLSearchParams(search);
  const parts = name.split("/").filter(Boolean);
  if (parts.length === 0) return { page: "studio", job: null, query };
  if (parts[0] === "dashboard" && parts.length === 1) return { page: "dashboard", job: null, query };
  if (parts[0] === "jobs" && parts.length <= 2) return { page: "jobs", job: parts[1] ?? null, query };
  return { page: "unknown", job: null, query };
}

export function go(path: string, replace = false): void {
  if (replace) history.replaceState(null, "", path);
  else history.pushState(null, "", path);
  here.value = path;
}

/** A click on a link that this page can follow by itself. */
export function follows(event: MouseEvent): void {
  if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  const link = (event.target as Element | null)?.closest("a");
  if (!link || link.target || link.hasAttribute("download") || link.origin !== location.origin) return;
  if (parse(link.pathname).page === "unknown") return;
  event.preventDefault();
  go(link.pathname + link.search);
}
