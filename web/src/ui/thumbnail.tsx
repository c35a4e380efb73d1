// A small picture of a task's input or result, made by the service.

import { useEffect, useState } from "preact/hooks";

import { thumbnailUrl } from "../net/api";
import { reachable, returns } from "../net/http";
import { Icon } from "./icons";

const MOST_TRIES = 3;
const AGAIN_MS = 1_500;
/** What flies by while somebody scrolls is neither asked for nor decoded. */
const STAYS_MS = 90;

interface TaskThumbnailProps {
  task: string;
  of: "result" | "input";
  /** The longer side in device pixels. */
  size: number;
  run?: number;
  alt: string;
}

/** Tried again when the service is back, and a few times while it is busy. */
export function TaskThumbnail({ task, of, size, run = 0, alt }: TaskThumbnailProps) {
  const [tries, setTries] = useState(0);
  const [failed, setFailed] = useState(false);
  const [stays, setStays] = useState(false);
  useEffect(() => {
    const timer = setTimeout(() => setStays(true), STAYS_MS);
    return () => clearTimeout(timer);
  }, []);
  useEffect(() => {
    setTries(0);
    setFailed(false);
  }, [task, of, run, returns.value]);
  useEffect(() => {
    if (!failed || tries >= MOST_TRIES || !reachable.peek()) return;
    const timer = setTimeout(() => {
      setTries(tries + 1);
      setFailed(false);
    }, AGAIN_MS * (tries + 1));
    return () => clearTimeout(timer);
  }, [failed, tries]);
  if (failed) {
    return (
      <span class="thumbnail none" role={alt ? "img" : undefined} aria-label={alt ? `${alt}: no picture` : undefined}>
        <Icon name="image" size={28} />
      </span>
    );
  }
  if (!stays) return <span class="thumbnail" />;
  return <img key={tries} class="thumbnail" src={thumbnailUrl(task, of, size, run)} alt={alt} loading="lazy" decoding="async" onError={() => setFailed(true)} />;
}
