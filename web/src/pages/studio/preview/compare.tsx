// Before and after in one window, parted by a line that is dragged or moved by arrows; both are zoomed and moved together.

import type { ComponentChildren } from "preact";
import { useRef, useState } from "preact/hooks";

import { Button } from "../../../ui/basics";
import { FIT, fitting, held, useGestures, useSize, zoomed, type View } from "./view";

export interface Picture {
  url: string;
  width: number;
  height: number;
  alt: string;
  /** Drawn over it. */
  over?: ComponentChildren;
}

interface CompareProps {
  before: Picture;
  after: Picture | null;
  busy: boolean;
  tools?: ComponentChildren;
}

export function Compare({ before, after, busy, tools }: CompareProps) {
  const box = useRef<HTMLDivElement>(null);
  const window = useSize(box);
  const [wanted, setView] = useState<View>(FIT);
  const [part, setPart] = useState(50);
  const { width, height } = after ?? before;
  const fit = fitting(window, width, height);
  const view = held(wanted, window, width, height);
  const zoom = view.zoom || fit;
  const by = (factor: number, x = 0, y = 0) => {
    const next = held(zoomed(view, factor, fit, x, y), window, width, height);
    setView(next);
    return next.zoom !== view.zoom;
  };
  useGestures(box, by);
  const place = { width: `${width * zoom}px`, height: `${height * zoom}px`, transform: `translate(calc(-50% + ${view.x}px), calc(-50% + ${view.y}px))` };
  const keys = (event: KeyboardEvent) => {
    if (event.target !== box.current) return;
    const shift = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] }[event.key];
    if (event.key === "+" || event.key === "=") by(1.25);
    else if (event.key === "-") by(0.8);
    else if (event.key === "0") setView(FIT);
    else if (event.key === "1") setView({ zoom: 1, x: 0, y: 0 });
    else if (shift && view.zoom) setView(held({ ...view, x: view.x + (shift[0] ?? 0), y: view.y + (shift[1] ?? 0) }, window, width, height));
    else return;
    event.preventDefault();
  };
  return (
    <div class="compare">
      <div class="compare-tools" role="toolbar" aria-label="View">
        <Button kind="quiet" icon="minus" label="Smaller" onClick={() => by(0.8)} />
        <output class="numbers" aria-label="Zoom">
          {Math.round(100 * zoom)} %
        </output>
        <Button kind="quiet" icon="add" label="Larger" onClick={() => by(1.25)} />
        <Button kind="quiet" aria-pressed={view.zoom === 0} onClick={() => setView(FIT)}>
          Fit
        </Button>
        <Button kind="quiet" aria-pressed={view.zoom === 1} onClick={() => setView({ zoom: 1, x: 0, y: 0 })}>
          100 %
        </Button>
        {tools}
      </div>
      <div
        ref={box}
        class={`compare-window ${view.zoom ? "zoomed" : ""} ${zoom >= 3 ? "pixels" : ""}`}
        tabIndex={0}
        role="group"
        aria-label="Picture: plus and minus zoom, 0 fits, 1 is 100 %, arrows move it"
        aria-busy={busy}
        onKeyDown={keys}
        onPointerDown={(event) => view.zoom && dragged(event, (x, y) => setView(held({ ...view, x: view.x + x, y: view.y + y }, window, width, height)))}
        onDblClick={() => setView(view.zoom ? FIT : { zoom: Math.max(1, fit * 2), x: 0, y: 0 })}
      >
        <Layer picture={before} place={place} clip={after ? `inset(0 ${100 - part}% 0 0)` : "none"} />
        {after && <Layer picture={after} place={place} clip={`inset(0 0 0 ${part}%)`} />}
        {after && (
          <>
            <span class="compare-name before" aria-hidden="true">
              Before
            </span>
            <span class="compare-name after" aria-hidden="true">
              After
            </span>
            <Divider part={part} setPart={setPart} box={() => box.current} />
          </>
        )}
        <span class={`compare-busy ${busy ? "on" : ""}`} />
      </div>
    </div>
  );
}

function Layer({ picture, place, clip }: { picture: Picture; place: Record<string, string>; clip: string }) {
  return (
    <div class="compare-layer" style={{ clipPath: clip }}>
      <div class="compare-picture" style={place}>
        <img src={picture.url} alt={picture.alt} draggable={false} />
        {picture.over}
      </div>
    </div>
  );
}

function Divider({ part, setPart, box }: { part: number; setPart: (part: number) => void; box: () => HTMLElement | null }) {
  const set = (value: number) => setPart(Math.max(0, Math.min(100, value)));
  const keys = (event: KeyboardEvent) => {
    const by = { ArrowLeft: -2, ArrowDown: -2, ArrowRight: 2, ArrowUp: 2, PageDown: -10, PageUp: 10 }[event.key];
    if (by !== undefined) set(part + by);
    else if (event.key === "Home") set(0);
    else if (event.key === "End") set(100);
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  const grab = (event: PointerEvent) => {
    const bounds = box()?.getBoundingClientRect();
    if (!bounds) return;
    event.stopPropagation();
    dragged(event, (_x, _y, next) => set((100 * (next.clientX - bounds.left)) / bounds.width));
  };
  return (
    <div
      class="divider"
      role="slider"
      tabIndex={0}
      aria-label="Line between before and after"
      aria-orientation="horizontal"
      aria-valuemin={0}
      aria-valuemax={100}
      aria-valuenow={Math.round(part)}
      aria-valuetext={`${Math.round(part)} % before`}
      style={{ left: `${part}%` }}
      onKeyDown={keys}
      onPointerDown={grab}
      onDblClick={(event) => event.stopPropagation()}
    />
  );
}

/** Follows one pointer until it is lifted; tells how far it is from where it began. */
function dragged(event: PointerEvent, moved: (x: number, y: number, event: PointerEvent) => void): void {
  if (event.button !== 0) return;
  const element = event.currentTarget as HTMLElement;
  element.setPointerCapture(event.pointerId);
  const move = (next: PointerEvent) => {
    if (next.pointerId === event.pointerId) moved(next.clientX - event.clientX, next.clientY - event.clientY, next);
  };
  const stop = () => {
    element.removeEventListener("pointermove", move);
    element.removeEventListener("pointerup", stop);
    element.removeEventListener("pointercancel", stop);
  };
  element.addEventListener("pointermove", move);
  element.addEventListener("pointerup", stop);
  element.addEventListener("pointercancel", stop);
}
