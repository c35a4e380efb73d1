// One stream of server-sent events that is opened again for as long as somebody wants it. Runs in a page or a worker.

import { EVENT_TYPES, STREAM_PATHS, type FromWorker, type StreamName } from "./protocol";

const AGAIN_FIRST_MS = 500;
const AGAIN_MOST_MS = 5_000;

/** Follows a stream until `close`; after a break it goes on behind the last event that it saw. */
export class Source {
  private source: EventSource | undefined;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private wait = AGAIN_FIRST_MS;
  private last = "";
  private closed = false;

  constructor(
    private readonly stream: StreamName,
    private readonly tell: (message: FromWorker) => void,
  ) {
    this.open();
  }

  close(): void {
    this.closed = true;
    clearTimeout(this.timer);
    this.source?.close();
  }

  /** Tell a newcomer how it stands. */
  get state(): "open" | "lost" {
    return this.source?.readyState === EventSource.OPEN ? "open" : "lost";
  }

  private open(): void {
    const path = STREAM_PATHS[this.stream];
    // A new EventSource doesn't know what the one before it saw; the log is asked from there by the query.
    const url = this.last ? `${path}${path.includes("?") ? "&" : "?"}after=${this.last}` : path;
    const source = new EventSource(url);
    this.source = source;
    source.onopen = () => {
      this.wait = AGAIN_FIRST_MS;
      this.tell({ stream: this.stream, state: "open" });
    };
    source.onerror = () => this.again(source);
    for (const type of EVENT_TYPES) {
      source.addEventListener(type, (message: MessageEvent<string>) => {
        if (message.lastEventId) this.last = message.lastEventId;
        const data = JSON.parse(message.data) as Record<string, unknown>;
        this.tell({ stream: this.stream, event: { type, id: message.lastEventId, data } });
      });
    }
  }

  /** The browser's own retry gives up at the first answer that isn't 200, such as a proxy's 502. */
  private again(source: EventSource): void {
    source.close();
    if (this.closed || this.source !== source) return;
    this.tell({ stream: this.stream, state: "lost" });
    this.timer = setTimeout(() => {
      if (!this.closed) this.open();
    }, this.wait);
    this.wait = Math.min(this.wait * 1.5, AGAIN_MOST_MS);
  }
}
