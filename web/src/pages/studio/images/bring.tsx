// The ways in which images come: dropped anywhere on the page, chosen, pasted.

import { signal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";

import { notify } from "../../../state/notices";
import { Button } from "../../../ui/basics";
import { plural } from "../../../ui/format";
import { Icon } from "../../../ui/icons";
import { fromInput, fromPaste, readEntries, takeDrop, type Found } from "./intake";
import { addPictures } from "./model";

/** A folder is being walked. */
export const walking = signal(false);

function take(found: Found, told: { already: number; others: number; unread: string[]; beyond: number }): void {
  const { already, beyond } = addPictures(found.brought);
  told.already += already;
  told.beyond += beyond;
  told.others += found.others;
  told.unread.push(...found.unread);
}

const nothing = () => ({ already: 0, others: 0, unread: [] as string[], beyond: 0 });

function tell({ already, others, unread, beyond }: ReturnType<typeof nothing>): void {
  const parts = [
    already > 0 ? `${plural(already, "image was", "images were")} here already.` : "",
    others > 0 ? `${plural(others, "file that is no image was", "files that are no images were")} left out.` : "",
    beyond > 0 ? `${plural(beyond, "image is", "images are")} more than one visit holds; run these first.` : "",
  ].filter(Boolean);
  if (parts.length > 0) notify("info", parts.join(" "));
  if (unread.length > 0) notify("bad", `The browser could not read ${unread.slice(0, 3).join(", ")}${unread.length > 3 ? ` and ${unread.length - 3} more` : ""}.`);
}

function bring(found: Found): void {
  const told = nothing();
  take(found, told);
  tell(told);
}

async function drop(data: DataTransfer): Promise<void> {
  const { entries, files } = takeDrop(data);
  if (files.length > 0) bring({ brought: files.map((file) => ({ name: file.name, file })), others: 0, unread: [] });
  if (entries.length === 0) return;
  const told = nothing();
  walking.value = true;
  try {
    await readEntries(entries, (found) => take(found, told));
  } finally {
    walking.value = false;
  }
  tell(told);
}

const over = signal(false);
const hasFiles = (event: DragEvent): boolean => event.dataTransfer?.types.includes("Files") === true;

/** Listens on the whole page; shows where to drop as long as files are over it. */
export function DropAnywhere() {
  useEffect(() => {
    const stop = new AbortController();
    const on = { signal: stop.signal };
    let depth = 0;
    document.addEventListener("dragenter", (event) => {
      if (!hasFiles(event)) return;
      depth += 1;
      over.value = true;
    }, on);
    document.addEventListener("dragleave", (event) => {
      if (!hasFiles(event)) return;
      depth = Math.max(0, depth - 1);
      over.value = depth > 0;
    }, on);
    document.addEventListener("dragover", (event) => {
      if (!hasFiles(event) || !event.dataTransfer) return;
      event.preventDefault();
      event.dataTransfer.dropEffect = "copy";
    }, on);
    document.addEventListener("drop", (event) => {
      depth = 0;
      over.value = false;
      if (!event.dataTransfer || !hasFiles(event) || event.defaultPrevented) return;
      event.preventDefault();
      void drop(event.dataTransfer);
    }, on);
    document.addEventListener("paste", (event) => {
      if (!event.clipboardData || event.clipboardData.files.length === 0) return;
      event.preventDefault();
      bring(fromPaste(event.clipboardData));
    }, on);
    return () => stop.abort();
  }, []);
  return over.value ? (
    <div class="drop-here" aria-hidden="true">
      <p>
        <Icon name="upload" size={32} /> Drop images or folders
      </p>
    </div>
  ) : null;
}

const ACCEPTED = "image/*,.heic,.heif,.avif,.jxl,.tif,.tiff,.bmp,.dng,.jp2,.ppm,.pgm,.pbm,.pnm,.exr,.hdr";

/** Two buttons and the browser's own inputs behind them. */
export function ChooseButtons({ main = false }: { main?: boolean }) {
  const files = useRef<HTMLInputElement>(null);
  const folder = useRef<HTMLInputElement>(null);
  const chosen = (event: Event) => {
    const input = event.currentTarget as HTMLInputElement;
    bring(fromInput([...(input.files ?? [])]));
    input.value = "";
  };
  return (
    <>
      <input ref={files} type="file" multiple hidden accept={ACCEPTED} data-chooses="files" onChange={chosen} />
      <input
        ref={(element) => {
          folder.current = element;
          element?.setAttribute("webkitdirectory", "");
        }}
        type="file"
        multiple
        hidden
        data-chooses="folder"
        onChange={chosen}
      />
      <Button kind={main ? "main" : "plain"} icon="add" onClick={() => files.current?.click()}>
        {main ? "Choose images" : "Add"}
      </Button>
      <Button icon="folder" {...(main ? {} : { label: "Add a folder" })} onClick={() => folder.current?.click()}>
        {main ? "Choose a folder" : null}
      </Button>
    </>
  );
}
