// Zoom and place of what is seen in the preview's window.

import { useLayoutEffect, useRef, useState } from "preact/hooks";
import type { RefObject } from "preact";

export interface View {
  /** Screen pixels for each pixel of the picture; 0 fits it into the window. */
  zoom: number;
  /** Where its middle is, from the middle of the window. */
  x: number;
  y: number;
}

export const FIT: View = { zoom: 0, x: 0, y: 0 };
export const LEAST = 0.05;
export const MOST = 16;

/** Width and height of an element, kept up to date. */
export function useSize(element: RefObject<HTMLElement | null>): readonly [number, number] {
  const [size, setSize] = useState<readonly [number, number]>([0, 0]);
  useLayoutEffect(() => {
    const found = element.current;
    if (!found) return;
    const look = () => setSize([found.clientWidth, found.clientHeight]);
    look();
    const observer = new ResizeObserver(look);
    observer.observe(found);
    return () => observer.disconnect();
  }, []);
  return size;
}

export function fitting(window: readonly [number, number], width: number, height: number): number {
  return Math.min(MOST, window[0] / Math.max(1, width), window[1] / Math.max(1, height)) || 1;
}

/** Zoomed by a factor around a point, measured from the middle of the window. */
export function zoomed(view: View, factor: number, fit: number, x = 0, y = 0): View {
  const before = view.zoom || fit;
  const zoom = Math.max(Math.min(LEAST, fit), Math.min(MOST, before * factor));
  if (zoom <= fit && factor < 1 && before <= fit * 1.001) return FIT;
  const scale = zoom / before;
  return { zoom, x: x + (view.x - x) * scale, y: y + (view.y - y) * scale };
}

/** Not so far that the picture is gone. */
export function held(view: View, window: readonly [number, number], width: number, height: number): View {
  if (view.zoom === 0) return FIT;
  const wide = Math.max(0, (width * view.zoom - window[0]) / 2);
  const high = Math.max(0, (height * view.zoom - window[1]) / 2);
  return { zoom: view.zoom, x: Math.max(-wide, Math.min(wide, view.x)), y: Math.max(-high, Math.min(high, view.y)) };
}

/** Wheel with Ctrl (as trackpads pinch) or while the window has the focus, and two fingers. */
export function useGestures(element: RefObject<HTMLElement | null>, zoom: (factor: number, x: number, y: number) => boolean): void {
  const latest = useRef(zoom);
  latest.current = zoom;
  useLayoutEffect(() => {
    const found = element.current;
    if (!found) return;
    const at = (x: number, y: number): [number, number] => {
      const box = found.getBoundingClientRect();
      return [x - box.left - box.width / 2, y - box.top - box.height / 2];
    };
    const wheel = (event: WheelEvent) => {
      if (!event.ctrlKey && !event.metaKey && !found.contains(document.activeElement)) return;
      if (latest.current(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.002)), ...at(event.clientX, event.clientY))) event.preventDefault();
    };
    let apart = 0;
    const touch = (event: TouchEvent) => {
      const [a, b] = event.touches;
      if (!a || !b) return void (apart = 0);
      event.preventDefault();
      const now = Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY);
      if (apart > 0) latest.current(now / apart, ...at((a.clientX + b.clientX) / 2, (a.clientY + b.clientY) / 2));
      apart = now;
    };
    const lifted = () => (apart = 0);
    found.addEventListener("wheel", wheel, { passive: false });
    found.addEventListener("touchmove", touch, { passive: false });
    found.addEventListener("touchend", lifted);
    return () => {
      found.removeEventListener("wheel", wheel);
      found.removeEventListener("touchmove", touch);
      found.removeEventListener("touchend", lifted);
    };
  }, []);
}
