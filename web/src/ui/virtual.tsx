// A list or grid of any length of which only what can be seen is in the document.

import type { ComponentChildren } from "preact";
import { useLayoutEffect, useRef, useState } from "preact/hooks";

interface VirtualProps<T> {
  items: readonly T[];
  keyOf: (item: T) => string | number;
  /** Height of a row in pixels, all the same. */
  rowHeight: number;
  /** Least width of a cell in pixels; a list of one column where it is left out. */
  cellWidth?: number;
  render: (item: T, index: number) => ComponentChildren;
  label: string;
  /** Called when the end comes near. */
  onEnd?: () => void;
  /** Called with the number of columns when it changes. */
  onColumns?: (columns: number) => void;
  /** Scrolls this item into view whenever another object is given. */
  reveal?: { index: number } | undefined;
  /** Called whenever other items have come into the document. */
  onRender?: (box: HTMLElement) => void;
  class?: string;
}

const BEYOND = 4;
/** What stands over the top of the page, where it is the page that scrolls. */
const TOP_PX = 130;

/** Scrolls with the page or with the nearest scrolling parent. */
export function Virtual<T>({ items, keyOf, rowHeight, cellWidth, render, label, onEnd, onColumns, reveal, onRender, class: more = "" }: VirtualProps<T>) {
  const box = useRef<HTMLDivElement>(null);
  const [seen, setSeen] = useState({ from: 0, to: 30, columns: 1 });
  useLayoutEffect(() => {
    const element = box.current;
    if (!element) return;
    const scroller = scrollerOf(element);
    let asked = 0;
    const look = () => {
      asked = 0;
      const columns = cellWidth ? Math.max(1, Math.floor(element.clientWidth / cellWidth)) : 1;
      const rows = Math.ceil(items.length / columns);
      const top = element.getBoundingClientRect().top - (scroller ? scroller.getBoundingClientRect().top : 0);
      const height = scroller ? scroller.clientHeight : innerHeight;
      const from = Math.max(0, Math.floor(-top / rowHeight) - BEYOND);
      const to = Math.min(rows, Math.ceil((height - top) / rowHeight) + BEYOND);
      setSeen((now) => (now.from === from && now.to === to && now.columns === columns ? now : { from, to, columns }));
      if (to >= rows - BEYOND) onEnd?.();
    };
    const later = () => {
      if (!asked) asked = requestAnimationFrame(look);
    };
    look();
    const target: HTMLElement | Window = scroller ?? window;
    target.addEventListener("scroll", later, { passive: true });
    const observer = new ResizeObserver(later);
    observer.observe(element);
    if (scroller) observer.observe(scroller);
    return () => {
      target.removeEventListener("scroll", later);
      observer.disconnect();
      cancelAnimationFrame(asked);
    };
  }, [items, rowHeight, cellWidth, onEnd]);
  const { columns } = seen;
  useLayoutEffect(() => onColumns?.(columns), [columns, onColumns]);
  useLayoutEffect(() => {
    const element = box.current;
    if (element && reveal) scrollTo(element, Math.floor(reveal.index / columns) * rowHeight, rowHeight);
  }, [reveal, columns, rowHeight]);
  useLayoutEffect(() => {
    if (box.current) onRender?.(box.current);
  });
  const rows = Math.ceil(items.length / columns);
  const first = Math.min(seen.from, rows) * columns;
  const shown = items.slice(first, seen.to * columns);
  return (
    <div ref={box} class={`virtual ${more}`} role="list" aria-label={label} style={{ height: `${rows * rowHeight}px` }}>
      <div
        class="virtual-window"
        role="presentation"
        style={{ transform: `translateY(${Math.min(seen.from, rows) * rowHeight}px)`, gridTemplateColumns: `repeat(${columns}, minmax(0, 1fr))`, gridAutoRows: `${rowHeight}px` }}
      >
        {shown.map((item, index) => (
          <div key={keyOf(item)} role="listitem" aria-setsize={items.length} aria-posinset={first + index + 1} class="virtual-item">
            {render(item, first + index)}
          </div>
        ))}
      </div>
    </div>
  );
}

function scrollTo(element: HTMLElement, offset: number, height: number): void {
  const scroller = scrollerOf(element);
  const start = scroller ? scroller.getBoundingClientRect().top : TOP_PX;
  const end = scroller ? start + scroller.clientHeight : innerHeight;
  const top = element.getBoundingClientRect().top + offset;
  const by = top < start ? top - start : top + height > end ? top + height - end : 0;
  if (by !== 0) (scroller ?? window).scrollBy({ top: by, behavior: "instant" });
}

function scrollerOf(element: HTMLElement): HTMLElement | null {
  for (let parent = element.parentElement; parent && parent !== document.body; parent = parent.parentElement) {
    if (/auto|scroll/.test(getComputedStyle(parent).overflowY)) return parent;
  }
  return null;
}
