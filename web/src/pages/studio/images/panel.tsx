// The images that were brought: how far their uploads are, and a grid of them.

import { useEffect, useState } from "preact/hooks";

import { reachable } from "../../../net/http";
import { Button, Progress } from "../../../ui/basics";
import { Confirm } from "../../../ui/dialog";
import { bytes, count, plural } from "../../../ui/format";
import { Icon } from "../../../ui/icons";
import { PickGrid } from "../../../ui/pick-grid";
import { canRetry, retryFailed, startUploads } from "../uploads/queue";
import { ChooseButtons, walking } from "./bring";
import { PictureCell } from "./cell";
import { onRemoved, pictures, removePictures, selected, totals, type Picture } from "./model";
import { forgetThumbnails } from "./thumbs";

const ROW_PX = 142;
const CELL_PX = 116;
/** More than so many are not removed without a question. */
const ASK_FROM = 10;

// Uploads go on while another page is shown.
startUploads();
onRemoved.add((gone) => forgetThumbnails(gone.map((one) => one.file)));

const keyOf = (picture: Picture): number => picture.id;

export function ImagesPanel() {
  const all = pictures.value;
  const [asking, setAsking] = useState(false);
  const clear = () => {
    removePictures(pictures.peek());
    return Promise.resolve();
  };
  return (
    <section class="images" aria-labelledby="images-title">
      <header class="panel-head">
        <h2 id="images-title">
          Images {all.length > 0 && <span class="soft numbers">{count(all.length)}</span>}
        </h2>
        {all.length > 0 && (
          <div class="panel-tools">
            <ChooseButtons />
            <Button icon="trash" label="Remove all images" onClick={() => (all.length > ASK_FROM ? setAsking(true) : void clear())} />
          </div>
        )}
      </header>
      {all.length === 0 ? <DropZone /> : <UploadLine />}
      {all.length > 0 && <Grid all={all} />}
      {asking && (
        <Confirm
          title="Remove all images?"
          text={`${plural(all.length, "image")} will be taken off this page. Your own files and results of runs stay.`}
          yes="Remove all"
          work={clear}
          onClose={() => setAsking(false)}
        />
      )}
    </section>
  );
}

function DropZone() {
  return (
    <div class="drop-zone">
      <Icon name="image" size={38} />
      <p class="drop-title">Drop images or folders anywhere on this page</p>
      <p class="soft">or paste one. They are sent while you build the pipeline.</p>
      <div class="drop-buttons">
        <ChooseButtons main />
      </div>
    </div>
  );
}

function UploadLine() {
  const { waiting, sending, stored, failed, bytes: all, bytesStored } = totals.value;
  const open = waiting + sending;
  return (
    <div class="upload-line">
      {open > 0 && <Progress label="Uploads" value={stored} most={stored + open + failed} />}
      <p class="soft numbers">
        {walking.value && "Reading folders… "}
        {open > 0 ? (
          <>
            {reachable.value ? "Sending" : "Waiting for the service"}: {count(stored)} of {count(stored + open)} stored, {bytes(Math.max(0, all - bytesStored))} to go
          </>
        ) : (
          <>
            {plural(stored, "image")} stored, {bytes(bytesStored)}
          </>
        )}
      </p>
      {failed > 0 && (
        <p class="upload-failed">
          <Icon name="warning" size={16} />
          <span>{plural(failed, "image was", "images were")} not sent</span>
          {canRetry() && (
            <Button icon="retry" onClick={retryFailed}>
              Send again
            </Button>
          )}
        </p>
      )}
    </div>
  );
}

function Grid({ all }: { all: readonly Picture[] }) {
  const [active, setActive] = useState(0);
  const pick = (index: number) => {
    setActive(index);
    selected.value = pictures.peek()[index] ?? null;
  };
  useEffect(() => {
    if (active >= all.length) setActive(Math.max(0, all.length - 1));
  }, [all.length, active]);
  return (
    <div class="images-scroll">
      <PickGrid
        items={all}
        keyOf={keyOf}
        rowHeight={ROW_PX}
        cellWidth={CELL_PX}
        label="Images"
        active={Math.min(active, all.length - 1)}
        onActive={pick}
        onDelete={(picture) => removePictures([picture])}
        render={(picture, index, tabIndex) => <PictureCell picture={picture} tabIndex={tabIndex} onPick={() => pick(index)} />}
      />
    </div>
  );
}
