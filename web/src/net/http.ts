// Requests to the service. Only this folder touches the network.
//
// Every failure is one of two: a `Problem` (the service answered with an RFC 9457 document) or `Unreachable` (nobody
// answered). While nobody answers, `reachable` is false and one probe at a time asks until somebody does.

import { signal } from "@preact/signals";

/** A problem document of the service: a stable `type`, and text for people. */
export class Problem extends Error {
  constructor(
    readonly status: number,
    readonly type: string,
    readonly title: string,
    readonly detail: string,
    readonly extra: Record<string, unknown> = {},
    /** Seconds after which the service asks to try again; null where it doesn't. */
    readonly retryAfter: number | null = null,
  ) {
    super(detail || title);
    this.name = "Problem";
  }

  /** The last part of the type: `busy`, `not-found`. */
  get slug(): string {
    return this.type.split("/").pop() ?? this.type;
  }
}

/** Nobody answered. */
export class Unreachable extends Error {
  constructor(cause?: unknown) {
    super("The service does not answer. This page goes on by itself when it is back.", { cause });
    this.name = "Unreachable";
  }
}

/** Whether the last exchange got an answer. */
export const reachable = signal(true);
/** Counts how often the service came back; whoever shows something reads anew when it changes. */
export const returns = signal(0);
/** Called when a request is refused for want of a session. */
export const onSignedOut: { current: () => void } = { current: () => undefined };

export type Query = Record<string, string | number | boolean | null | undefined>;

export interface Wanted {
  query?: Query;
  json?: unknown;
  body?: BodyInit;
  headers?: Record<string, string>;
  signal?: AbortSignal;
}

const PROBE_FIRST_MS = 500;
const PROBE_MOST_MS = 5_000;

export function address(path: string, query?: Query): string {
  const wanted = Object.entries(query ?? {}).filter(([, value]) => value !== undefined && value !== null && value !== "");
  const text = new URLSearchParams(wanted.map(([name, value]) => [name, String(value)])).toString();
  return text ? `${path}?${text}` : path;
}

/** The answer, whatever it is in 2xx; throws `Problem`, `Unreachable`, or `AbortError` where `signal` says so. */
export async function ask(method: string, path: string, wanted: Wanted = {}): Promise<Response> {
  const init: RequestInit = { method, headers: { ...wanted.headers }, credentials: "same-origin" };
  if (wanted.signal) init.signal = wanted.signal;
  if (wanted.json !== undefined) {
    init.body = JSON.stringify(wanted.json);
    (init.headers as Record<string, string>)["Content-Type"] = "application/json";
  } else if (wanted.body !== undefined) {
    init.body = wanted.body;
  }
  let response: Response;
  try {
    response = await fetch(address(path, wanted.query), init);
  } catch (error) {
    if (wanted.signal?.aborted) throw error;
    lost();
    throw new Unreachable(error);
  }
  found();
  if (response.ok) return response;
  throw await problemOf(response);
}

export async function askJson<T>(method: string, path: string, wanted: Wanted = {}): Promise<T> {
  const response = await ask(method, path, wanted);
  return (await response.json()) as T;
}

async function problemOf(response: Response): Promise<Problem> {
  return problemFrom(response.status, await response.text().catch(() => ""), response.headers.get("retry-after"));
}

export function problemFrom(status: number, text: string, retryAfter: string | null): Problem {
  let body: Record<string, unknown> = {};
  try {
    body = JSON.parse(text) as Record<string, unknown>;
  } catch {
    // A proxy in front may answer in words of its own.
  }
  const { type, title, detail, ...extra } = body;
  const seconds = retryAfter === null ? NaN : Number(retryAfter);
  const problem = new Problem(
    status,
    typeof type === "string" ? type : "about:blank",
    typeof title === "string" ? title : `Error ${status}`,
    typeof detail === "string" ? detail : `The service answered ${status}.`,
    extra,
    Number.isFinite(seconds) ? seconds : null,
  );
  if (status === 401) onSignedOut.current();
  return problem;
}

export interface UploadWanted {
  onProgress?: (sent: number, total: number) => void;
  signal?: AbortSignal;
  headers?: Record<string, string>;
}

/** PUT a file as the raw body, telling how far it is (fetch can't); the JSON of the answer. */
export function send<T>(path: string, file: Blob, wanted: UploadWanted = {}): Promise<T> {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const abort = () => request.abort();
    request.open("PUT", path);
    for (const [name, value] of Object.entries(wanted.headers ?? {})) request.setRequestHeader(name, value);
    request.upload.onprogress = (event) => wanted.onProgress?.(event.loaded, event.total);
    request.onload = () => {
      found();
      if (request.status >= 200 && request.status < 300) resolve(JSON.parse(request.responseText) as T);
      else reject(problemFrom(request.status, request.responseText, request.getResponseHeader("retry-after")));
    };
    request.onerror = () => {
      lost();
      reject(new Unreachable());
    };
    request.onabort = () => reject(new DOMException("The upload was stopped.", "AbortError"));
    request.onloadend = () => wanted.signal?.removeEventListener("abort", abort);
    if (wanted.signal?.aborted) return void reject(new DOMException("The upload was stopped.", "AbortError"));
    wanted.signal?.addEventListener("abort", abort);
    request.send(file);
  });
}

export const isAbort = (error: unknown): boolean => error instanceof DOMException && error.name === "AbortError";

/** What to show people of an error. */
export function words(error: unknown): string {
  if (error instanceof Error) return error.message;
  return String(error);
}

function found(): void {
  if (reachable.peek()) return;
  reachable.value = true;
  returns.value += 1;
}

/** A stream has ended, which a service may do that is well: only if it doesn't answer a question either it is gone. */
export async function suspect(): Promise<void> {
  try {
    await fetch("/healthz", { cache: "no-store", signal: AbortSignal.timeout(5_000) });
  } catch {
    lost();
  }
}

/** Nobody answered somewhere: ask again and again whether the service is back. */
export function lost(): void {
  if (!reachable.peek()) return;
  reachable.value = false;
  void probe(PROBE_FIRST_MS);
}

async function probe(after: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, after));
  if (reachable.peek()) return;
  try {
    const response = await fetch("/healthz", { cache: "no-store", signal: AbortSignal.timeout(5_000) });
    if (response.ok) return found();
  } catch {
    // Not yet.
  }
  await probe(Math.min(after * 1.5, PROBE_MOST_MS));
}
