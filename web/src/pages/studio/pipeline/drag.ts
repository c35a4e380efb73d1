// Steps are dragged by their grip, with mouse, pen or finger. The keyboard has buttons and Alt with arrows for it.

import { signal } from "@preact/signals";

export interface Drag {
  id: string;
  /** Pixels from where it was taken. */
  by: number;
  /** Place where it would land, counted without itself. */
  to: number;
}

export const drag = signal<Drag | null>(null);

/** On `pointerdown` of a grip within an `li[data-step]`. */
export function grab(event: PointerEvent, id: string, drop: (to: number) => void): void {
  const grip = event.currentTarget as HTMLElement;
  const item = grip.closest<HTMLElement>("li[data-step]");
  const list = item?.parentElement;
  if (event.button !== 0 || !item || !list) return;
  event.preventDefault();
  grip.setPointerCapture(event.pointerId);
  const others = [...list.children].filter((one) => one !== item).map((one) => one.getBoundingClientRect());
  const top = scrolled(list);
  const start = event.clientY;
  const from = [...list.children].indexOf(item);
  drag.value = { id, by: 0, to: from };
  const move = (next: PointerEvent) => {
    const y = next.clientY + scrolled(list) - top;
    drag.value = { id, by: y - start, to: others.filter((box) => box.top + box.height / 2 < y).length };
  };
  const end = (keep: boolean) => {
    const found = drag.peek();
    drag.value = null;
    grip.removeEventListener("pointermove", move);
    grip.removeEventListener("pointerup", up);
    grip.removeEventListener("pointercancel", cancel);
    removeEventListener("keydown", key, true);
    if (keep && found && found.to !== from) drop(found.to);
  };
  const up = () => end(true);
  const cancel = () => end(false);
  const key = (pressed: KeyboardEvent) => {
    if (pressed.key !== "Escape") return;
    pressed.stopPropagation();
    end(false);
  };
  grip.addEventListener("pointermove", move);
  grip.addEventListener("pointerup", up);
  grip.addEventListener("pointercancel", cancel);
  addEventListener("keydown", key, true);
}

/** How far everything around the list is scrolled: it may scroll while we drag. */
function scrolled(list: HTMLElement): number {
  let sum = scrollY;
  for (let parent = list.parentElement; parent && parent !== document.body; parent = parent.parentElement) sum += parent.scrollTop;
  return sum;
}
