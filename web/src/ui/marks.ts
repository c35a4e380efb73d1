// What can be drawn over an image: boxes, points and polygons, found in the data of an outcome by their shape.
//
// Operations write them in their own words (`boxes`, `keypoints`, `corners`), always in pixels of the image that they saw.

export interface Mark {
  /** Operation that found it. */
  step: string;
  kind: "box" | "point" | "polygon";
  /** Box: x, y, width, height. Point: x, y, diameter. Polygon: x, y, x, y, … */
  numbers: readonly number[];
  /** For people: a number, a label, a text that was read. */
  label: string;
}

export type Data = Readonly<Record<string, unknown>>;

/** More than these would neither be seen nor drawn in time. */
const MOST = 2_000;
const CORNERS = new Set(["points", "corners", "polygon", "quad"]);
const LABELS = ["label", "name", "text", "type", "number"];

/** The marks of every step; of one step where `step` says so. */
export function marksOf(data: Data, step?: string): Mark[] {
  const found: Mark[] = [];
  for (const [name, value] of Object.entries(data)) {
    if (step === undefined || step === name) collect(name, value, "", found);
  }
  return found.slice(0, MOST);
}

function collect(step: string, value: unknown, key: string, found: Mark[]): void {
  if (found.length >= MOST || value === null || typeof value !== "object") return;
  if (Array.isArray(value)) {
    value.forEach((item: unknown, index) => {
      if (key === "boxes" && isNumbers(item, 4)) found.push({ step, kind: "box", numbers: item, label: String(index + 1) });
      else collect(step, item, key, found);
    });
    return;
  }
  const record = value as Record<string, unknown>;
  const label = labelOf(record);
  const corners = Object.entries(record).find(([name, inside]) => CORNERS.has(name) && isPairs(inside));
  if (corners) found.push({ step, kind: "polygon", numbers: (corners[1] as number[][]).flat(), label });
  else if (isNumbers(record["box"], 4)) found.push({ step, kind: "box", numbers: record["box"], label });
  else if (typeof record["x"] === "number" && typeof record["y"] === "number" && typeof record["size"] === "number") {
    found.push({ step, kind: "point", numbers: [record["x"], record["y"], record["size"]], label });
  }
  for (const [name, inside] of Object.entries(record)) if (!CORNERS.has(name)) collect(step, inside, name, found);
}

function labelOf(record: Record<string, unknown>): string {
  const name = LABELS.find((one) => typeof record[one] === "string" || typeof record[one] === "number");
  return name === undefined ? "" : String(record[name]);
}

const isNumbers = (value: unknown, length: number): value is number[] =>
  Array.isArray(value) && value.length === length && value.every((one) => typeof one === "number");

const isPairs = (value: unknown): value is number[][] => Array.isArray(value) && value.length > 2 && value.every((one) => isNumbers(one, 2));
