// The catalogue of operations: searched by typing, gone through by arrows, taken by Enter or a click.

import { useEffect, useId, useRef, useState } from "preact/hooks";

import type { Catalogue, StepType } from "../../../pipeline/catalogue";
import { added } from "../../../pipeline/edit";
import { searched } from "../../../pipeline/search";
import { titleOf } from "../../../pipeline/summary";
import { Dialog } from "../../../ui/dialog";
import { draft, edit } from "./state";
import { focusStep } from "./steps";

export function AddStep({ known, onClose }: { known: Catalogue; onClose: () => void }) {
  const [query, setQuery] = useState("");
  const [at, setAt] = useState(0);
  const input = useRef<HTMLInputElement>(null);
  const id = useId();
  const groups = searched(known, query);
  const types = groups.flatMap((group) => group.types);
  const active = types[Math.min(at, types.length - 1)];
  useEffect(() => input.current?.focus(), []);
  useEffect(() => {
    if (active) document.getElementById(`${id}-${active.name}`)?.scrollIntoView({ block: "nearest" });
  }, [active?.name]);
  const take = (type: StepType) => {
    const next = added(draft.peek(), type.name, known);
    edit(next.draft);
    onClose();
    focusStep(next.id);
  };
  const keys = (event: KeyboardEvent) => {
    const by = { ArrowDown: 1, ArrowUp: -1, PageDown: 8, PageUp: -8 }[event.key];
    if (by !== undefined) {
      event.preventDefault();
      setAt(Math.max(0, Math.min(types.length - 1, at + by)));
    } else if (event.key === "Enter" && active) {
      event.preventDefault();
      take(active);
    }
  };
  return (
    <Dialog title="Add a step" onClose={onClose} wide>
      <div class="catalogue">
        <input
          ref={input}
          type="search"
          role="combobox"
          list={undefined}
          aria-label="Search operations by name, family or what they do"
          aria-expanded="true"
          aria-controls={`${id}-list`}
          aria-activedescendant={active ? `${id}-${active.name}` : undefined}
          aria-autocomplete="list"
          placeholder="Search: blur, crop, faces, colors…"
          value={query}
          onInput={(event) => {
            setQuery(event.currentTarget.value);
            setAt(0);
          }}
          onKeyDown={keys}
        />
        <div id={`${id}-list`} class="catalogue-list" role="listbox" aria-label="Operations">
          {groups.map((group) => (
            <div key={group.family} role="group" aria-label={group.family}>
              <p class="family" aria-hidden="true">
                {titleOf(group.family)}
              </p>
              <div class="family-types" role="presentation">
                {group.types.map((type) => (
                  <div key={type.name} id={`${id}-${type.name}`} class="catalogue-item" role="option" aria-selected={type === active} onClick={() => take(type)}>
                    <strong>{titleOf(type.name)}</strong>
                    <span class="soft">{type.summary}</span>
                  </div>
                ))}
              </div>
            </div>
          ))}
        </div>
        {types.length === 0 && (
          <p class="soft" role="status">
            No operation has “{query}” in its name, family or description.
          </p>
        )}
      </div>
    </Dialog>
  );
}
