// Small parts that every page is made of.

import type { ButtonHTMLAttributes, ComponentChildren } from "preact";
import { useEffect, useId, useRef, useState } from "preact/hooks";

import { words } from "../net/http";
import { notify } from "../state/notices";
import { Icon, type IconName } from "./icons";

type ButtonProps = Omit<ButtonHTMLAttributes<HTMLButtonElement>, "icon"> & {
  kind?: "plain" | "main" | "danger" | "quiet";
  icon?: IconName;
  /** Shown to screen readers in place of children, and as a tooltip. */
  label?: string;
};

export function Button({ kind = "plain", icon, label, children, type = "button", class: more, ...rest }: ButtonProps) {
  return (
    <button {...rest} type={type} class={`button ${kind} ${children ? "" : "round"} ${more ?? ""}`} aria-label={label} title={label}>
      {icon && <Icon name={icon} />}
      {children}
    </button>
  );
}

/** A button whose work takes time: busy until it ends, and its failure is said. */
export function WorkButton({ work, ...rest }: Omit<ButtonProps, "onClick"> & { work: () => Promise<unknown> }) {
  const [busy, setBusy] = useState(false);
  const there = useRef(true);
  useEffect(() => () => void (there.current = false), []);
  const run = async () => {
    if (busy) return;
    setBusy(true);
    try {
      await work();
    } catch (error) {
      notify("bad", words(error));
    } finally {
      if (there.current) setBusy(false);
    }
  };
  // Not disabled while it works: that would take the focus from whoever pressed it, for good.
  return <Button {...rest} aria-disabled={busy || undefined} aria-busy={busy} onClick={() => void run()} />;
}

export function LinkButton({ href, icon, children, kind = "plain", download }: { href: string; icon?: IconName; children: ComponentChildren; kind?: "plain" | "main" | "quiet"; download?: string | boolean }) {
  return (
    <a class={`button ${kind}`} href={href} download={download}>
      {icon && <Icon name={icon} />}
      {children}
    </a>
  );
}

/** Copies text, and says that it did. */
export function CopyButton({ text, children = "Copy", label }: { text: () => string; children?: ComponentChildren; label?: string }) {
  const copy = async () => {
    await copyText(text());
    notify("info", "Copied.");
  };
  return (
    <WorkButton kind="quiet" icon="copy" work={copy} {...(label ? { label } : {})}>
      {children}
    </WorkButton>
  );
}

async function copyText(text: string): Promise<void> {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  // Addresses without TLS have no clipboard; the older way needs a selection.
  const area = document.createElement("textarea");
  area.value = text;
  area.className = "offscreen";
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  if (!done) throw new Error("This browser doesn't let the page copy. Select the text and copy it by hand.");
}

/** A labelled control; `hint` and `error` are read with it. */
export function Field({ label, hint, error, children }: { label: ComponentChildren; hint?: ComponentChildren; error?: string | undefined; children: (ids: { id: string; describedBy: string | undefined }) => ComponentChildren }) {
  const id = useId();
  const hints = hint || error ? `${id}-hint` : undefined;
  return (
    <div class={`field ${error ? "wrong" : ""}`}>
      <label for={id}>{label}</label>
      {children({ id, describedBy: hints })}
      {hints && (
        <p class="hint" id={hints} role={error ? "alert" : undefined}>
          {error ?? hint}
        </p>
      )}
    </div>
  );
}

export function Progress({ value, most, label, parts }: { value: number; most: number; label: string; parts?: { name: string; value: number }[] }) {
  return (
    <div class="progress" role="progressbar" aria-label={label} aria-valuemin={0} aria-valuemax={most} aria-valuenow={value}>
      {(parts ?? [{ name: "done", value }]).map((one) => (
        <span key={one.name} class={`bar ${one.name}`} style={{ width: `${most > 0 ? (100 * one.value) / most : 0}%` }} />
      ))}
    </div>
  );
}

export type Tone = "queued" | "running" | "succeeded" | "failed" | "cancelled" | "open" | "shut";

export function Badge({ tone, children }: { tone: Tone | string; children?: ComponentChildren }) {
  return <span class={`badge ${tone}`}>{children ?? tone}</span>;
}

export function Empty({ icon, title, children }: { icon: IconName; title: string; children?: ComponentChildren }) {
  return (
    <div class="empty">
      <Icon name={icon} size={40} />
      <h2>{title}</h2>
      {children}
    </div>
  );
}

/** What couldn't be read, with a way to try again. */
export function Failure({ error, again }: { error: unknown; again?: () => Promise<unknown> }) {
  return (
    <div class="notice bad" role="alert">
      <Icon name="warning" />
      <p>{words(error)}</p>
      {again && (
        <WorkButton icon="retry" work={again}>
          Try again
        </WorkButton>
      )}
    </div>
  );
}
