// The Studio: images on the left, preview and results in the middle, the pipeline on the right; tabs where it is narrow.

import { computed, effect, signal } from "@preact/signals";
import { useEffect } from "preact/hooks";

import { Tabs, type Tab } from "../../ui/tabs";
import { DropAnywhere } from "./images/bring";
import { pictures, selected } from "./images/model";
import { ImagesPanel } from "./images/panel";
import { PipelinePanel } from "./pipeline/panel";
import { PreviewPanel } from "./preview/panel";
import { ResultsPanel } from "./results/panel";
import { RunBar } from "./run/bar";
import { findAgain, live, runsBegun } from "./run/run";
import { count } from "../../ui/format";

type View = "images" | "pipeline" | "preview" | "results";

/** The same width as in studio.css. */
const wide = matchMedia("(min-width: 1000px)");
const isWide = signal(wide.matches);
wide.addEventListener("change", () => (isWide.value = wide.matches));

const view = signal<View>("images");
const middle = signal<"preview" | "results">("preview");
const preview = computed(() => (selected.value ? { name: selected.value.name, file: selected.value.file } : null));

findAgain();
if (live.peek()) middle.value = "results";
// A run that begins is what the person wants to see now.
effect(() => {
  if (runsBegun.value === 0) return;
  middle.value = "results";
  view.value = "results";
});

function choose(next: View): void {
  view.value = next;
  if (next === "preview" || next === "results") middle.value = next;
}

export default function Studio() {
  const rows = live.value?.rows.value.length ?? 0;
  const results: Tab<View> = { name: "results", title: <>Results {rows > 0 && <span class="numbers">{count(rows)}</span>}</>, icon: "check" };
  const previewTab: Tab<View> = { name: "preview", title: "Preview", icon: "image" };
  const images: Tab<View> = { name: "images", title: <>Images {pictures.value.length > 0 && <span class="numbers">{count(pictures.value.length)}</span>}</> };
  const shown: View = isWide.value ? middle.value : view.value;
  useEffect(() => findAgain(), []);
  const panel = (name: View, always: boolean) => ({
    id: `panel-${name}`,
    class: `studio-panel ${name}-panel`,
    hidden: !always && shown !== name,
    // Where panels stand beside each other they are no tabs.
    ...(always ? {} : { role: "tabpanel" as const, "aria-labelledby": `tab-${name}` }),
  });
  return (
    <main id="content" class="page studio" tabIndex={-1}>
      <h1 class="offscreen">Studio</h1>
      <RunBar />
      {!isWide.value && <Tabs label="Parts of the Studio" tabs={[images, { name: "pipeline", title: "Pipeline" }, { name: "preview", title: "Preview" }, { name: "results", title: results.title }]} chosen={view.value} choose={choose} />}
      <div class="studio-columns">
        <div {...panel("images", isWide.value)}>
          <ImagesPanel />
        </div>
        <div class="studio-middle">
          {isWide.value && <Tabs label="Preview and results" tabs={[previewTab, results]} chosen={middle.value} choose={choose} />}
          <div {...panel("preview", false)}>
            <PreviewPanel image={preview} />
          </div>
          <div {...panel("results", false)}>
            <ResultsPanel />
          </div>
        </div>
        <div {...panel("pipeline", isWide.value)}>
          <PipelinePanel />
        </div>
      </div>
      <DropAnywhere />
    </main>
  );
}
