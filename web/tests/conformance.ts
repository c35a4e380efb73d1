// Reads and writes pipelines as the pages do, for tests/pages/test_text_conformance.py:
//     node conformance.mjs FILE
// FILE has `{"operations", "formats", "texts"}`; printed is, for each text, what it becomes, or the error.

import { readFileSync } from "node:fs";

import { catalogueOf } from "../src/pipeline/catalogue";
import { draftOf, textOf } from "../src/pipeline/draft";
import { readText, writeText } from "../src/pipeline/text";

const { operations, formats, texts } = JSON.parse(readFileSync(process.argv[2] ?? "", "utf8"));
const catalogue = catalogueOf(operations, formats);

const results = (texts as string[]).map((text) => {
  try {
    return { grammar: writeText(readText(text)), meaning: textOf(draftOf(text, catalogue), catalogue) };
  } catch (error) {
    return { error: String(error), position: (error as { position?: number }).position ?? null };
  }
});
process.stdout.write(JSON.stringify(results));
