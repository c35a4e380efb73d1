// Charts over time on uPlot: one canvas, a compact legend in HTML, thresholds drawn in, colors of the theme.

import { useSignal, type Signal } from "@preact/signals";
import { useEffect, useLayoutEffect, useRef } from "preact/hooks";
import uPlot from "uplot";

import { isDark } from "../state/theme";

export type Values = readonly (number | null)[];

export interface Line {
  label: string;
  /** Name of a color of `tokens.css`, such as `--good`. */
  color: string;
  values: Values;
  /** Fill down to the axis. */
  fill?: boolean;
  dashed?: boolean;
}

interface ChartProps {
  title: string;
  /** Seconds since the epoch, ascending. */
  at: readonly number[];
  lines: readonly Line[];
  /** How a value is written for people. */
  show: (value: number) => string;
  /** Lines across, such as a gate's threshold. */
  marks?: readonly { value: number; label: string }[];
  /** Least upper end of the axis, so that noise near zero isn't drawn as mountains. */
  least?: number;
  /** Upper end, where it is known (100 for percents). */
  most?: number;
  height?: number;
  /** Small: no axes. */
  small?: boolean;
  /** Charts of the same name share their cursor. */
  together?: string;
}

const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const hours = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });

const color = (name: string): string => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** The last value of a line that is there. */
function latest(values: Values): number | null {
  for (let index = values.length - 1; index >= Math.max(0, values.length - 60); index -= 1) {
    const value = values[index];
    if (value !== null && value !== undefined) return value;
  }
  return null;
}

export function Chart(props: ChartProps) {
  const { title, lines, show, marks = [], height = 150, small = false } = props;
  const box = useRef<HTMLDivElement>(null);
  const pointed = useSignal<number | null>(null);
  const plot = useRef<uPlot | undefined>(undefined);
  const now = useRef(props);
  now.current = props;
  const dark = isDark.value;
  const shape = JSON.stringify([lines.map(({ label, color: name, fill, dashed }) => [label, name, fill, dashed]), small, height]);

  useLayoutEffect(() => {
    const element = box.current;
    if (!element) return;
    const made = new uPlot(options(now, element.clientWidth, pointed), dataOf(now.current), element);
    // The figure's caption says what the canvas shows.
    element.querySelector("canvas")?.setAttribute("aria-hidden", "true");
    plot.current = made;
    const observer = new ResizeObserver(() => made.setSize({ width: element.clientWidth, height: now.current.height ?? 150 }));
    observer.observe(element);
    return () => {
      observer.disconnect();
      made.destroy();
      plot.current = undefined;
    };
  }, [shape, dark]);

  useEffect(() => plot.current?.setData(dataOf(now.current)), [props.at, ...lines.map((line) => line.values), marks.map((mark) => mark.value).join()]);

  const index = pointed.value;
  const when = index === null ? undefined : props.at[index];
  const words = lines.map((line) => {
    const value = index === null ? latest(line.values) : line.values[index];
    return { ...line, text: value === null || value === undefined ? "–" : show(value) };
  });
  return (
    <figure class={small ? "chart small" : "chart"}>
      <figcaption>
        <span class="chart-title">
          {title} {when !== undefined && <span class="soft numbers">{clock.format(when * 1000)}</span>}
        </span>
        <ul class="legend numbers">
          {words.map((line) => (
            <li key={line.label}>
              <span class={`swatch ${line.dashed ? "dashed" : ""}`} style={{ color: `var(${line.color})` }} aria-hidden="true" />
              {line.label} <b>{line.text}</b>
            </li>
          ))}
          {marks.map((mark) => (
            <li key={mark.label} class="soft">
              <span class="swatch dashed" style={{ color: "var(--warn)" }} aria-hidden="true" />
              {mark.label}
            </li>
          ))}
        </ul>
      </figcaption>
      <div ref={box} class="chart-box" style={{ height: `${height}px` }} />
    </figure>
  );
}

function dataOf(props: ChartProps): uPlot.AlignedData {
  return [props.at as number[], ...props.lines.map((line) => line.values as (number | null)[])];
}

function options(now: { current: ChartProps }, width: number, pointed: Signal<number | null>): uPlot.Options {
  const { lines, height = 150, small = false, together } = now.current;
  const soft = color("--soft");
  const grid = { stroke: color("--line"), width: 1 };
  const axis = { stroke: soft, grid, ticks: { show: false }, font: "11px system-ui, sans-serif" };
  return {
    width: Math.max(width, 50),
    height,
    legend: { show: false },
    padding: small ? [4, 0, 2, 0] : [8, 8, 0, 0],
    cursor: {
      points: { size: 6 },
      drag: { x: false, y: false },
      ...(together ? { sync: { key: together } } : {}),
    },
    scales: { x: { time: true }, y: { range: (_plot, _low, high) => range(now.current, high) } },
    axes: small
      ? [{ show: false }, { show: false }]
      : [
          { ...axis, values: (plot, splits) => splits.map((at) => labelOf(plot, at)), space: 70, size: 26 },
          { ...axis, values: (_plot, splits) => splits.map((value) => now.current.show(value)), size: 58, space: 32 },
        ],
    series: [
      {},
      ...lines.map((line): uPlot.Series => ({
        label: line.label,
        stroke: color(line.color),
        width: 1.5,
        ...(line.fill ? { fill: `color-mix(in srgb, ${color(line.color)} 16%, transparent)` } : {}),
        ...(line.dashed ? { dash: [5, 4] } : {}),
        points: { show: false },
        spanGaps: true,
      })),
    ],
    hooks: {
      draw: [(plot) => drawMarks(plot, now.current)],
      setCursor: [(plot) => (pointed.value = plot.cursor.idx ?? null)],
    },
  };
}

function range({ least = 1, most, marks = [] }: ChartProps, high: number | null): [number, number] {
  if (most !== undefined) return [0, most];
  const top = Math.max(high ?? 0, least, ...marks.map((mark) => mark.value));
  return [0, top * 1.08];
}

function labelOf(plot: uPlot, at: number): string {
  const { min = 0, max = 0 } = plot.scales["x"] ?? {};
  return ((max ?? 0) - (min ?? 0) > 1_200 ? hours : clock).format(at * 1000);
}

function drawMarks(plot: uPlot, { marks = [] }: ChartProps): void {
  const { ctx, bbox } = plot;
  for (const mark of marks) {
    const y = plot.valToPos(mark.value, "y", true);
    ctx.save();
    ctx.strokeStyle = color("--warn");
    ctx.lineWidth = devicePixelRatio;
    ctx.setLineDash([5 * devicePixelRatio, 4 * devicePixelRatio]);
    ctx.beginPath();
    ctx.moveTo(bbox.left, y);
    ctx.lineTo(bbox.left + bbox.width, y);
    ctx.stroke();
    ctx.restore();
  }
}
