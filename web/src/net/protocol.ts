// What pages and the shared worker say to each other.

/** The streams of the service: all events of my jobs, of everybody's jobs (admins), and the fleet's samples. */
export type StreamName = "events" | "all-events" | "metrics";

export const STREAM_PATHS: Record<StreamName, string> = {
  events: "/v1/events",
  "all-events": "/v1/events?all=1",
  metrics: "/v1/metrics/stream",
};

/** Names of events in them. */
export const EVENT_TYPES = ["task", "progress", "job", "deleted", "sample"] as const;

export type ToWorker =
  | { do: "open"; stream: StreamName }
  | { do: "close"; stream: StreamName }
  | { do: "here" }
  /** Who looks has changed: streams are bound to who opened them. */
  | { do: "restart" }
  | { do: "bye" };

export interface StreamEvent {
  type: (typeof EVENT_TYPES)[number];
  /** The event's number in the log; empty for samples. */
  id: string;
  data: Record<string, unknown>;
}

export type FromWorker =
  | { stream: StreamName; event: StreamEvent }
  | { stream: StreamName; state: "open" | "lost" | "refused" };
