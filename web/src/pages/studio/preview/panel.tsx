// One picture through the pipeline as it is being built. The last good picture stays until there is a new one.

import { signal, useSignal, useSignalEffect, type ReadonlySignal } from "@preact/signals";
import { useRef } from "preact/hooks";

import { isAbort, Problem, returns, Unreachable, words } from "../../../net/http";
import { textOf } from "../../../pipeline/draft";
import { placesOf } from "../../../pipeline/places";
import { Button, Empty } from "../../../ui/basics";
import { bytes, duration } from "../../../ui/format";
import { marksOf, type Data } from "../../../ui/marks";
import { OutcomeData } from "../../../ui/outcome-data";
import { Overlay } from "../../../ui/overlay";
import { catalogue, draft, isRead, pipelineState } from "../pipeline/state";
import { Compare } from "./compare";
import { forPreview, resultOf, type Result } from "./result";
import { MOST_SIDE, sourceOf, type Source } from "./source";

export type PreviewImage = ReadonlySignal<{ name: string; file: Blob } | null>;

const TRIES = 5;
const marksShown = signal(true);

export function PreviewPanel({ image }: { image: PreviewImage }) {
  const source = useSignal<Source | null>(null);
  const result = useSignal<Result | null>(null);
  const error = useSignal<unknown>(undefined);
  const busy = useSignal(false);
  const asked = useRef("");
  const running = useRef<AbortController | undefined>(undefined);
  const preparing = useRef<AbortController | undefined>(undefined);
  /** What the picture was asked for. */
  const held = useRef<{ file: Blob | undefined; key: string }>({ file: undefined, key: "" });
  const again = useSignal(0);

  // The picture: anew for another file or frame.
  useSignalEffect(() => {
    const chosen = image.value;
    const { frame } = draft.value;
    again.value;
    const key = chosen ? `${frame}` : "";
    if (chosen?.file === held.current.file && key === held.current.key && source.peek()) return;
    held.current = { file: chosen?.file, key };
    preparing.current?.abort();
    if (!chosen) {
      forget();
      return;
    }
    const mine = new AbortController();
    preparing.current = mine;
    busy.value = true;
    sourceOf(chosen.file, frame, mine.signal).then(
      (made) => {
        if (mine.signal.aborted) return URL.revokeObjectURL(made.url);
        forget();
        source.value = made;
      },
      (failure: unknown) => {
        if (mine.signal.aborted) return;
        held.current = { file: undefined, key: "" };
        if (!(failure instanceof Unreachable)) forget();
        busy.value = false;
        error.value = failure;
      },
    );
  });

  // What the pipeline makes of it: anew for each change that the service finds right.
  useSignalEffect(() => {
    const now = source.value;
    const known = catalogue.value;
    const { valid, checking } = pipelineState.value;
    const wanted = draft.value;
    const back = `${returns.value}.${again.value}`;
    if (!now || !known) return;
    const text = textOf(forPreview(wanted, now.blob.type), known);
    const key = `${now.url} ${text}`;
    if (`${key} ${back}` === asked.current) return;
    running.current?.abort();
    if (checking) return;
    if (!valid || !isRead.value) {
      asked.current = "";
      busy.value = false;
      return;
    }
    asked.current = `${key} ${back}`;
    if (text === "") return nothing();
    const mine = new AbortController();
    running.current = mine;
    busy.value = true;
    void run(now, text, mine.signal);
  });

  useSignalEffect(() => () => {
    preparing.current?.abort();
    running.current?.abort();
  });

  async function run(now: Source, text: string, stop: AbortSignal): Promise<void> {
    try {
      const next = await patiently(() => resultOf(now.blob, text, stop), stop);
      if (stop.aborted) return drop(next);
      drop(result.peek());
      result.value = next;
      error.value = undefined;
      busy.value = false;
    } catch (failure) {
      if (stop.aborted || isAbort(failure)) return;
      asked.current = failure instanceof Unreachable ? asked.current : "";
      error.value = failure;
      busy.value = false;
    }
  }

  /** A pipeline without steps changes nothing. */
  function nothing(): void {
    drop(result.peek());
    result.value = null;
    error.value = undefined;
    busy.value = false;
  }

  function forget(): void {
    running.current?.abort();
    asked.current = "";
    if (source.peek()) URL.revokeObjectURL(source.peek()?.url ?? "");
    source.value = null;
    nothing();
  }

  const chosen = image.value;
  if (!chosen) {
    return (
      <section class="preview" aria-label="Preview">
        <Empty icon="image" title="No image is chosen">
          <p>Bring images, or choose one of them: here it goes through the pipeline with each change.</p>
        </Empty>
      </section>
    );
  }
  const fault = faultOf(error.value);
  const now = source.value;
  return (
    <section class="preview" aria-label="Preview">
      {now && <Shown name={chosen.name} source={now} result={result.value} busy={busy.value} />}
      {fault && (
        <div class="notice bad preview-error" role="alert">
          <p>{fault}</p>
          {error.value !== undefined && <Button icon="retry" onClick={() => (again.value += 1)}>Try again</Button>}
        </div>
      )}
      {!now && !fault && <p class="soft preview-wait">Preparing {chosen.name}…</p>}
    </section>
  );

  function faultOf(failure: unknown): string | null {
    const state = pipelineState.value;
    if (state.error) return state.error.detail;
    return failure === undefined ? null : words(failure);
  }
}

function Shown({ name, source, result, busy }: { name: string; source: Source; result: Result | null; busy: boolean }) {
  const known = catalogue.value;
  const data: Data = result?.data ?? {};
  const places = known ? placesOf(draft.value.steps, known) : new Map<string, never>();
  const over = (place: "source" | "result", size: readonly [number, number]) =>
    marksShown.value && Object.keys(data).filter((step) => places.get(step) === place).map((step) => <Overlay key={step} data={data} step={step} size={size} />);
  const picture = result?.picture;
  const own: readonly [number, number] = [source.width, source.height];
  const hasMarks = marksOf(data).length > 0;
  return (
    <>
      <Compare
        before={{ ...source, alt: `${name} before`, over: [over("source", own), picture ? null : over("result", own)] }}
        after={picture ? { ...picture, alt: `${name} after`, over: over("result", [picture.width, picture.height]) } : null}
        busy={busy}
        tools={
          hasMarks && (
            <Button kind="quiet" aria-pressed={marksShown.value} onClick={() => (marksShown.value = !marksShown.value)}>
              Marks
            </Button>
          )
        }
      />
      <p class="preview-facts numbers">
        <span class="wrap">{name}</span>
        {picture && (
          <span>
            {picture.width} × {picture.height} {picture.type.replace("image/", "").toUpperCase()}, {bytes(picture.bytes)}
          </span>
        )}
        {result && <span class="soft">{duration(result.ms / 1000)}</span>}
      </p>
      {source.downscaled && <p class="hint">The preview works on a copy of at most {MOST_SIDE} pixels a side: sizes in pixels (a blur's radius, a crop) look larger here than on the real picture.</p>}
      <OutcomeData data={data} />
    </>
  );
}

function drop(result: Result | null): void {
  if (result?.picture) URL.revokeObjectURL(result.picture.url);
}

/** A busy service says when to come again. */
async function patiently<T>(work: () => Promise<T>, stop: AbortSignal): Promise<T> {
  for (let tries = 1; ; tries += 1) {
    try {
      return await work();
    } catch (failure) {
      if (!(failure instanceof Problem) || failure.status !== 429 || tries === TRIES) throw failure;
      await new Promise((resolve) => setTimeout(resolve, Math.min(5, failure.retryAfter ?? 1) * 1000));
      if (stop.aborted) throw failure;
    }
  }
}
