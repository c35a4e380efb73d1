import assert from "node:assert/strict";
import { test } from "node:test";

import { catalogueOf } from "../src/pipeline/catalogue";
import { copied } from "../src/pipeline/copy";
import { draftOf, NeedsService, numberWord, textOf, type Draft, type Step } from "../src/pipeline/draft";
import { added, changed, isDraft, moved, reconciled, without } from "../src/pipeline/edit";
import { placesOf } from "../src/pipeline/places";
import { placeOf, PLACES, scaleOf, valueAt } from "../src/pipeline/scale";
import { searched } from "../src/pipeline/search";
import { marksOf } from "../src/ui/marks";

const number = (more: object) => ({ type: "number", ...more });
const operation = (name: string, family: string, summary: string, properties: object, required: string[], positional: number, example: string) =>
  ({ name, family, summary, description: "", kind: "", tier: "", parameters: { properties, required }, positional, examples: [example] }) as never;

const CATALOGUE = catalogueOf(
  [
    operation("resize", "geometry", "Scale", { width: { type: "integer", minimum: 1, maximum: 65535, default: null }, height: { type: "integer", minimum: 1, maximum: 65535, default: null } }, [], 2, "resize:256,256"),
    operation("gaussian", "filters", "Blur", { sigma: number({ minimum: 0.1, maximum: 100 }) }, ["sigma"], 1, "gaussian:2"),
    operation("blurhash", "analysis", "A BlurHash as data", { x: { type: "integer", minimum: 1, maximum: 9, default: 4 } }, [], 1, "blurhash"),
    operation("faces", "detection", "Find faces", { mode: { enum: ["data", "draw", "crop"], default: "data", type: "string" } }, [], 1, "faces:draw"),
    operation("watermark", "composition", "Lay over", { image: { type: "string", format: "image" }, opacity: number({ minimum: 0, maximum: 1, default: 0.5 }) }, ["image"], 1, "watermark:logo.png"),
  ],
  [],
);
const read = (text: string): Draft => draftOf(text, CATALOGUE);
const names = (draft: Draft): string[] => draft.steps.map((step) => (step.off ? `(${step.name})` : step.name));
const first = (draft: Draft, at = 0): Step => {
  const step = draft.steps[at];
  assert.ok(step);
  return step;
};

test("numbers are written as Python writes them", () => {
  const found = [0, -0, 2, 0.1, 1.5, -2.25, 0.0001, 0.00001234, 1e-7, 123456.789, 0.000123].map(numberWord);
  assert.deepEqual(found, ["0", "0", "2", "0.1", "1.5", "-2.25", "0.0001", "1.234e-05", "1e-07", "123456.789", "0.000123"]);
});

test("presets need the service, unknown steps are told with their place", () => {
  assert.throws(() => read("preset:thumbnail"), NeedsService);
  assert.throws(() => read("gaussian:2/blubb"), (error: { position: number }) => error.position === 11);
});

test("a new step has the values of its example, but no file", () => {
  const { draft } = added(added(read(""), "gaussian", CATALOGUE).draft, "watermark", CATALOGUE);
  assert.equal(textOf(draft, CATALOGUE), "gaussian:2/watermark");
});

test("steps that are off are left out of the text, and stay when the text is changed", () => {
  let draft = read("resize:100/gaussian:2/faces");
  draft = changed(draft, first(draft, 1).id, (step) => ({ ...step, off: true }));
  assert.equal(textOf(draft, CATALOGUE), "resize:100/faces");
  const next = reconciled(draft, read("resize:200/blurhash/faces"));
  assert.deepEqual(names(next), ["resize", "(gaussian)", "blurhash", "faces"]);
  assert.equal(first(next).id, first(draft).id);
  assert.equal(first(next, 3).id, first(draft, 2).id);
  assert.deepEqual(names(reconciled(draft, read(""))), ["(gaussian)"]);
});

test("a step is moved to any place, and no further", () => {
  const draft = read("resize:100/gaussian:2/faces");
  assert.deepEqual(names(moved(draft, first(draft).id, 2)), ["gaussian", "faces", "resize"]);
  assert.deepEqual(names(moved(draft, first(draft, 2).id, 0)), ["faces", "resize", "gaussian"]);
  assert.equal(moved(draft, first(draft).id, -1), draft);
});

test("what a browser kept is looked at before it is used", () => {
  assert.ok(isDraft(read("resize:100/faces")));
  for (const wrong of [null, 3, {}, { frame: null, steps: [{}], metadata: null, format: null }, { frame: "1", steps: [], metadata: null, format: null }]) {
    assert.equal(isDraft(wrong), false);
  }
});

test("images that must be chosen are taken out", () => {
  assert.equal(textOf(without(read("watermark:second,0.2"), ["second"], CATALOGUE), CATALOGUE), "watermark:opacity=0.2");
});

test("search finds by what an operation does before it finds by parts of names", () => {
  const found = (query: string) => searched(CATALOGUE, query).flatMap((group) => group.types.map((type) => type.name));
  assert.deepEqual(found("blur"), ["gaussian", "blurhash"]);
  assert.deepEqual(found("geometry scale"), ["resize"]);
  assert.deepEqual(found("nothing like it"), []);
  assert.equal(searched(CATALOGUE, "").length, CATALOGUE.families.length);
});

test("sliders reach both ends and give back the values that they show", () => {
  const parameter = CATALOGUE.operations.get("gaussian")?.parameters[0];
  assert.ok(parameter);
  const scale = scaleOf(parameter, 2);
  assert.ok(scale);
  assert.equal(valueAt(0, scale), 0.1);
  assert.equal(valueAt(PLACES, scale), 100);
  assert.ok(Math.abs(valueAt(placeOf(2, scale), scale) - 2) < 0.2);
});

test("data lies on the picture that its step saw", () => {
  const places = (text: string) => Object.fromEntries(placesOf(read(text).steps, CATALOGUE));
  assert.equal(places("faces/resize:100")["faces"], "source");
  assert.equal(places("resize:100/faces")["faces"], "result");
  assert.equal(places("resize:100/faces/resize:50")["faces"], undefined);
});

test("boxes, points and polygons are found by their shape", () => {
  const marks = marksOf({
    faces: { count: 1, boxes: [[1, 2, 3, 4]] },
    features: { keypoints: [{ x: 5, y: 6, size: 7 }] },
    codes: { codes: [{ type: "qr", text: "hello", box: [0, 0, 9, 9], corners: [[0, 0], [9, 0], [9, 9], [0, 9]] }] },
    match: { homography: [[1, 0, 0], [0, 1, 0], [0, 0, 1]] },
  });
  assert.deepEqual(marks.map(({ step, kind, label }) => [step, kind, label]), [["faces", "box", "1"], ["features", "point", ""], ["codes", "polygon", "hello"]]);
});

test("what is copied names files that can be there", () => {
  const context = { origin: "https://images.example", tokens: true, nameOf: () => "my logo.png" };
  const text = "watermark:upload~3Aup_12ab,0.2";
  assert.equal(copied("cli", text, context), "pixelmill run 'watermark:my~20logo.png,0.2' photo.jpg -o results");
  assert.ok(copied("curl", text, context).includes("-T 'my logo.png' https://images.example/v1/uploads/my%20logo.png"));
  assert.ok(copied("curl", text, context).includes("pipeline=watermark:upload~3A${SECOND1},0.2"));
  assert.ok(copied("curl", text, context).includes("Bearer $TOKEN"));
  assert.ok(copied("python", text, context).includes('Pipeline.parse("watermark:my~20logo.png,0.2")'));
});
