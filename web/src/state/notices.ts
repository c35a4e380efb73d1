// What the page says in passing, and the browser's own notifications.

import { signal } from "@preact/signals";

import { stored } from "./storage";

export interface Notice {
  id: number;
  kind: "info" | "good" | "bad";
  text: string;
  action?: { label: string; href?: string; do?: () => void };
}

const MOST = 4;
const STAYS_MS = 8_000;

export const notices = signal<Notice[]>([]);
/** Whether the person wants the browser's notifications; it may forbid them all the same. */
export const wantsNotifications = stored("notifications", false);

let next = 1;

/** Say something. What went wrong stays until it is closed. */
export function notify(kind: Notice["kind"], text: string, action?: Notice["action"]): void {
  const notice: Notice = { id: next++, kind, text, ...(action ? { action } : {}) };
  notices.value = [...notices.value, notice].slice(-MOST);
  if (kind !== "bad") setTimeout(() => dismiss(notice.id), STAYS_MS);
}

export function dismiss(id: number): void {
  notices.value = notices.value.filter((notice) => notice.id !== id);
}

export async function askForNotifications(): Promise<boolean> {
  if (typeof Notification === "undefined") return false;
  const answer = await Notification.requestPermission();
  wantsNotifications.value = answer === "granted";
  return wantsNotifications.value;
}

/** The browser's notification, where it is wanted, allowed, and nobody looks at this page. */
export function notifyOutside(title: string, body: string, path: string): void {
  if (!wantsNotifications.value || typeof Notification === "undefined" || Notification.permission !== "granted") return;
  if (document.visibilityState === "visible" && document.hasFocus()) return;
  const shown = new Notification(title, { body, icon: "/icon.svg", tag: path });
  shown.onclick = () => {
    focus();
    location.assign(path);
  };
}
