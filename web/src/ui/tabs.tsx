// Tabs by the pattern of WAI-ARIA: arrows move, the chosen one is in the tab order.

import type { ComponentChildren } from "preact";
import { useRef } from "preact/hooks";

import { Icon, type IconName } from "./icons";

export interface Tab<Name extends string> {
  name: Name;
  title: ComponentChildren;
  icon?: IconName;
}

/** Panels carry `id="panel-NAME"`, `role="tabpanel"` and `aria-labelledby="tab-NAME"`. */
export function Tabs<Name extends string>({ tabs, chosen, choose, label }: { tabs: readonly Tab<Name>[]; chosen: Name; choose: (name: Name) => void; label: string }) {
  const list = useRef<HTMLDivElement>(null);
  const move = (event: KeyboardEvent) => {
    const at = tabs.findIndex((tab) => tab.name === chosen);
    const last = tabs.length - 1;
    const to = { ArrowRight: at === last ? 0 : at + 1, ArrowLeft: at <= 0 ? last : at - 1, Home: 0, End: last }[event.key];
    const next = to === undefined ? undefined : tabs[to];
    if (!next) return;
    event.preventDefault();
    choose(next.name);
    list.current?.querySelector<HTMLElement>(`#tab-${next.name}`)?.focus();
  };
  return (
    <div ref={list} class="tabs" role="tablist" aria-label={label} onKeyDown={move}>
      {tabs.map((tab) => (
        <button
          key={tab.name}
          id={`tab-${tab.name}`}
          type="button"
          role="tab"
          aria-selected={tab.name === chosen}
          aria-controls={`panel-${tab.name}`}
          tabIndex={tab.name === chosen ? 0 : -1}
          onClick={() => choose(tab.name)}
        >
          {tab.icon && <Icon name={tab.icon} size={16} />}
          {tab.title}
        </button>
      ))}
    </div>
  );
}
