// A virtual grid that is one stop of the tab key: arrows move within it, Enter opens, Delete removes.

import type { ComponentChildren } from "preact";
import { useCallback, useLayoutEffect, useRef, useState } from "preact/hooks";

import { Virtual } from "./virtual";

interface PickGridProps<T> {
  items: readonly T[];
  keyOf: (item: T) => string | number;
  rowHeight: number;
  cellWidth: number;
  label: string;
  /** Index of the item that the tab key comes to. */
  active: number;
  onActive: (index: number) => void;
  onDelete?: (item: T, index: number) => void;
  /** Gives this item the focus whenever another object is given. */
  focus?: { index: number } | undefined;
  /** The cell; its main button has the class `pick` and this `tabIndex`. */
  render: (item: T, index: number, tabIndex: 0 | -1) => ComponentChildren;
}

export function PickGrid<T>({ items, keyOf, rowHeight, cellWidth, label, active, onActive, onDelete, focus, render }: PickGridProps<T>) {
  const columns = useRef(1);
  const wanted = useRef<number | null>(null);
  const [reveal, setReveal] = useState<{ index: number } | undefined>();
  const setColumns = useCallback((now: number) => void (columns.current = now), []);
  const focusWanted = useCallback((box: HTMLElement) => {
    if (wanted.current === null) return;
    const cell = box.querySelector<HTMLElement>(`[data-index="${wanted.current}"] .pick`);
    if (!cell) return;
    wanted.current = null;
    cell.focus({ preventScroll: true });
  }, []);
  useLayoutEffect(() => {
    if (!focus) return;
    wanted.current = focus.index;
    setReveal({ index: focus.index });
  }, [focus]);
  const goTo = (index: number) => {
    wanted.current = index;
    onActive(index);
    setReveal({ index });
  };
  const onKeyDown = (event: KeyboardEvent) => {
    if (!(event.target as Element).classList.contains("pick") || event.ctrlKey || event.metaKey || event.altKey) return;
    const last = items.length - 1;
    const page = 4 * columns.current;
    const to = {
      ArrowRight: active + 1,
      ArrowLeft: active - 1,
      ArrowDown: active + columns.current,
      ArrowUp: active - columns.current,
      PageDown: Math.min(active + page, last),
      PageUp: Math.max(active - page, 0),
      Home: 0,
      End: last,
    }[event.key];
    if (to !== undefined) {
      event.preventDefault();
      if (to >= 0 && to <= last) goTo(to);
      return;
    }
    const item = items[active];
    if ((event.key === "Delete" || event.key === "Backspace") && onDelete && item !== undefined) {
      event.preventDefault();
      onDelete(item, active);
      if (last > 0) goTo(Math.min(active, last - 1));
    }
  };
  return (
    <div class="pick-grid" onKeyDown={onKeyDown}>
      <Virtual
        items={items}
        keyOf={keyOf}
        rowHeight={rowHeight}
        cellWidth={cellWidth}
        label={label}
        onColumns={setColumns}
        reveal={reveal}
        onRender={focusWanted}
        render={(item, index) => (
          <div class="pick-cell" data-index={index}>
            {render(item, index, index === active ? 0 : -1)}
          </div>
        )}
      />
    </div>
  );
}
