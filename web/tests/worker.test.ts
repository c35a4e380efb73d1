// The shared worker that holds the streams of all tabs, with stand-ins for what browsers give it.

import assert from "node:assert/strict";
import { test } from "node:test";

interface Port {
  onmessage?: (message: { data: unknown }) => void;
  postMessage(message: unknown): void;
}

const opened: Stream[] = [];
const world = globalThis as unknown as Record<string, unknown>;

class Stream {
  static readonly OPEN = 1;
  readyState = 1;
  closed = false;
  onopen?: () => void;
  private readonly heard: ((message: unknown) => void)[] = [];

  constructor(readonly url: string) {
    opened.push(this);
  }

  addEventListener(type: string, listener: (message: unknown) => void): void {
    if (type === "job") this.heard.push(listener);
  }

  say(id: string): void {
    for (const listener of this.heard) listener({ data: "{}", lastEventId: id });
  }

  close(): void {
    this.closed = true;
  }
}

const running = () => opened.filter((one) => !one.closed);

test("a tab that slept gets its streams again, and whoever signs in gets their own", async () => {
  const browser: { onconnect?: (event: { ports: Port[] }) => void } = {};
  let look = () => {};
  let now = 1_000_000;
  world["self"] = browser;
  world["EventSource"] = Stream;
  world["setInterval"] = (call: () => void) => ((look = call), 0);
  Date.now = () => now;
  await import("../src/net/worker");

  const port: Port = { postMessage: () => {} };
  browser.onconnect?.({ ports: [port] });
  const say = (data: unknown) => port.onmessage?.({ data });
  say({ do: "open", stream: "events" });
  assert.deepEqual(running().map((one) => one.url), ["/v1/events"]);

  // The machine sleeps; the worker wakes up before the tab does.
  now += 600_000;
  look();
  assert.equal(running().length, 0);
  say({ do: "here" });
  assert.equal(running().length, 1);
  say({ do: "here" });
  assert.equal(running().length, 1);

  running()[0]?.say("77");
  say({ do: "restart" });
  assert.deepEqual(running().map((one) => one.url), ["/v1/events"]);
  say({ do: "bye" });
  assert.equal(running().length, 0);
});
