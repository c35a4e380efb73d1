// One image of the grid: its thumbnail, its name, and how it stands with it.

import { useEffect, useRef, useState } from "preact/hooks";

import { Badge } from "../../../ui/basics";
import { Icon } from "../../../ui/icons";
import { TASK_WORDS } from "../run/live";
import { sendAgain } from "../uploads/queue";
import { removePictures, selected, type Picture, type UploadState } from "./model";
import { thumbnail } from "./thumbs";

export function PictureCell({ picture, tabIndex, onPick }: { picture: Picture; tabIndex: 0 | -1; onPick: () => void }) {
  const upload = picture.upload.value;
  const task = picture.task.value;
  const short = picture.name.split("/").pop() ?? picture.name;
  return (
    <div class={`picture ${upload.state === "failed" ? "wrong" : ""}`}>
      <button type="button" class="pick" tabIndex={tabIndex} aria-pressed={selected.value === picture} aria-label={`${picture.name}, ${said(upload, task)}`} title={picture.name} onClick={onPick}>
        <Thumb file={picture.file} />
        <span class="picture-name">{short}</span>
      </button>
      {task !== null ? <Badge tone={task}>{TASK_WORDS[task]}</Badge> : <Way upload={upload} />}
      <button type="button" class="picture-remove" tabIndex={tabIndex} aria-label={`Remove ${picture.name}`} title="Remove" onClick={() => removePictures([picture])}>
        <Icon name="close" size={14} />
      </button>
      {upload.state === "failed" && (
        <div class="picture-wrong">
          <p title={upload.why}>{upload.why}</p>
          {upload.again && (
            <button type="button" class="button" aria-label={`Send ${picture.name} again`} onClick={() => sendAgain([picture])}>
              <Icon name="retry" size={14} /> Send again
            </button>
          )}
        </div>
      )}
    </div>
  );
}

/** How far it is on its way to the store. */
function Way({ upload }: { upload: UploadState }) {
  if (upload.state === "sending") return <span class="picture-bar" aria-hidden="true"><span style={{ width: `${Math.round(100 * upload.share)}%` }} /></span>;
  if (upload.state === "stored") return <span class="picture-mark stored" title="In the store" aria-hidden="true"><Icon name="check" size={12} /></span>;
  if (upload.state === "failed") return <span class="picture-mark failed" aria-hidden="true"><Icon name="warning" size={12} /></span>;
  return <span class="picture-mark" title="Waits to be sent" aria-hidden="true"><Icon name="clock" size={12} /></span>;
}

function said(upload: UploadState, task: string | null): string {
  if (task !== null) return TASK_WORDS[task] ?? task;
  if (upload.state === "failed") return `not sent: ${upload.why}`;
  return { waiting: "waits to be sent", sending: "is being sent", stored: "in the store" }[upload.state];
}

export function Thumb({ file }: { file: File }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const [shown, setShown] = useState<"waiting" | "drawn" | "none">("waiting");
  useEffect(() => {
    const stop = new AbortController();
    void thumbnail(file, stop.signal).then((bitmap) => {
      const target = canvas.current;
      if (stop.signal.aborted || !target) return;
      if (bitmap === null) return setShown("none");
      target.width = bitmap.width;
      target.height = bitmap.height;
      target.getContext("2d")?.drawImage(bitmap, 0, 0);
      setShown("drawn");
    });
    return () => stop.abort();
  }, [file]);
  return (
    <span class={`thumb ${shown}`} aria-hidden="true">
      <canvas ref={canvas} hidden={shown === "none"} />
      {shown === "none" && <Icon name="image" size={30} />}
    </span>
  );
}
