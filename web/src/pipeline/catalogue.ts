// What steps there are, as the service lists them: operations by family, output formats, and what stands at the ends.

import type { Format, Operation } from "../net/api";

/** One parameter, from its JSON schema. */
export interface Parameter {
  name: string;
  title: string;
  description: string;
  kind: "integer" | "number" | "boolean" | "choice" | "color" | "image" | "text" | "numbers" | "choices";
  /** Undefined where one must be given. */
  fallback: unknown;
  required: boolean;
  /** May be left empty, which means something of its own ("as the aspect ratio says"). */
  nullable: boolean;
  choices: readonly (string | number)[];
  minimum: number | undefined;
  maximum: number | undefined;
  /** The minimum itself is not allowed. */
  above: boolean;
  maxLength: number | undefined;
  /** Of a list: how many there may be. */
  least: number;
  most: number | undefined;
  /** Of a color: whether it may be translucent. */
  alpha: boolean;
  unit: string;
}

export interface StepType {
  name: string;
  family: string;
  summary: string;
  description: string;
  parameters: readonly Parameter[];
  /** How many parameters are written by position. */
  positional: number;
  /** In text form; null where there is none. */
  example: string | null;
}

export interface Catalogue {
  operations: ReadonlyMap<string, StepType>;
  formats: ReadonlyMap<string, StepType>;
  /** `frame` and `metadata`. */
  ends: ReadonlyMap<string, StepType>;
  families: readonly string[];
}

type Schema = Record<string, unknown>;

/** Formats without transparency take a color of six digits. */
const OPAQUE = "^[0-9a-f]{6}$";

export function parametersOf(schema: Schema): Parameter[] {
  const required = new Set((schema["required"] as string[] | undefined) ?? []);
  const properties = (schema["properties"] as Record<string, Schema> | undefined) ?? {};
  return Object.entries(properties).map(([name, found]) => parameterOf(name, found, required.has(name)));
}

function parameterOf(name: string, schema: Schema, required: boolean): Parameter {
  const above = schema["exclusiveMinimum"] as number | undefined;
  const items = schema["items"] as Schema | undefined;
  return {
    name,
    title: (schema["title"] as string | undefined) ?? name,
    description: (schema["description"] as string | undefined) ?? "",
    kind: kindOf(schema),
    fallback: schema["default"],
    required,
    nullable: !required && schema["default"] === null,
    choices: (schema["enum"] ?? items?.["enum"] ?? []) as (string | number)[],
    minimum: above ?? (schema["minimum"] as number | undefined) ?? (items?.["minimum"] as number | undefined),
    maximum: (schema["maximum"] as number | undefined) ?? (items?.["maximum"] as number | undefined),
    above: above !== undefined,
    maxLength: schema["maxLength"] as number | undefined,
    least: (schema["minItems"] as number | undefined) ?? 0,
    most: schema["maxItems"] as number | undefined,
    alpha: schema["format"] === "color",
    unit: (schema["unit"] as string | undefined) ?? "",
  };
}

function kindOf(schema: Schema): Parameter["kind"] {
  const items = schema["items"] as Schema | undefined;
  if (schema["type"] === "array") return items?.["enum"] ? "choices" : "numbers";
  if (schema["enum"]) return "choice";
  if (schema["format"] === "color" || schema["pattern"] === OPAQUE) return "color";
  if (schema["format"] === "image") return "image";
  if (schema["type"] === "integer" || schema["type"] === "number" || schema["type"] === "boolean") return schema["type"];
  return "text";
}

export function catalogueOf(operations: readonly Operation[], formats: readonly Format[]): Catalogue {
  const types = operations.map((one): StepType => ({
    name: one.name,
    family: one.family,
    summary: one.summary,
    description: one.description,
    parameters: parametersOf(one.parameters as Schema),
    positional: one.positional,
    example: one.examples[0] ?? null,
  }));
  const written = formats
    .filter((one) => one.written)
    .map((one): StepType => ({
      name: one.name,
      family: "format",
      summary: one.name,
      description: "",
      parameters: parametersOf((one.parameters ?? {}) as Schema),
      positional: 0,
      example: null,
    }));
  return {
    operations: new Map(types.map((one) => [one.name, one])),
    formats: new Map(written.map((one) => [one.name, one])),
    ends: new Map(ENDS.map((one) => [one.name, one])),
    families: [...new Set(types.map((one) => one.family))],
  };
}

function parameter(name: string, title: string, description: string, more: Partial<Parameter>): Parameter {
  const plain: Parameter = { name, title, description, kind: "boolean", fallback: false, required: false, nullable: false, choices: [], minimum: undefined, maximum: undefined, above: false, maxLength: undefined, least: 0, most: undefined, alpha: false, unit: "" };
  return { ...plain, ...more };
}

const ENDS: StepType[] = [
  {
    name: "frame",
    family: "ends",
    summary: "Take one frame or page of the source",
    description: "",
    parameters: [parameter("frame", "Frame", "Number of the frame or page, from 0", { kind: "integer", fallback: null, required: true, minimum: 0, maximum: 65_535 })],
    positional: 1,
    example: "frame:0",
  },
  {
    name: "metadata",
    family: "ends",
    summary: "What the result keeps of the source's metadata",
    description: "",
    parameters: [
      parameter("policy", "Policy", "strip: nothing; copyright: who made it; keep: all", { kind: "choice", fallback: "strip", choices: ["strip", "keep", "copyright"] }),
      parameter("gps", "Position", "Keep where it was taken, too", {}),
      parameter("icc", "Color profile", "Keep the source's color profile", {}),
    ],
    positional: 1,
    example: "metadata:copyright",
  },
];
