// Files out of what a person dropped, chose or pasted. Folders are walked; relative paths are kept as names.

import type { Brought } from "./model";

export interface Found {
  brought: Brought[];
  /** Files within folders that are no images by their type or name. */
  others: number;
  /** Folders and files that couldn't be read. */
  unread: string[];
}

/** How deep and how far a folder is walked: links may lead in circles. */
const DEEPEST = 40;
const MOST_FILES = 500_000;
const TOGETHER = 500;

/** What a drop has must be taken before the event ends: afterwards the browser has forgotten it. */
export function takeDrop(data: DataTransfer): { entries: FileSystemEntry[]; files: File[] } {
  const entries: FileSystemEntry[] = [];
  const files: File[] = [];
  for (const item of [...data.items]) {
    if (item.kind !== "file") continue;
    const entry = item.webkitGetAsEntry?.() ?? null;
    if (entry?.isDirectory) entries.push(entry);
    else {
      const file = item.getAsFile();
      if (file) files.push(file);
    }
  }
  return { entries, files };
}

/** Calls `take` with what was found so far, again and again: the first images are there before the last is found. */
export async function readEntries(entries: readonly FileSystemEntry[], take: (found: Found) => void): Promise<void> {
  let found: Found = { brought: [], others: 0, unread: [] };
  let seen = 0;
  const flush = () => {
    take(found);
    found = { brought: [], others: 0, unread: [] };
  };
  const walk = async (entry: FileSystemEntry, depth: number): Promise<void> => {
    if (seen >= MOST_FILES) return;
    const path = entry.fullPath.replace(/^\//, "");
    try {
      if (entry.isDirectory) {
        if (depth < DEEPEST) for await (const child of children(entry as FileSystemDirectoryEntry)) await walk(child, depth + 1);
        return;
      }
      seen += 1;
      const file = await new Promise<File>((resolve, reject) => (entry as FileSystemFileEntry).file(resolve, reject));
      if (isImage(file)) found.brought.push({ name: path, file });
      else found.others += 1;
    } catch {
      found.unread.push(path);
    }
    if (found.brought.length >= TOGETHER) flush();
  };
  for (const entry of entries) await walk(entry, 0);
  flush();
}

/** A folder lists at most a hundred at a time, and says with an empty list that there are no more. */
async function* children(folder: FileSystemDirectoryEntry): AsyncGenerator<FileSystemEntry> {
  const reader = folder.createReader();
  for (;;) {
    const some = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject));
    if (some.length === 0) return;
    yield* some;
  }
}

/** Of `<input type=file>`; with `webkitdirectory` the files know their path. */
export function fromInput(files: readonly File[]): Found {
  const found: Found = { brought: [], others: 0, unread: [] };
  for (const file of files) {
    const path = file.webkitRelativePath;
    if (path && !isImage(file)) found.others += 1;
    else found.brought.push({ name: path || file.name, file });
  }
  return found;
}

let pasted = 0;

/** Of the clipboard, where every image is called "image.png". */
export function fromPaste(data: DataTransfer): Found {
  const files = [...data.files].filter(isImage);
  const brought = files.map((file) => {
    const extension = /\.[a-z0-9]+$/i.exec(file.name)?.[0] ?? ".png";
    return { name: /^image\.\w+$/i.test(file.name) ? `pasted-${++pasted}${extension}` : file.name, file };
  });
  return { brought, others: 0, unread: [] };
}

const NO_IMAGES = /\.(txt|md|html?|css|jsx?|tsx?|json|xml|ya?ml|toml|csv|tsv|pdf|docx?|xlsx?|pptx?|zip|gz|tar|7z|rar|mp[34]|mov|avi|mkv|wav|ini|db|py|sh|exe|dll|so|xmp|aae|lnk)$/i;

/** Within a folder: what the browser calls an image, or doesn't know; the service looks at the bytes. */
function isImage(file: File): boolean {
  if (file.name.startsWith(".") || NO_IMAGES.test(file.name)) return false;
  return file.type === "" || file.type.startsWith("image/");
}
