// Light, dark, or what the system says.

import { computed, effect, signal } from "@preact/signals";

import { stored } from "./storage";

export type Theme = "system" | "light" | "dark";

export const theme = stored<Theme>("theme", "system");

const query = matchMedia("(prefers-color-scheme: dark)");
const systemIsDark = signal(query.matches);
query.addEventListener("change", (event) => {
  systemIsDark.value = event.matches;
});

/** What is shown; canvases must be painted anew when it changes. */
export const isDark = computed(() => (theme.value === "system" ? systemIsDark.value : theme.value === "dark"));

effect(() => {
  if (theme.value === "system") delete document.documentElement.dataset["theme"];
  else document.documentElement.dataset["theme"] = theme.value;
});
