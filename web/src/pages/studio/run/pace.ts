// How fast tasks end, and how long the rest takes: from the ends of the last half minute.

const WINDOW_MS = 30_000;
const MOST = 4_000;

export class Pace {
  private ends: number[] = [];
  private began: number | undefined;

  /** A task has ended at `at` (milliseconds). */
  ended(at: number): void {
    this.began ??= at;
    this.ends.push(at);
    if (this.ends.length > MOST) this.ends.splice(0, this.ends.length - MOST);
  }

  /** Work began; before that nothing counts as slow. */
  start(at: number): void {
    this.began ??= at;
  }

  /** Images a second, or null as long as nothing can be said. */
  rate(now: number): number | null {
    const from = Math.max(now - WINDOW_MS, this.began ?? now);
    const recent = this.ends.filter((end) => end >= from);
    const first = recent.length >= MOST ? (recent[0] ?? from) : from;
    const seconds = (now - first) / 1000;
    return recent.length < 2 || seconds < 0.5 ? null : recent.length / seconds;
  }

  /** Seconds until `left` more have ended, or null. */
  left(left: number, now: number): number | null {
    const rate = this.rate(now);
    return rate === null || rate <= 0 ? null : left / rate;
  }
}
