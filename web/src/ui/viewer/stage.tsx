// The large picture: input and result over each other with a slider between them, or beside each other.

import { useEffect, useState } from "preact/hooks";

import * as api from "../../net/api";
import { Icon } from "../icons";
import { Overlay } from "../overlay";

export type Way = "slider" | "beside";

type Size = readonly [number, number];

/** What browsers draw by themselves; of everything else the service makes a picture. */
const DRAWN = new Set(["jpeg", "png", "webp", "gif", "avif", "bmp", "svg"]);
/** The longer side of a picture that the service makes for the viewer. */
export const LARGE_PX = 1024;
const SMALL_PX = 320;

interface Side {
  small: string;
  large: string;
  size: Size | null;
  alt: string;
}

/** Errors that say that the input itself can't be read: then nobody makes a picture of it. */
const UNREADABLE = new Set(["corrupt-image", "unsupported-format", "invalid-image", "limit-exceeded", "object-not-found"]);

export const isUnreadable = (error: { type: string } | null): boolean => error !== null && UNREADABLE.has(error.type.split("/").pop() ?? "");

function sidesOf(task: api.TaskDetail): { before: Side; after: Side | null } {
  const { outcome } = task;
  const drawn = (format: string | null | undefined) => format != null && DRAWN.has(format.toLowerCase());
  const before: Side = {
    small: api.thumbnailUrl(task.id, "input", SMALL_PX),
    large: drawn(outcome?.source_format) ? api.inputUrl(task.id) : api.thumbnailUrl(task.id, "input", LARGE_PX),
    size: sizeOf(outcome?.source_size),
    alt: `Input: ${task.name}`,
  };
  if (!outcome?.format) return { before, after: null };
  const after: Side = {
    small: api.thumbnailUrl(task.id, "result", SMALL_PX, task.run),
    large: drawn(outcome.format) ? `${api.resultUrl(task.id)}?run=${task.run}` : api.thumbnailUrl(task.id, "result", LARGE_PX, task.run),
    size: sizeOf(outcome.size),
    alt: `Result of ${task.name}`,
  };
  return { before, after };
}

const sizeOf = (found: readonly number[] | null | undefined): Size | null => (found?.[0] && found[1] ? [found[0], found[1]] : null);

export function Stage({ task, way, marks }: { task: api.TaskDetail; way: Way; marks: boolean }) {
  const [at, setAt] = useState(50);
  const { before, after } = sidesOf(task);
  const data = marks ? task.outcome?.data : undefined;
  if (isUnreadable(task.error)) {
    return (
      <div class="stage">
        <NoPicture words="This file can't be shown." />
      </div>
    );
  }
  if (after === null) {
    return (
      <div class="stage">
        <Layer side={before} data={data} />
      </div>
    );
  }
  if (way === "beside") {
    return (
      <div class="stage beside">
        <figure>
          <Layer side={before} />
          <figcaption>Input</figcaption>
        </figure>
        <figure>
          <Layer side={after} data={data} />
          <figcaption>Result</figcaption>
        </figure>
      </div>
    );
  }
  return (
    <div class="stage slider">
      <Layer side={after} data={data} clip={`inset(0 0 0 ${at}%)`} />
      <Layer side={before} clip={`inset(0 ${100 - at}% 0 0)`} />
      <input class="stage-range" type="range" min={0} max={100} step={0.5} value={at} aria-label="How much of the input is shown before the result" aria-valuetext={`${Math.round(at)} % input`} onInput={(event) => setAt(event.currentTarget.valueAsNumber)} />
      <span class="stage-line" style={{ left: `${at}%` }} aria-hidden="true">
        <span class="stage-knob" />
      </span>
      <span class="stage-word start" aria-hidden="true">Input</span>
      <span class="stage-word end" aria-hidden="true">Result</span>
    </div>
  );
}

function NoPicture({ words }: { words: string }) {
  return (
    <p class="stage-none">
      <Icon name="image" size={40} />
      {words}
    </p>
  );
}

function Layer({ side, data, clip }: { side: Side; data?: Readonly<Record<string, unknown>> | undefined; clip?: string }) {
  const [natural, setNatural] = useState<Size | null>(null);
  const [state, setState] = useState<"loading" | "there" | "none">("loading");
  useEffect(() => {
    setState("loading");
    setNatural(null);
  }, [side.large]);
  const size = side.size ?? natural;
  const ratio = size ? size[0] / size[1] : 4 / 3;
  return (
    <div class="stage-layer" style={clip ? { clipPath: clip } : {}}>
      <div class="stage-frame" style={{ "--ratio": String(ratio) }}>
        {state === "none" ? (
          <NoPicture words="There is no picture of this." />
        ) : (
          <>
            {state === "loading" && <img class="stage-small" src={side.small} alt="" aria-hidden="true" />}
            <img
              key={side.large}
              src={side.large}
              alt={side.alt}
              draggable={false}
              onLoad={(event) => {
                setNatural([event.currentTarget.naturalWidth, event.currentTarget.naturalHeight]);
                setState("there");
              }}
              onError={() => setState("none")}
            />
          </>
        )}
        {data && size && state !== "none" && <Overlay data={data} size={size} />}
      </div>
    </div>
  );
}
