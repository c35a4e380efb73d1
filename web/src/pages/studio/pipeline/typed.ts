// Fields that are written in.

import { useState } from "preact/hooks";

/** What is being typed stands as it is until the field is left: an emptied field isn't filled with the default at once. */
export function useTyped(shown: string): { value: string; type: (text: string) => void; leave: () => void } {
  const [typed, setTyped] = useState<string | null>(null);
  return { value: typed ?? shown, type: setTyped, leave: () => setTyped(null) };
}
