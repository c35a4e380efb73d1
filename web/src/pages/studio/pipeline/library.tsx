// Pipelines to begin with: presets of the service, and those that were saved.

import { useEffect, useState } from "preact/hooks";

import * as api from "../../../net/api";
import { notify } from "../../../state/notices";
import { Button, CopyButton, Failure, Field, WorkButton } from "../../../ui/basics";
import { Dialog } from "../../../ui/dialog";
import { moment } from "../../../ui/format";
import { append, draft, edit, pipelineText, presets, replaceBy } from "./state";
import { opened } from "./steps";

/** Replace what is here, which one click undoes. */
export async function use(text: string, title: string, missing: readonly string[] = []): Promise<void> {
  const before = draft.peek();
  await replaceBy(text, missing);
  // What must be chosen is asked for at once.
  opened.value = missing.length > 0 ? (draft.peek().steps[0]?.id ?? null) : null;
  if (before.steps.length > 0) notify("info", `${title} took the place of your steps.`, { label: "Undo", do: () => edit(before) });
}

export function Library({ onClose }: { onClose: () => void }) {
  return (
    <Dialog title="Open a pipeline" onClose={onClose} wide>
      <div class="library">
        <section aria-labelledby="saved-title">
          <h3 id="saved-title">Saved</h3>
          <Saved onClose={onClose} />
        </section>
        <section aria-labelledby="presets-title">
          <h3 id="presets-title">Presets</h3>
          <ul class="library-list">
            {presets.value.map((preset) => (
              <PresetRow key={preset.name} preset={preset} onClose={onClose} />
            ))}
          </ul>
        </section>
      </div>
    </Dialog>
  );
}

function PresetRow({ preset, onClose }: { preset: api.Preset; onClose: () => void }) {
  const { title, available } = preset;
  return (
    <li class={`library-item ${available ? "" : "unavailable"}`}>
      <div class="library-words">
        <strong>{title}</strong>
        <span class="soft">{preset.summary}</span>
        <code class="soft">{preset.pipeline}</code>
        {preset.missing.map(({ what, command }) => (
          <span key={what} class="needs">
            {what}
            {command && (
              <>
                : <code>{command}</code> <CopyButton text={() => command} label={`Copy the command for ${preset.title}`} />
              </>
            )}
          </span>
        ))}
      </div>
      <Actions title={title} pipeline={preset.pipeline} missing={preset.images} disabled={!available} onClose={onClose} />
    </li>
  );
}

interface ActionsProps {
  title: string;
  pipeline: string;
  missing?: readonly string[];
  disabled?: boolean;
  onClose: () => void;
}

function Actions({ title, pipeline, missing = [], disabled = false, onClose }: ActionsProps) {
  return (
    <div class="library-actions">
      <WorkButton kind="main" disabled={disabled} label={`Use ${title}`} work={() => use(pipeline, title, missing).then(onClose)}>
        Use
      </WorkButton>
      {draft.value.steps.length > 0 && (
        <WorkButton disabled={disabled} label={`Append ${title}`} work={() => append(pipeline, missing).then(onClose)}>
          Append
        </WorkButton>
      )}
    </div>
  );
}

function Saved({ onClose }: { onClose: () => void }) {
  const [items, setItems] = useState<readonly api.SavedPipeline[] | undefined>(undefined);
  const [error, setError] = useState<unknown>(undefined);
  const load = async () => {
    try {
      setItems((await api.savedPipelines()).items);
      setError(undefined);
    } catch (failure) {
      setError(failure);
    }
  };
  useEffect(() => void load(), []);
  if (error !== undefined) return <Failure error={error} again={load} />;
  if (items === undefined) return <p class="soft">Reading…</p>;
  if (items.length === 0) return <p class="soft">Nothing is saved yet. Build a pipeline, then save it by a name.</p>;
  return (
    <ul class="library-list">
      {items.map((item) => (
        <li key={item.name} class="library-item">
          <div class="library-words">
            <strong>{item.name}</strong>
            <code class="soft">{item.pipeline || "no steps"}</code>
            <span class="soft">{moment(item.changed)}</span>
          </div>
          <div class="library-actions">
            <Actions title={item.name} pipeline={item.pipeline} onClose={onClose} />
            <WorkButton kind="quiet" icon="trash" label={`Delete ${item.name}`} work={() => remove(item, load)} />
          </div>
        </li>
      ))}
    </ul>
  );
}

async function remove(item: api.SavedPipeline, load: () => Promise<void>): Promise<void> {
  await api.deletePipeline(item.name);
  await load();
  notify("info", `${item.name} was deleted.`, { label: "Undo", do: () => void api.savePipeline(item.name, item.pipeline).then(load, () => undefined) });
}

export function Save({ onClose }: { onClose: () => void }) {
  const [name, setName] = useState("");
  const [error, setError] = useState<string | undefined>(undefined);
  const [known, setKnown] = useState<readonly api.SavedPipeline[]>([]);
  useEffect(() => {
    api.savedPipelines().then((found) => setKnown(found.items), () => undefined); // only to say what would be overwritten
  }, []);
  const taken = known.some((item) => item.name === name.trim());
  const save = async () => {
    try {
      await api.savePipeline(name.trim(), pipelineText.peek());
      notify("good", `Saved as ${name.trim()}.`);
      onClose();
    } catch (failure) {
      setError(failure instanceof Error ? failure.message : String(failure));
    }
  };
  return (
    <Dialog title="Save this pipeline" onClose={onClose}>
      <form
        class="save-form"
        onSubmit={(event) => {
          event.preventDefault();
          void save();
        }}
      >
        <Field label="Name" hint={taken ? "There is one of this name; it will be replaced." : "Kept at the service, for you, on every device."} error={error}>
          {({ id, describedBy }) => (
            <input id={id} aria-describedby={describedBy} required maxLength={64} autocomplete="off" value={name} onInput={(event) => setName(event.currentTarget.value)} />
          )}
        </Field>
        <code class="soft wrap">{pipelineText.value || "no steps"}</code>
        <Button kind="main" type="submit" icon="save" disabled={name.trim() === ""}>
          {taken ? "Replace" : "Save"}
        </Button>
      </form>
    </Dialog>
  );
}
