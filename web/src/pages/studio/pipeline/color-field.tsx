// A color: the browser's picker, its hex digits, and how opaque it is where that may be said.

import type { FieldProps } from "./fields";
import { useTyped } from "./typed";

const HEX = /^(?:[0-9a-f]{6}|[0-9a-f]{8})$/;

export function ColorField({ parameter, value, onChange, id, describedBy }: FieldProps) {
  const shown = String(value ?? parameter.fallback ?? "");
  const typed = useTyped(shown);
  const known = HEX.test(shown);
  const rgb = known ? shown.slice(0, 6) : "000000";
  const alpha = known && shown.length === 8 ? Number.parseInt(shown.slice(6), 16) : 255;
  const give = (digits: string, opacity: number) => onChange(parameter.alpha && opacity < 255 ? digits + opacity.toString(16).padStart(2, "0") : digits);
  return (
    <div class="color-field">
      <input type="color" id={id} aria-describedby={describedBy} value={`#${rgb}`} data-set={shown !== ""} onInput={(event) => give(event.currentTarget.value.slice(1).toLowerCase(), alpha)} />
      <input
        type="text"
        class="mono"
        aria-label={`${parameter.title}, hex digits`}
        aria-invalid={shown !== "" && !known}
        maxLength={9}
        spellcheck={false}
        placeholder={parameter.nullable ? "none" : "RRGGBB"}
        value={typed.value}
        onInput={(event) => {
          typed.type(event.currentTarget.value);
          const digits = event.currentTarget.value.replace("#", "").trim().toLowerCase();
          onChange(digits === "" ? undefined : digits);
        }}
        onBlur={typed.leave}
      />
      {parameter.alpha && (
        <label class="alpha">
          <span class="soft">Opacity</span>
          <input
            type="range"
            min={0}
            max={255}
            aria-label={`${parameter.title}, opacity`}
            aria-valuetext={`${Math.round(alpha / 2.55)} %`}
            value={alpha}
            disabled={shown === ""}
            onInput={(event) => give(rgb, event.currentTarget.valueAsNumber)}
          />
        </label>
      )}
    </div>
  );
}
