// Bundles the pages into src/pixelmill/api/static: hashed scripts and styles, each also compressed, one HTML document a
// page, and the licences of what was bundled. The same sources give the same bytes.
//
//     node build.mjs [FOLDER]

import { readFile, writeFile, mkdir, rm, readdir } from "node:fs/promises";
import { dirname, join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";

import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const out = resolve(process.argv[2] ?? join(here, "../src/pixelmill/api/static"));
const PAGES = {
  studio: { title: "Studio", chunk: "src/pages/studio/index.tsx" },
  jobs: { title: "Jobs", chunk: "src/pages/jobs/index.tsx" },
  dashboard: { title: "Dashboard", chunk: "src/pages/dashboard/index.tsx" },
};

await rm(out, { recursive: true, force: true });
await mkdir(join(out, "assets"), { recursive: true });
const { metafile } = await build({
  absWorkingDir: here,
  entryPoints: {
    main: "src/main.tsx",
    theme: "src/theme-first.ts",
    // The stream's worker is named in the code, so its name has no hash; it is never cached for long.
    "stream-worker": "src/net/worker.ts",
    styles: "styles/main.css",
  },
  outdir: join(out, "assets"),
  bundle: true,
  splitting: true,
  format: "esm",
  minify: true,
  target: ["es2022", "chrome111", "firefox115", "safari16.4"],
  jsx: "automatic",
  jsxImportSource: "preact",
  entryNames: "[name]-[hash]",
  chunkNames: "[name]-[hash]",
  assetNames: "[name]-[hash]",
  loader: { ".svg": "file" },
  legalComments: "none",
  metafile: true,
  define: { "process.env.NODE_ENV": '"production"' },
  logLevel: "warning",
});

const outputs = Object.entries(metafile.outputs).map(([path, info]) => ({ name: relative(out, resolve(here, path)), ...info }));
const entry = (source) => outputs.find((output) => output.entryPoint === source);
const url = (output) => `/${output.name}`;

/** What a page's script imports statically, itself first: fetched at once in place of one after the other. */
function statics(output, seen = new Set()) {
  if (output === undefined || seen.has(output)) return seen;
  seen.add(output);
  for (const { path, kind } of output.imports) {
    if (kind === "import-statement") statics(outputs.find((other) => resolve(here, path) === join(out, other.name)), seen);
  }
  return seen;
}

const template = await readFile(join(here, "src/page.html"), "utf8");
const main = entry("src/main.tsx");
for (const [name, { title, chunk }] of Object.entries(PAGES)) {
  const scripts = statics(entry(chunk), statics(main));
  scripts.delete(main);
  const filled = template
    .replaceAll("{{title}}", title)
    .replaceAll("{{page}}", name)
    .replaceAll("{{theme}}", url(entry("src/theme-first.ts")))
    .replaceAll("{{styles}}", url(entry("styles/main.css")))
    .replaceAll("{{main}}", url(main))
    .replaceAll("{{worker}}", url(entry("src/net/worker.ts")))
    .replaceAll("{{preload}}", [...scripts].map((output) => `<link rel="modulepreload" href="${url(output)}">`).join("\n"));
  await writeFile(join(out, `${name}.html`), filled);
}
await writeFile(join(out, "icon.svg"), await readFile(join(here, "src/icon.svg")));
await writeFile(join(out, "LICENCES.txt"), await licences(Object.keys(metafile.inputs)));

let total = 0;
for (const file of await readdir(join(out, "assets"))) {
  const path = join(out, "assets", file);
  const bytes = await readFile(path);
  const small = brotliCompressSync(bytes, { params: { [constants.BROTLI_PARAM_QUALITY]: 11 } });
  await writeFile(`${path}.br`, small);
  await writeFile(`${path}.gz`, gzipSync(bytes, { level: 9 }));
  total += small.length;
  console.log(`${file.padEnd(36)} ${String(bytes.length).padStart(8)} ${String(small.length).padStart(7)} br`);
}
console.log(`${"together".padEnd(36)} ${"".padStart(8)} ${String(total).padStart(7)} br`);

/** The licence texts of every package that lies in the bundle. */
async function licences(inputs) {
  const packages = new Set(inputs.map((path) => /node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(path)?.[1]).filter(Boolean));
  const parts = [];
  for (const name of [...packages].sort()) {
    const folder = join(here, "node_modules", name);
    const { version, license } = JSON.parse(await readFile(join(folder, "package.json"), "utf8"));
    const file = (await readdir(folder)).find((entry) => /^licen[cs]e/i.test(entry));
    if (file === undefined) throw new Error(`${name} ${version} (${license}) comes without its licence's text.`);
    parts.push(`${name} ${version} (${license})\n\n${(await readFile(join(folder, file), "utf8")).trim()}\n`);
  }
  return parts.join(`\n${"-".repeat(79)}\n\n`);
}
