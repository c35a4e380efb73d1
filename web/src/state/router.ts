// Which page is shown: the path of the address, changed without loading anew.

import { computed, signal } from "@preact/signals";

export interface Route {
  page: "studio" | "jobs" | "dashboard" | "unknown";
  /** Id of a job below /jobs/. */
  job: string | null;
  query: URLSearchParams;
}

/** Lists come from the service: as long a place that was left is looked for. */
const RETURN_MS = 2_000;
const MOST_PLACES = 200;

const here = signal(location.pathname + location.search);
/** How far each address of the history was scrolled, by its key. */
const places = new Map<string, number>();

if (typeof history !== "undefined") history.scrollRestoration = "manual";
addEventListener("popstate", () => {
  arrive(places.get(keyOf()) ?? 0);
});
addEventListener("scrollend", leave);

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

/** `replace`: the same page said otherwise, as with another filter. */
export function go(path: string, replace = false): void {
  if (replace) {
    history.replaceState(history.state, "", path);
    here.value = path;
    return;
  }
  leave();
  history.pushState({ key: crypto.getRandomValues(new Uint32Array(2)).join("-") }, "", path);
  arrive(0);
}

const keyOf = (): string => (history.state as { key?: string } | null)?.key ?? "first";

function leave(): void {
  const key = keyOf();
  places.delete(key);
  places.set(key, scrollY);
  const [oldest] = places.keys();
  if (places.size > MOST_PLACES && oldest !== undefined) places.delete(oldest);
}

/** On another page: who listens or uses the keyboard begins at its content, and everybody where they left it. */
function arrive(top: number): void {
  const before = parse(here.peek());
  here.value = location.pathname + location.search;
  const now = route.peek();
  if (now.page === before.page && now.job === before.job) return;
  const until = performance.now() + RETURN_MS;
  const arrived = here.peek();
  let focused = false;
  let set = scrollY;
  const settle = () => {
    // Gone on, or scrolled by somebody else.
    if (here.peek() !== arrived || (focused && Math.abs(scrollY - set) > 1)) return;
    const content = document.getElementById("content");
    if (content && !focused) {
      focused = true;
      content.focus({ preventScroll: true });
    }
    scrollTo({ top, behavior: "instant" });
    set = scrollY;
    if (Math.abs(set - top) > 1 && performance.now() < until) requestAnimationFrame(settle);
  };
  requestAnimationFrame(() => requestAnimationFrame(settle));
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
