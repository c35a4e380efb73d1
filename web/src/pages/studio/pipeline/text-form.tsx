// The pipeline as text: written by hand, with faults where they are, and copied as something to run elsewhere.

import { useId } from "preact/hooks";

import { copied, LANGUAGES, type Language } from "../../../pipeline/copy";
import { session } from "../../../state/session";
import { stored } from "../../../state/storage";
import { CopyButton } from "../../../ui/basics";
import { nameOf } from "./second-images";
import { pipelineState, pipelineText, write, written, writtenOut } from "./state";

const language = stored<Language>("copy-language", "text");

export function TextForm() {
  const id = useId();
  const text = pipelineText.value;
  const { error, needs } = pipelineState.value;
  // A fault of a step is told at the step, unless the text itself is being written.
  const tells = error !== undefined && (written.value !== null || error.step === null);
  return (
    <section class="text-form" aria-label="Text of the pipeline">
      <div class="parameter-head">
        <label for={id}>
          <strong>As text</strong>
        </label>
        <CopyAs />
      </div>
      <Rows id={id} text={text} wrong={error !== undefined} />
      {error && (
        <div class="text-error" id={`${id}-error`} role={written.value === null ? undefined : "alert"}>
          {error.position !== null && <Place text={text} position={error.position} />}
          {tells && <p class="hint bad">{error.detail}</p>}
        </div>
      )}
      {needs.map((need) => (
        <p key={need.what} class="hint needs">
          {need.what}
          {need.command && (
            <>
              . Whoever runs this service brings it with <code>{need.command}</code>
            </>
          )}
        </p>
      ))}
    </section>
  );
}

function Rows({ id, text, wrong }: { id: string; text: string; wrong: boolean }) {
  const rows = Math.max(2, Math.min(8, Math.ceil(text.length / 42)));
  return (
    <textarea
      id={id}
      class="mono"
      rows={rows}
      spellcheck={false}
      autocapitalize="off"
      autocomplete="off"
      placeholder="grayscale/resize:256,256/format:webp"
      aria-invalid={wrong}
      aria-describedby={wrong ? `${id}-error` : undefined}
      value={text}
      onInput={(event) => write(event.currentTarget.value.replace(/[\r\n]+/g, ""))}
      onBlur={writtenOut}
      onKeyDown={(event) => {
        if (event.key !== "Enter") return;
        event.preventDefault();
        writtenOut();
      }}
    />
  );
}

/** Some characters around the fault, with the fault marked. */
function Place({ text, position }: { text: string; position: number }) {
  const from = Math.max(0, position - 18);
  // To the end of the step; of a character that may not stand there, that alone.
  const end = text.indexOf("/", position);
  const to = Math.max(position + 1, end < 0 ? text.length : end);
  return (
    <p class="place mono" aria-hidden="true">
      {from > 0 ? "…" : ""}
      {text.slice(from, position)}
      <mark>{text.slice(position, to) || " "}</mark>
      {text.slice(to, to + 12)}
      {text.length > to + 12 ? "…" : ""}
    </p>
  );
}

function CopyAs() {
  const context = { origin: location.origin, tokens: session.value?.tokens_needed === true, nameOf };
  const result = copied(language.value, pipelineText.value, context);
  return (
    <div class="copy-as">
      <select
        aria-label="Copy as"
        value={language.value}
        onChange={(event) => (language.value = event.currentTarget.value as Language)}
      >
        {LANGUAGES.map((one) => (
          <option key={one.name} value={one.name}>
            {one.title}
          </option>
        ))}
      </select>
      <CopyButton text={() => result}>Copy</CopyButton>
      {language.value !== "text" && (
        <pre class="copy-shown" tabIndex={0} aria-label="What is copied">
          {result}
        </pre>
      )}
    </div>
  );
}
