// Streams as a page sees them: through the shared worker, or its own where there is none.

import { signal } from "@preact/signals";

import { suspect } from "./http";
import type { FromWorker, StreamEvent, StreamName, ToWorker } from "./protocol";
import { Source } from "./source";

export type { StreamEvent } from "./protocol";

type Listener = (event: StreamEvent) => void;
type Reopened = () => void;

/** Streams that are open now. */
export const openStreams = signal<ReadonlySet<StreamName>>(new Set());

const listeners = new Map<StreamName, Set<Listener>>();
const reopened = new Map<StreamName, Set<Reopened>>();
const everOpened = new Set<StreamName>();
const HERE_MS = 20_000;

interface Link {
  open(stream: StreamName): void;
  close(stream: StreamName): void;
}

let link: Link | undefined;

/** Follow a stream; the returned function ends it. `onReopen` is called when it was broken and is back: what it missed
 * of samples is gone, and lists should be read again. */
export function follow(stream: StreamName, listener: Listener, onReopen?: Reopened): () => void {
  link ??= connect();
  const mine = listeners.get(stream) ?? new Set();
  const first = mine.size === 0;
  listeners.set(stream, mine.add(listener));
  if (onReopen) reopened.set(stream, (reopened.get(stream) ?? new Set()).add(onReopen));
  if (first) link.open(stream);
  return () => {
    mine.delete(listener);
    if (onReopen) reopened.get(stream)?.delete(onReopen);
    if (mine.size === 0) {
      link?.close(stream);
      everOpened.delete(stream);
      setOpen(stream, false);
    }
  };
}

/** Begin anew, as after signing in: streams are bound to who opened them. */
export function restartStreams(): void {
  const wanted = [...listeners].filter(([, some]) => some.size > 0).map(([stream]) => stream);
  for (const stream of wanted) link?.close(stream);
  for (const stream of wanted) link?.open(stream);
}

function receive(message: FromWorker): void {
  if ("event" in message) {
    for (const listener of [...(listeners.get(message.stream) ?? [])]) listener(message.event);
    return;
  }
  setOpen(message.stream, message.state === "open");
  if (message.state !== "open") return void suspect();
  if (everOpened.has(message.stream)) for (const call of [...(reopened.get(message.stream) ?? [])]) call();
  everOpened.add(message.stream);
}

function setOpen(stream: StreamName, open: boolean): void {
  if (openStreams.peek().has(stream) === open) return;
  const next = new Set(openStreams.peek());
  if (open) next.add(stream);
  else next.delete(stream);
  openStreams.value = next;
}

function connect(): Link {
  const script = document.body.dataset["worker"];
  if (typeof SharedWorker === "undefined" || !script) return ownSources();
  try {
    return throughWorker(new SharedWorker(script, { type: "module", name: "pixelmill" }));
  } catch {
    return ownSources();
  }
}

function throughWorker(worker: SharedWorker): Link {
  const say = (message: ToWorker) => worker.port.postMessage(message);
  let instead: Link | undefined;
  const wanted = new Set<StreamName>();
  // A worker that can't be loaded (a policy, an old browser) must not cost the page its events.
  worker.onerror = () => {
    if (instead) return;
    instead = ownSources();
    for (const stream of wanted) instead.open(stream);
  };
  worker.port.onmessage = (message: MessageEvent<FromWorker>) => receive(message.data);
  worker.port.start();
  setInterval(() => say({ do: "here" }), HERE_MS);
  addEventListener("pagehide", () => say({ do: "bye" }));
  // A page that comes back from the history has said goodbye, and must ask again.
  addEventListener("pageshow", (event) => {
    if (event.persisted) for (const stream of wanted) say({ do: "open", stream });
  });
  return {
    open: (stream) => {
      wanted.add(stream);
      if (instead) instead.open(stream);
      else say({ do: "open", stream });
    },
    close: (stream) => {
      wanted.delete(stream);
      if (instead) instead.close(stream);
      else say({ do: "close", stream });
    },
  };
}

function ownSources(): Link {
  const sources = new Map<StreamName, Source>();
  return {
    open: (stream) => void sources.set(stream, new Source(stream, receive)),
    close: (stream) => {
      sources.get(stream)?.close();
      sources.delete(stream);
    },
  };
}
