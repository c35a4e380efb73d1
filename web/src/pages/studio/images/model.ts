// The images that a person brought, and how far each is on its way to the store. Knows neither the network nor the screen.

import { batch, computed, signal, type Signal } from "@preact/signals";

export type UploadState =
  | { state: "waiting" }
  | { state: "sending"; share: number }
  | { state: "stored"; id: string; created: number; expires: number }
  | { state: "failed"; why: string; again: boolean };

export interface Picture {
  readonly id: number;
  /** With its folders, where it came in one. */
  readonly name: string;
  readonly file: File;
  readonly upload: Signal<UploadState>;
  /** State of its task in the run that is shown. */
  readonly task: Signal<string | null>;
}

export interface Totals {
  waiting: number;
  sending: number;
  stored: number;
  failed: number;
  bytes: number;
  bytesStored: number;
}

/** What one visit holds; only names and handles are kept, so this is a bound of sanity. */
export const MOST_PICTURES = 500_000;
const TELL_MS = 120;

export const pictures = signal<readonly Picture[]>([]);
/** Whose preview is shown. */
export const selected = signal<Picture | null>(null);
export const totals = signal<Totals>({ waiting: 0, sending: 0, stored: 0, failed: 0, bytes: 0, bytesStored: 0 });
/** Every image is in the store, or has failed for a reason that is told. */
export const settled = computed(() => totals.value.waiting + totals.value.sending === 0);

/** Called with what was added, and with what was removed. */
export const onAdded = new Set<(added: readonly Picture[]) => void>();
export const onRemoved = new Set<(removed: readonly Picture[]) => void>();

const running: Totals = { waiting: 0, sending: 0, stored: 0, failed: 0, bytes: 0, bytesStored: 0 };
const known = new Set<string>();
const here = new Set<Picture>();
let made = 0;
let telling: ReturnType<typeof setTimeout> | undefined;

export interface Brought {
  name: string;
  file: File;
}

export interface Added {
  added: number;
  /** Brought before: the same name, size and time. */
  already: number;
  /** Beyond what one visit holds. */
  beyond: number;
}

export function addPictures(brought: readonly Brought[]): Added {
  const fresh: Picture[] = [];
  let already = 0;
  for (const { name, file } of brought) {
    const key = keyOf(name, file);
    if (known.has(key)) already += 1;
    else if (pictures.peek().length + fresh.length < MOST_PICTURES) {
      known.add(key);
      fresh.push({ id: made++, name, file, upload: signal<UploadState>({ state: "waiting" }), task: signal<string | null>(null) });
    }
  }
  if (fresh.length > 0) {
    running.waiting += fresh.length;
    for (const one of fresh) {
      here.add(one);
      running.bytes += one.file.size;
    }
    batch(() => {
      pictures.value = [...pictures.peek(), ...fresh];
      selected.value ??= fresh[0] ?? null;
      tellNow();
    });
    for (const call of onAdded) call(fresh);
  }
  return { added: fresh.length, already, beyond: brought.length - already - fresh.length };
}

export function removePictures(gone: readonly Picture[]): void {
  const without = new Set(gone);
  const before = pictures.peek();
  const place = before.findIndex((one) => without.has(one));
  for (const one of gone) {
    known.delete(keyOf(one.name, one.file));
    here.delete(one);
    count(one, one.upload.peek(), -1);
    running.bytes -= one.file.size;
  }
  const left = before.filter((one) => !without.has(one));
  batch(() => {
    pictures.value = left;
    const shown = selected.peek();
    if (shown && without.has(shown)) selected.value = left[Math.min(place, left.length - 1)] ?? null;
    tellNow();
  });
  for (const call of onRemoved) call(gone);
}

/** Not removed since. */
export const isHere = (picture: Picture): boolean => here.has(picture);

/** The one way in which an upload's state changes, so that the totals stay true. */
export function setUpload(picture: Picture, next: UploadState): void {
  const before = picture.upload.peek();
  count(picture, before, -1);
  count(picture, next, 1);
  picture.upload.value = next;
  telling ??= setTimeout(tellNow, TELL_MS);
  // Who waits until all have settled must not see them settled for a moment longer.
  if ((running.waiting + running.sending === 0) !== settled.peek()) tellNow();
}

function count(picture: Picture, upload: UploadState, by: 1 | -1): void {
  running[upload.state] += by;
  if (upload.state === "stored") running.bytesStored += by * picture.file.size;
}

function tellNow(): void {
  clearTimeout(telling);
  telling = undefined;
  totals.value = { ...running };
}

const keyOf = (name: string, file: File): string => `${file.size}:${file.lastModified}:${name}`;
