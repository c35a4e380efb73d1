// The form of a step, from the schema of its parameters.

import { useEffect, useId, useState } from "preact/hooks";
import type { ComponentChildren } from "preact";

import type { Parameter } from "../../../pipeline/catalogue";
import { isDefault, type Values } from "../../../pipeline/draft";
import { PLACES, placeOf, scaleOf, valueAt } from "../../../pipeline/scale";
import { Button } from "../../../ui/basics";
import { ColorField } from "./color-field";
import { ImageField } from "./image-field";
import { useTyped } from "./typed";

export interface FieldProps {
  parameter: Parameter;
  value: unknown;
  /** Undefined: as if it were not given. */
  onChange: (value: unknown) => void;
  id: string;
  describedBy: string;
}

/** Every parameter, one below the other. */
export function Fields({ parameters, values, onChange }: { parameters: readonly Parameter[]; values: Values; onChange: (name: string, value: unknown) => void }) {
  return (
    <div class="fields">
      {parameters.map((parameter) => (
        <OneField key={parameter.name} parameter={parameter} value={values[parameter.name]} onChange={(value) => onChange(parameter.name, value)} />
      ))}
    </div>
  );
}

function OneField({ parameter, value, onChange }: Omit<FieldProps, "id" | "describedBy">) {
  const id = useId();
  const hint = `${id}-hint`;
  const given = value !== undefined && !isDefault(value, parameter);
  const inside = { parameter, value, onChange, id, describedBy: hint };
  return (
    <div class={`field parameter kind-${parameter.kind}`}>
      <div class="parameter-head">
        {parameter.kind === "choices" ? (
          <span class="field-label" id={id}>
            {parameter.title}
          </span>
        ) : (
          <label for={id}>{parameter.title}</label>
        )}
        {parameter.required && value === undefined && <span class="badge shut">needed</span>}
        {given && !parameter.required && (
          <Button kind="quiet" icon="undo" class="small" label={`Reset ${parameter.title}`} onClick={() => onChange(undefined)} />
        )}
      </div>
      <Control {...inside} />
      <p class="hint" id={hint}>
        {parameter.description}
        {unitOf(parameter)}
      </p>
    </div>
  );
}

/** Where the description doesn't say it already. */
function unitOf({ unit, description, kind }: Parameter): string {
  if (unit === "" || kind === "color" || kind === "text" || description.toLowerCase().includes(unit.toLowerCase())) return "";
  return ` (${unit})`;
}

function Control(props: FieldProps): ComponentChildren {
  switch (props.parameter.kind) {
    case "integer":
    case "number":
      return <NumberField {...props} />;
    case "boolean":
      return <SwitchField {...props} />;
    case "choice":
      return <ChoiceField {...props} />;
    case "choices":
      return <ChoicesField {...props} />;
    case "color":
      return <ColorField {...props} />;
    case "image":
      return <ImageField {...props} />;
    case "numbers":
      return <NumbersField {...props} />;
    case "text":
      return <TextField {...props} />;
  }
}

function NumberField({ parameter, value, onChange, id, describedBy }: FieldProps) {
  const shown = value ?? parameter.fallback;
  const number = typeof shown === "number" ? shown : undefined;
  const scale = scaleOf(parameter, number);
  const typed = useTyped(number === undefined ? "" : String(number));
  const bad = typeof value === "string" || (number !== undefined && outside(number, parameter));
  return (
    <div class="number-field">
      {scale && (
        <input
          type="range"
          aria-label={`${parameter.title}, slider`}
          min={0}
          max={PLACES}
          step={1}
          value={number === undefined ? 0 : placeOf(number, scale)}
          aria-valuetext={number === undefined ? "not set" : String(number)}
          onInput={(event) => onChange(valueAt(event.currentTarget.valueAsNumber, scale))}
        />
      )}
      <input
        id={id}
        type="number"
        inputMode="decimal"
        aria-describedby={describedBy}
        aria-invalid={bad}
        min={parameter.minimum}
        max={parameter.maximum}
        step={parameter.kind === "integer" ? 1 : "any"}
        placeholder={parameter.nullable ? "auto" : ""}
        value={typed.value}
        onInput={(event) => {
          typed.type(event.currentTarget.value);
          onChange(numberIn(event.currentTarget));
        }}
        onBlur={typed.leave}
      />
    </div>
  );
}

const numberIn = (input: HTMLInputElement): number | undefined => (Number.isFinite(input.valueAsNumber) ? input.valueAsNumber : undefined);

const outside = (value: number, { minimum, maximum, above }: Parameter): boolean =>
  (minimum !== undefined && (above ? value <= minimum : value < minimum)) || (maximum !== undefined && value > maximum);

function SwitchField({ parameter, value, onChange, id, describedBy }: FieldProps) {
  return (
    <div class="switch">
      <input id={id} type="checkbox" role="switch" aria-describedby={describedBy} checked={(value ?? parameter.fallback) === true} onChange={(event) => onChange(event.currentTarget.checked)} />
    </div>
  );
}

function ChoiceField({ parameter, value, onChange, id, describedBy }: FieldProps) {
  const shown = value ?? parameter.fallback;
  return (
    <select
      id={id}
      aria-describedby={describedBy}
      value={shown === null || shown === undefined ? "" : String(shown)}
      onChange={(event) => onChange(parameter.choices.find((choice) => String(choice) === event.currentTarget.value))}
    >
      {(parameter.nullable || shown === undefined) && <option value="">{parameter.nullable ? "auto" : "Choose…"}</option>}
      {parameter.choices.map((choice) => (
        <option key={choice} value={String(choice)}>
          {String(choice)}
        </option>
      ))}
    </select>
  );
}

function ChoicesField({ parameter, value, onChange, id, describedBy }: FieldProps) {
  const chosen = (Array.isArray(value) ? value : []) as unknown[];
  const toggle = (choice: string | number, on: boolean) => {
    const next = parameter.choices.filter((one) => (one === choice ? on : chosen.includes(one)));
    onChange(next.length === 0 ? undefined : next);
  };
  return (
    <div class="choices" role="group" aria-labelledby={id} aria-describedby={describedBy}>
      {parameter.choices.map((choice) => (
        <label key={choice}>
          <input type="checkbox" checked={chosen.includes(choice)} onChange={(event) => toggle(choice, event.currentTarget.checked)} />
          {String(choice)}
        </label>
      ))}
    </div>
  );
}

/** What is being typed stays as it is while it means the value. */
function NumbersField({ parameter, value, onChange, id, describedBy }: FieldProps) {
  const given = Array.isArray(value) ? (value as unknown[]) : [];
  const [typed, setTyped] = useState(given.join(" "));
  useEffect(() => {
    if (JSON.stringify(numbersIn(typed)) !== JSON.stringify(given)) setTyped(given.join(" "));
  }, [JSON.stringify(given)]);
  const numbers = numbersIn(typed);
  const { least, most = Infinity } = parameter;
  const bad = numbers.some((one) => typeof one === "string") || numbers.length < least || numbers.length > most;
  return (
    <textarea
      id={id}
      class="mono"
      rows={3}
      aria-describedby={describedBy}
      aria-invalid={bad}
      value={typed}
      onInput={(event) => {
        setTyped(event.currentTarget.value);
        const found = numbersIn(event.currentTarget.value);
        onChange(found.length === 0 ? undefined : found);
      }}
    />
  );
}

function numbersIn(text: string): (number | string)[] {
  return text
    .split(/[\s,;:]+/)
    .filter(Boolean)
    .map((word) => (Number.isFinite(Number(word)) ? Number(word) : word));
}

function TextField({ parameter, value, onChange, id, describedBy }: FieldProps) {
  const typed = useTyped(typeof value === "string" ? value : String(parameter.fallback ?? ""));
  const common = {
    id,
    "aria-describedby": describedBy,
    maxLength: parameter.maxLength,
    value: typed.value,
    onInput: (event: { currentTarget: { value: string } }) => {
      typed.type(event.currentTarget.value);
      onChange(event.currentTarget.value === "" ? undefined : event.currentTarget.value);
    },
    onBlur: typed.leave,
  };
  return parameter.unit.includes("new lines") ? <textarea rows={2} {...common} /> : <input type="text" {...common} />;
}
