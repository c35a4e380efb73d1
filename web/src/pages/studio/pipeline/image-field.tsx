// A second image: a file that is chosen here and uploaded, or one of those before.

import { useRef, useState } from "preact/hooks";

import { words } from "../../../net/http";
import { Button, Progress } from "../../../ui/basics";
import type { FieldProps } from "./fields";
import { nameOf, recent, uploadSecond } from "./second-images";

export function ImageField({ parameter, value, onChange, id, describedBy }: FieldProps) {
  const input = useRef<HTMLInputElement>(null);
  const [part, setPart] = useState<number | null>(null);
  const [error, setError] = useState("");
  const reference = typeof value === "string" ? value : "";
  const take = async (file: File | undefined) => {
    if (file === undefined) return;
    setError("");
    setPart(0);
    try {
      onChange(await uploadSecond(file, setPart));
    } catch (failure) {
      setError(words(failure));
    } finally {
      setPart(null);
    }
  };
  const others = recent().filter((one) => one.reference !== reference);
  return (
    <div
      class="image-field"
      onDragOver={(event) => event.preventDefault()}
      onDrop={(event) => {
        event.preventDefault();
        event.stopPropagation();
        void take(event.dataTransfer?.files[0]);
      }}
    >
      <input
        ref={input}
        id={id}
        class="offscreen"
        type="file"
        accept="image/*,.heic,.jxl,.qoi,.avif,.tif,.tiff"
        aria-describedby={describedBy}
        onChange={(event) => {
          void take(event.currentTarget.files?.[0]);
          event.currentTarget.value = "";
        }}
      />
      <div class="image-field-row">
        <Button icon="image" onClick={() => input.current?.click()} tabIndex={-1} aria-hidden="true">
          {reference ? "Change" : "Choose a file"}
        </Button>
        <span class="wrap">{reference ? (nameOf(reference) ?? reference) : "or drop it here"}</span>
      </div>
      {others.length > 0 && (
        <select aria-label={`${parameter.title}: one that was uploaded before`} value="" onChange={(event) => onChange(event.currentTarget.value || undefined)}>
          <option value="">Uploaded before…</option>
          {others.map((one) => (
            <option key={one.reference} value={one.reference}>
              {one.name}
            </option>
          ))}
        </select>
      )}
      {part !== null && <Progress value={Math.round(100 * part)} most={100} label="Upload of the image" />}
      {error && (
        <p class="hint bad" role="alert">
          {error}
        </p>
      )}
    </div>
  );
}
