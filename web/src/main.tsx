// Starts the application: who is here, what happens live, and the page that the address names.

import { effect, signal } from "@preact/signals";
import { Component, render, type ComponentChildren, type ComponentType } from "preact";

import { returns, suspect } from "./net/http";
import { startJobEvents, stopJobEvents } from "./state/jobs-live";
import { route, type Route } from "./state/router";
import { loadSession, session, signedIn } from "./state/session";
import "./state/theme";
import { Shell } from "./shell";
import { Button, Empty, Failure } from "./ui/basics";

type Page = ComponentType<{ route: Route }>;

const LOADERS: Record<string, () => Promise<{ default: Page }>> = {
  studio: () => import("./pages/studio/index"),
  jobs: () => import("./pages/jobs/index"),
  dashboard: () => import("./pages/dashboard/index"),
};
const TITLES: Record<Route["page"], string> = { studio: "Studio", jobs: "Jobs", dashboard: "Dashboard", unknown: "Not found" };
/** The other pages are fetched when this one is at rest: they are there when the service isn't. */
const REST_MS = 1_000;

const pages = signal<Record<string, Page>>({});
const missing = signal<ReadonlySet<string>>(new Set());

async function load(name: string): Promise<void> {
  if (pages.peek()[name] || !LOADERS[name]) return;
  const without = new Set(missing.peek());
  try {
    const loaded = await LOADERS[name]();
    pages.value = { ...pages.peek(), [name]: loaded.default };
    without.delete(name);
  } catch {
    without.add(name);
    await suspect(); // says so where nobody answers
  }
  missing.value = without;
}

effect(() => {
  const { page } = route.value;
  document.title = `${TITLES[page]} · Pixelmill`;
  void load(page);
});

effect(() => {
  // A browser remembers for the life of a document that a script couldn't be fetched. Without a Studio nothing was
  // dropped or built that could be lost.
  if (returns.value > 0 && missing.peek().has(route.peek().page) && !pages.peek()["studio"]) location.reload();
});

function App() {
  const { page } = route.value;
  const Shown = pages.value[page];
  return (
    <Shell>
      {Shown ? (
        <Careful key={page}>
          <Shown route={route.value} />
        </Careful>
      ) : (
        <main id="content" class="page" tabIndex={-1}>
          {missing.value.has(page) && <Missing title={TITLES[page]} />}
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

/** Its script can't be fetched: nobody answers, or the service is of another version now and has it no more. */
function Missing({ title }: { title: string }) {
  return (
    <>
      <h1>{title}</h1>
      <Empty icon="warning" title="This page could not be fetched">
        <p>The service was away for a moment, or was updated since this page was opened. Load it anew when the service answers; jobs go on meanwhile.</p>
        <Button onClick={() => location.reload()}>Load anew</Button>
      </Empty>
    </>
  );
}

/** An error in one page leaves the others, and a way on. */
class Careful extends Component<{ children: ComponentChildren }, { error: unknown }> {
  override state = { error: undefined as unknown };

  static override getDerivedStateFromError(error: unknown) {
    console.error(error);
    return { error };
  }

  override render() {
    if (this.state.error === undefined) return this.props.children;
    return (
      <main id="content" class="page" tabIndex={-1}>
        <h1>Something went wrong here</h1>
        <Failure error={this.state.error} again={() => Promise.resolve(this.setState({ error: undefined }))} />
        <p>Jobs go on by themselves. What you dropped and built is still here: go to another page and back, or try again.</p>
      </main>
    );
  }
}

const root = document.getElementById("app");
if (root) {
  root.textContent = "";
  render(<App />, root);
}
effect(() => {
  if (signedIn.value) startJobEvents();
  else if (session.value !== undefined) stopJobEvents();
});
void loadSession();
setTimeout(() => Object.keys(LOADERS).forEach((name) => void load(name)), REST_MS);
