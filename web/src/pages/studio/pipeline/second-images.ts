// Second images (of watermarks, of matches): uploaded as any other file, and named by `upload:ID` in the pipeline.

import * as api from "../../../net/api";
import { stored } from "../../../state/storage";

/** Names of what was uploaded, by reference: the newest first. */
const MOST = 30;
const names = stored<readonly { reference: string; name: string; expires: string }[]>("second-images", []);

export const nameOf = (reference: string): string | undefined => names.value.find((one) => one.reference === reference)?.name;

/** Earlier ones that still lie at the service. */
export const recent = (): readonly { reference: string; name: string }[] => names.value.filter((one) => Date.parse(one.expires) > Date.now()).slice(0, 8);

/** The reference of the file, once the service has it. */
export async function uploadSecond(file: File, onProgress: (part: number) => void): Promise<string> {
  const upload = await api.upload(file.name, file, { onProgress: (sent, total) => onProgress(total > 0 ? sent / total : 0) });
  const reference = `upload:${upload.id}`;
  names.value = [{ reference, name: file.name, expires: upload.expires }, ...names.peek().filter((one) => one.reference !== reference)].slice(0, MOST);
  return reference;
}
