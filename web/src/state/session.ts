// Who looks at these pages. Tabs of one browser share the cookie, so they tell each other when it changes.

import { computed, effect, signal } from "@preact/signals";

import * as api from "../net/api";
import { onDoubt, onSignedOut, Problem, returns, Unreachable } from "../net/http";
import { restartStreams } from "../net/stream";
import { changedHands } from "./storage";

/** Undefined until the service has said. */
export const session = signal<api.Session | undefined>(undefined);
/** Why it has not said yet, where it answers but doesn't say. */
export const sessionError = signal<unknown>(undefined);
export const signedIn = computed(() => session.value !== undefined && session.value.owner !== null);
export const isAdmin = computed(() => session.value?.admin === true);

const AGAIN_FIRST_MS = 500;
const AGAIN_MOST_MS = 10_000;
const others = typeof BroadcastChannel === "undefined" ? undefined : new BroadcastChannel("pixelmill.session");
/** Whose things this page holds; stays when the session ends. */
let holder: string | null = null;

function become(found: api.Session): void {
  sessionError.value = undefined;
  const { owner, tokens_needed: named } = found;
  if (owner !== null && named) {
    const passed = changedHands(owner) || (holder !== null && holder !== owner);
    holder = owner;
    // What others may not see is gone with the page.
    if (passed) return location.reload();
  }
  session.value = found;
}

/** Ask until the service says; where nobody answers, again when somebody does. */
export async function loadSession(): Promise<void> {
  for (let wait = AGAIN_FIRST_MS; ; wait = Math.min(2 * wait, AGAIN_MOST_MS)) {
    try {
      return become(await api.session());
    } catch (error) {
      if (error instanceof Unreachable) return;
      if (session.peek() === undefined) sessionError.value = error;
      const asked = error instanceof Problem && error.retryAfter !== null ? 1_000 * error.retryAfter : wait;
      await new Promise((resolve) => setTimeout(resolve, Math.min(asked, AGAIN_MOST_MS)));
    }
  }
}

export async function signIn(token: string): Promise<void> {
  const found = await api.signIn(token);
  restartStreams();
  others?.postMessage("changed");
  become(found);
  returns.value += 1; // what was refused without a session is asked again
}

export async function signOut(): Promise<void> {
  await api.signOut();
  restartStreams();
  others?.postMessage("changed");
  // What others may not see is gone with the page.
  location.assign("/");
}

if (others) others.onmessage = () => void loadSession();

onSignedOut.current = () => {
  const now = session.peek();
  if (now !== undefined && now.owner !== null) session.value = { ...now, owner: null, scopes: [], admin: false };
};

let doubting: Promise<void> | undefined;
onDoubt.current = () => {
  if (!session.peek()?.tokens_needed || !signedIn.peek()) return;
  doubting ??= loadSession().finally(() => (doubting = undefined));
};

let seen = returns.peek();
effect(() => {
  if (returns.value === seen) return;
  seen = returns.value;
  void loadSession();
});
