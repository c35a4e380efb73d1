// Values that this browser keeps between visits. Storage may be forbidden or full: then they last as long as the page.

import { effect, signal, type Signal } from "@preact/signals";

const PREFIX = "pixelmill.";
const OWNER = `${PREFIX}owner`;
/** Of the browser rather than of who signed in. */
const SHARED = new Set(["theme", "notifications"].map((name) => PREFIX + name));

/** A signal that is stored under a name; other tabs see its changes. What was kept and isn't `valid` (an older page's,
 * another program's) is as if it weren't there. */
export function stored<T>(name: string, fallback: T, valid: (value: unknown) => boolean = () => true): Signal<T> {
  const key = PREFIX + name;
  const value = signal(read(key, fallback, valid));
  let written = JSON.stringify(value.peek());
  effect(() => {
    const text = JSON.stringify(value.value);
    if (text === written) return;
    written = text;
    try {
      localStorage.setItem(key, text);
    } catch {
      // It lasts as long as the page, then.
    }
  });
  addEventListener("storage", (event) => {
    if (event.key !== key || event.newValue === written) return;
    written = event.newValue ?? JSON.stringify(fallback);
    value.value = read(key, fallback, valid);
  });
  return value;
}

function read<T>(key: string, fallback: T, valid: (value: unknown) => boolean): T {
  try {
    const text = localStorage.getItem(key);
    const value: unknown = text === null ? fallback : JSON.parse(text);
    return valid(value) ? (value as T) : fallback;
  } catch {
    return fallback;
  }
}

/** Somebody has signed in. Where that is somebody else than before, what the one before left here is removed, and the
 * answer is true: what the page holds of it must go, too. */
export function changedHands(owner: string): boolean {
  try {
    const before = localStorage.getItem(OWNER);
    if (before === owner) return false;
    if (before !== null) {
      for (const store of [localStorage, sessionStorage]) {
        for (const key of Object.keys(store)) if (key.startsWith(PREFIX) && !SHARED.has(key)) store.removeItem(key);
      }
    }
    localStorage.setItem(OWNER, owner);
    return before !== null;
  } catch {
    return false;
  }
}
