// What operations found out beside the image, for people: captions, colors, codes, counts; everything else by its name.

import type { ComponentChildren } from "preact";

import { CopyButton } from "./basics";
import type { Data } from "./marks";
import { count } from "./format";

type Item = Record<string, unknown>;

const MOST_ROWS = 50;

/** One section for each step that found something. */
export function OutcomeData({ data }: { data: Data }) {
  const steps = Object.entries(data);
  if (steps.length === 0) return null;
  return (
    <section class="outcome-data" aria-label="Data">
      {steps.map(([step, value]) => (
        <div key={step} class="outcome-step">
          <header>
            <h3>{step}</h3>
            <CopyButton text={() => JSON.stringify(value, null, 2)} label={`Copy the data of ${step} as JSON`} />
          </header>
          <Value name={step} value={value} />
        </div>
      ))}
    </section>
  );
}

function Value({ name, value }: { name: string; value: unknown }): ComponentChildren {
  if (value === null || value === undefined) return <span class="soft">none</span>;
  if (typeof value === "number") return <span class="numbers">{rounded(value)}</span>;
  if (typeof value === "boolean") return <span>{value ? "yes" : "no"}</span>;
  if (typeof value === "string") return <span class={/hash/.test(name) ? "mono wrap" : "wrap"}>{value}</span>;
  if (Array.isArray(value)) return <Many name={name} items={value as unknown[]} />;
  const record = value as Item;
  if (Object.keys(record).length === 0) return <span class="soft">none</span>;
  if (name === "counts" && Object.values(record).every(isNumbers)) return <Histogram channels={record as Record<string, number[]>} />;
  return (
    <dl class="pairs">
      {Object.entries(record).map(([key, inside]) => (
        <div key={key} class={isPlain(inside) ? "" : "whole"}>
          <dt>{words(key)}</dt>
          <dd>
            <Value name={key} value={inside} />
          </dd>
        </div>
      ))}
    </dl>
  );
}

function Many({ name, items }: { name: string; items: unknown[] }) {
  if (items.length === 0) return <span class="soft">none</span>;
  if (items.every((item) => isRecord(item) && typeof item["hex"] === "string")) return <Swatches colors={items as Item[]} />;
  if (isNumbers(items)) return <span class="numbers wrap">{items.map(rounded).join(", ")}</span>;
  if (items.every(isRecord)) return <Rows name={name} rows={items as Item[]} />;
  const shown = items.slice(0, MOST_ROWS);
  return (
    <ol class="plain-list numbers">
      {shown.map((item, index) => (
        <li key={index}>
          <Value name={name} value={item} />
        </li>
      ))}
      {items.length > shown.length && <li class="soft">and {count(items.length - shown.length)} more</li>}
    </ol>
  );
}

function Swatches({ colors }: { colors: Item[] }) {
  return (
    <ul class="swatches">
      {colors.map((color, index) => (
        <li key={index}>
          <span class="swatch" style={{ background: `#${String(color["hex"])}` }} aria-hidden="true" />
          <code>#{String(color["hex"])}</code>
          {typeof color["share"] === "number" && <span class="soft numbers">{(100 * color["share"]).toFixed(1)} %</span>}
        </li>
      ))}
    </ul>
  );
}

function Rows({ name, rows }: { name: string; rows: Item[] }) {
  const columns = [...new Set(rows.slice(0, MOST_ROWS).flatMap((row) => Object.keys(row)))].slice(0, 8);
  return (
    <div class="scroll-x" role="region" aria-label={words(name)} tabIndex={0}>
      <table class="table">
        <thead>
          <tr>
            {columns.map((column) => (
              <th key={column} scope="col">
                {words(column)}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.slice(0, MOST_ROWS).map((row, index) => (
            <tr key={index}>
              {columns.map((column) => (
                <td key={column} class={typeof row[column] === "number" ? "number" : ""}>
                  {isPlain(row[column]) ? <Value name={column} value={row[column]} /> : <code>{JSON.stringify(row[column])}</code>}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
      {rows.length > MOST_ROWS && <p class="soft">and {count(rows.length - MOST_ROWS)} more</p>}
    </div>
  );
}

function Histogram({ channels }: { channels: Record<string, number[]> }) {
  const most = Math.max(1, ...Object.values(channels).flat());
  const bins = Math.max(...Object.values(channels).map((counts) => counts.length));
  return (
    <svg class="histogram" viewBox={`0 0 ${bins} 100`} preserveAspectRatio="none" role="img" aria-label={`Histogram of ${Object.keys(channels).join(", ")} in ${bins} bins`}>
      {Object.entries(channels).map(([channel, counts]) => (
        <path key={channel} class={channel} d={outline(counts, most)} />
      ))}
    </svg>
  );
}

function outline(counts: readonly number[], most: number): string {
  const parts = counts.map((value, bin) => `V${(100 - (100 * value) / most).toFixed(1)}H${bin + 1}`);
  return `M0 100${parts.join("")}V100Z`;
}

const isRecord = (value: unknown): value is Item => value !== null && typeof value === "object" && !Array.isArray(value);
const isPlain = (value: unknown): boolean => value === null || typeof value !== "object" || Object.keys(value).length === 0 || (isNumbers(value) && value.length <= 4);
const isNumbers = (value: unknown): value is number[] => Array.isArray(value) && value.every((one) => typeof one === "number");
const rounded = (value: number): string => (Number.isInteger(value) ? count(value) : String(Number(value.toPrecision(5))));
const words = (key: string): string => key.replaceAll("_", " ");
