// The pipeline as something to run elsewhere: command line, curl, Python. What is copied runs as it is beside a
// `photo.jpg` (and the second images, by their names).

import { encode } from "./text";

export interface CopyContext {
  /** Address of this service, such as https://images.example. */
  origin: string;
  tokens: boolean;
  /** Name of the file behind `upload:ID`, as far as it is known. */
  nameOf: (reference: string) => string | undefined;
}

export type Language = "text" | "cli" | "curl" | "python";
export const LANGUAGES: readonly { name: Language; title: string }[] = [
  { name: "text", title: "Text" },
  { name: "cli", title: "Command line" },
  { name: "curl", title: "curl" },
  { name: "python", title: "Python" },
];

const UPLOADED = /upload~3A(up_[0-9A-Za-z]+)/g;

export function copied(language: Language, text: string, context: CopyContext): string {
  if (language === "text") return text;
  if (language === "cli") return `pixelmill run ${quoted(local(text, context))} photo.jpg -o results`;
  return language === "curl" ? curl(text, context) : python(local(text, context));
}

/** Command line and library read second images from files. */
function local(text: string, { nameOf }: CopyContext): string {
  return text.replace(UPLOADED, (_, id: string) => encode(nameOf(`upload:${id}`) ?? "second.png"));
}

/** For a POSIX shell. */
function quoted(text: string): string {
  return text !== "" && /^[A-Za-z0-9_.,:/=@%+-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}

/** Second images are uploaded anew: an upload lasts for a day only. */
function curl(text: string, { origin, tokens, nameOf }: CopyContext): string {
  const token = tokens ? ' -H "Authorization: Bearer $TOKEN"' : "";
  const variables = new Map<string, string>();
  const lines: string[] = [];
  for (const [, id = ""] of text.matchAll(UPLOADED)) {
    if (variables.has(id)) continue;
    const variable = `SECOND${variables.size + 1}`;
    const name = nameOf(`upload:${id}`) ?? "second.png";
    variables.set(id, variable);
    lines.push(`${variable}=$(curl -fsS${token} -T ${quoted(name)} ${quoted(`${origin}/v1/uploads/${encodeURIComponent(name)}`)} | grep -o 'up_[0-9A-Za-z]*' | head -n 1)`);
  }
  const pipeline = text.replace(UPLOADED, (_, id: string) => `upload~3A\${${variables.get(id) ?? ""}}`);
  lines.push(`curl -fsS -OJ${token} --data-binary @photo.jpg "${origin}/v1/process?name=result&pipeline=${pipeline}"`);
  return lines.join("\n");
}

function python(text: string): string {
  return [
    "from pathlib import Path",
    "",
    "from pixelmill import Pipeline",
    "",
    `outcome = Pipeline.parse(${JSON.stringify(text)}).run("photo.jpg")`,
    "if outcome.bytes is not None:",
    '    Path(f"result.{outcome.format}").write_bytes(outcome.bytes)',
    "print(dict(outcome.data))",
  ].join("\n");
}
