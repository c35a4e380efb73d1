// Boxes, points and polygons that operations found, drawn over an image as SVG.

import { marksOf, type Data, type Mark } from "./marks";

interface OverlayProps {
  data: Data;
  /** Width and height in pixels of the image that the data speaks of. */
  size: readonly [number, number];
  /** Only what this step found. */
  step?: string;
}

/** Fills its parent, which must lie over the image exactly (`position: relative`, the image's own shape). */
export function Overlay({ data, size, step }: OverlayProps) {
  const marks = marksOf(data, step);
  const [width, height] = size;
  if (marks.length === 0 || width < 1 || height < 1) return null;
  const unit = Math.max(width, height) / 100;
  return (
    <svg class="overlay" viewBox={`0 0 ${width} ${height}`} preserveAspectRatio="none" role="img" aria-label={said(marks)}>
      {marks.map((mark, index) => (
        <g key={index} class={`mark ${mark.kind}`}>
          <Shape mark={mark} unit={unit} />
        </g>
      ))}
    </svg>
  );
}

/** Twice, a dark line below a bright one: seen on every picture. */
function Shape({ mark, unit }: { mark: Mark; unit: number }) {
  const [x = 0, y = 0, third = 0, fourth = 0] = mark.numbers;
  if (mark.kind === "point") {
    const radius = Math.max(third / 2, unit / 3);
    return (
      <>
        <circle class="under" cx={x} cy={y} r={radius} />
        <circle class="line" cx={x} cy={y} r={radius} />
      </>
    );
  }
  const points = pairs(mark.kind === "box" ? [x, y, x + third, y, x + third, y + fourth, x, y + fourth] : mark.numbers);
  return (
    <>
      <polygon class="under" points={points} />
      <polygon class="line" points={points} />
      {mark.label && mark.label.length <= 40 && (
        <text x={x + unit / 2} y={Math.max(y - unit / 1.5, unit * 2.2)} font-size={unit * 2.4}>
          {mark.label}
        </text>
      )}
    </>
  );
}

function pairs(numbers: readonly number[]): string {
  const found: string[] = [];
  for (let at = 0; at + 1 < numbers.length; at += 2) found.push(`${numbers[at]},${numbers[at + 1]}`);
  return found.join(" ");
}

function said(marks: readonly Mark[]): string {
  const counts = new Map<string, number>();
  for (const { step } of marks) counts.set(step, (counts.get(step) ?? 0) + 1);
  return `Marked by ${[...counts].map(([step, many]) => `${step}: ${many}`).join(", ")}`;
}
