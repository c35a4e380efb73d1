// Who looks at these pages.

import { computed, effect, signal } from "@preact/signals";

import * as api from "../net/api";
import { onSignedOut, returns } from "../net/http";
import { restartStreams } from "../net/stream";

/** Undefined until the service has said. */
export const session = signal<api.Session | undefined>(undefined);
export const signedIn = computed(() => session.value !== undefined && session.value.owner !== null);
export const isAdmin = computed(() => session.value?.admin === true);

export async function loadSession(): Promise<void> {
  session.value = await api.session();
}

export async function signIn(token: string): Promise<void> {
  session.value = await api.signIn(token);
  restartStreams();
}

export async function signOut(): Promise<void> {
  await api.signOut();
  // What others may not see is gone with the page.
  location.assign("/");
}

onSignedOut.current = () => {
  const now = session.peek();
  if (now !== undefined && now.owner !== null) session.value = { ...now, owner: null, scopes: [], admin: false };
};

let seen = returns.peek();
effect(() => {
  if (returns.value === seen) return;
  seen = returns.value;
  loadSession().catch(() => undefined); // it went away again, and will be asked when it is back
});
