// Values that this browser keeps between visits. Storage may be forbidden or full: then they last as long as the page.

import { effect, signal, type Signal } from "@preact/signals";

const PREFIX = "pixelmill.";

/** A signal that is stored under a name; other tabs see its changes. */
export function stored<T>(name: string, fallback: T): Signal<T> {
  const key = PREFIX + name;
  const value = signal(read(key, fallback));
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
    value.value = read(key, fallback);
  });
  return value;
}

function read<T>(key: string, fallback: T): T {
  try {
    const text = localStorage.getItem(key);
    return text === null ? fallback : (JSON.parse(text) as T);
  } catch {
    return fallback;
  }
}
