// Starts the application: who is here, what happens live, and the page that the address names.

import { effect, signal } from "@preact/signals";
import { render, type ComponentType } from "preact";

import { startJobEvents } from "./state/jobs-live";
import { route, type Route } from "./state/router";
import { loadSession, signedIn } from "./state/session";
import "./state/theme";
import { Shell } from "./shell";
import { Empty, Failure } from "./ui/basics";

type Page = ComponentType<{ route: Route }>;

const LOADERS: Record<string, () => Promise<{ default: Page }>> = {
  studio: () => import("./pages/studio/index"),
  jobs: () => import("./pages/jobs/index"),
  dashboard: () => import("./pages/dashboard/index"),
};
const TITLES: Record<Route["page"], string> = { studio: "Studio", jobs: "Jobs", dashboard: "Dashboard", unknown: "Not found" };

const pages = signal<Record<string, Page>>({});
const failure = signal<unknown>(undefined);

async function load(name: string): Promise<void> {
  if (pages.peek()[name] || !LOADERS[name]) return;
  try {
    const loaded = await LOADERS[name]();
    pages.value = { ...pages.peek(), [name]: loaded.default };
    failure.value = undefined;
  } catch (error) {
    failure.value = error;
  }
}

effect(() => {
  const { page } = route.value;
  document.title = `${TITLES[page]} · Pixelmill`;
  void load(page);
});

function App() {
  const { page } = route.value;
  const Shown = pages.value[page];
  return (
    <Shell>
      {Shown ? (
        <Shown route={route.value} />
      ) : (
        <main id="content" tabIndex={-1}>
          {failure.value !== undefined && <Failure error={failure.value} again={() => load(page)} />}
          {page === "unknown" && (
            <Empty icon="search" title="There is no such page">
              <a href="/">To the Studio</a>
            </Empty>
          )}
        </main>
      )}
    </Shell>
  );
}

const root = document.getElementById("app");
if (root) {
  root.textContent = "";
  render(<App />, root);
}
loadSession()
  .then(() => {
    effect(() => {
      if (signedIn.value) startJobEvents();
    });
  })
  .catch(() => undefined); // the connection's line says so, and the session is asked for when it is back
