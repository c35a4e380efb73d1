// A shared worker that holds one stream of each kind for all tabs of this browser: with a stream of its own in every tab
// the seventh would wait for ever, since a browser opens six connections to a host.

import type { FromWorker, StreamName, ToWorker } from "./protocol";
import { Source } from "./source";

/** A tab says "here" every 20 s; browsers slow timers of hidden tabs down to one a minute. */
const SILENT_MS = 150_000;

interface Tab {
  port: MessagePort;
  wants: Set<StreamName>;
  seen: number;
}

const tabs = new Set<Tab>();
const sources = new Map<StreamName, Source>();

function tell(message: FromWorker): void {
  for (const tab of tabs) if (tab.wants.has(message.stream)) tab.port.postMessage(message);
}

function open(tab: Tab, stream: StreamName): void {
  tab.wants.add(stream);
  const source = sources.get(stream);
  if (source === undefined) sources.set(stream, new Source(stream, tell));
  else tab.port.postMessage({ stream, state: source.state } satisfies FromWorker);
}

function closeUnwanted(): void {
  for (const [stream, source] of sources) {
    if ([...tabs].some((tab) => tab.wants.has(stream))) continue;
    source.close();
    sources.delete(stream);
  }
}

function forget(tab: Tab): void {
  tabs.delete(tab);
  closeUnwanted();
}

function onMessage(tab: Tab, message: ToWorker): void {
  tab.seen = Date.now();
  tabs.add(tab);
  if (message.do === "open") open(tab, message.stream);
  if (message.do === "close") {
    tab.wants.delete(message.stream);
    closeUnwanted();
  }
  if (message.do === "bye") forget(tab);
}

declare const self: { onconnect: (event: MessageEvent) => void };

self.onconnect = (event) => {
  const port = event.ports[0];
  if (port === undefined) return;
  const tab: Tab = { port, wants: new Set(), seen: Date.now() };
  tabs.add(tab);
  port.onmessage = (message: MessageEvent<ToWorker>) => onMessage(tab, message.data);
};

setInterval(() => {
  for (const tab of tabs) if (Date.now() - tab.seen > SILENT_MS) forget(tab);
}, 30_000);
