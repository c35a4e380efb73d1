// What stands before and behind the steps: which frame is read; format, its options and metadata of what is written.

import { useId } from "preact/hooks";

import type { Catalogue } from "../../../pipeline/catalogue";
import { withValue } from "../../../pipeline/edit";
import { summaryOf } from "../../../pipeline/summary";
import { Field } from "../../../ui/basics";
import { Fields } from "./fields";
import { draft, edit } from "./state";

export function InputEnd() {
  const { frame } = draft.value;
  return (
    <details class="end">
      <summary>
        <strong>Input</strong>
        <span class="soft">{frame === null ? "the whole file" : `frame ${frame}`}</span>
      </summary>
      <div class="end-body">
        <Field label="One frame or page" hint="Of animations and of files with pages, from 0. Empty takes the whole file.">
          {({ id, describedBy }) => (
            <input
              id={id}
              aria-describedby={describedBy}
              type="number"
              min={0}
              max={65_535}
              step={1}
              placeholder="all"
              value={frame ?? ""}
              onInput={(event) => {
                const value = event.currentTarget.valueAsNumber;
                edit({ ...draft.peek(), frame: Number.isInteger(value) && value >= 0 ? value : null }, "frame");
              }}
            />
          )}
        </Field>
      </div>
    </details>
  );
}

export function OutputEnd({ known }: { known: Catalogue }) {
  const { format, metadata } = draft.value;
  const id = useId();
  const type = format ? known.formats.get(format.name) : undefined;
  const policy = known.ends.get("metadata");
  const kept = policy && metadata ? summaryOf(metadata, policy) : "";
  return (
    <details class="end">
      <summary>
        <strong>Output</strong>
        <span class="soft">
          {format ? format.name.toUpperCase() : "as the source"}
          {format && type && Object.keys(format.values).length > 0 ? ` · ${summaryOf(format.values, type)}` : ""}
          {kept && policy && kept !== policy.summary ? ` · metadata: ${kept}` : ""}
        </span>
      </summary>
      <div class="end-body">
        <div class="field">
          <label for={id}>Format</label>
          <select
            id={id}
            value={format?.name ?? ""}
            onChange={(event) => {
              const name = event.currentTarget.value;
              edit({ ...draft.peek(), format: name ? { name, values: {} } : null });
            }}
          >
            <option value="">As the source</option>
            {[...known.formats.keys()].map((name) => (
              <option key={name} value={name}>
                {name === "auto" ? "auto: whatever is smallest" : name.toUpperCase()}
              </option>
            ))}
          </select>
        </div>
        {format && type && (
          <Fields
            parameters={type.parameters}
            values={format.values}
            onChange={(name, value) => edit({ ...draft.peek(), format: { name: format.name, values: withValue(format.values, name, value) } }, `format.${name}`)}
          />
        )}
        {policy && (
          <fieldset>
            <legend>Metadata</legend>
            <Fields
              parameters={policy.parameters}
              values={metadata ?? {}}
              onChange={(name, value) => {
                const values = withValue(metadata ?? {}, name, value);
                edit({ ...draft.peek(), metadata: Object.keys(values).length > 0 ? values : null }, `metadata.${name}`);
              }}
            />
          </fieldset>
        )}
      </div>
    </details>
  );
}
