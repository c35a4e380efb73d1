// Icons drawn for these pages on a grid of 24: strokes only, in the color of the text.

const PATHS = {
  add: "M12 5v14M5 12h14",
  arrow: "M5 12h14M13 6l6 6-6 6",
  back: "M19 12H5M11 6l-6 6 6 6",
  bell: "M6 10a6 6 0 0 1 12 0v4l2 3H4l2-3zM10 20h4",
  bolt: "M13 3 5 14h6l-1 7 8-11h-6z",
  check: "M5 13l4 4L19 7",
  chevron: "M6 9l6 6 6-6",
  clock: "M12 7v5l3 2M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18z",
  close: "M6 6l12 12M18 6 6 18",
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
  dashboard: "M4 20V10M10 20V4M16 20v-7M21 20H3",
  down: "M12 4v12M6 11l6 6 6-6M4 21h16",
  folder: "M3 6h7l2 2h9v11H3z",
  grip: "M9 6h.01M15 6h.01M9 12h.01M15 12h.01M9 18h.01M15 18h.01",
  image: "M4 5h16v14H4zM4 16l5-5 4 4 3-3 4 4M15 9h.01",
  jobs: "M8 6h12M8 12h12M8 18h12M4 6h.01M4 12h.01M4 18h.01",
  minus: "M5 12h14",
  moon: "M20 14A8 8 0 0 1 10 4a8 8 0 1 0 10 10z",
  node: "M4 5h16v6H4zM4 13h16v6H4zM7 8h.01M7 16h.01",
  play: "M7 5l12 7-12 7z",
  redo: "M20 8h-9a6 6 0 0 0 0 12h3M20 8l-4-4M20 8l-4 4",
  retry: "M4 12a8 8 0 1 1 2.5 5.8M4 12V6M4 12h6",
  save: "M5 4h11l3 3v13H5zM8 4v5h7V4M8 20v-6h8v6",
  search: "M11 18a7 7 0 1 0 0-14 7 7 0 0 0 0 14zM16 16l5 5",
  sliders: "M4 7h10M18 7h2M4 17h2M10 17h10M14 4v6M6 14v6",
  stop: "M7 7h10v10H7z",
  studio: "M4 5h16v11H4zM9 20h6M12 16v4",
  sun: "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8zM12 3v2M12 19v2M3 12h2M19 12h2M5.6 5.6 7 7M17 17l1.4 1.4M5.6 18.4 7 17M17 7l1.4-1.4",
  system: "M4 5h16v11H4zM9 20h6",
  trash: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13M10 11v5M14 11v5",
  undo: "M4 8h9a6 6 0 0 1 0 12h-3M4 8l4-4M4 8l4 4",
  up: "M12 20V6M6 11l6-6 6 6",
  upload: "M12 16V4M6 10l6-6 6 6M4 20h16",
  user: "M12 12a4 4 0 1 0 0-8 4 4 0 0 0 0 8zM4 21c1-5 4-7 8-7s7 2 8 7",
  warning: "M12 4 2 20h20zM12 10v4M12 17h.01",
  zoom: "M11 18a7 7 0 1 0 0-14 7 7 0 0 0 0 14zM16 16l5 5M8 11h6M11 8v6",
} as const;

export type IconName = keyof typeof PATHS;

/** Decoration: what it stands for is said in words beside it, or in the label of its button. */
export function Icon({ name, size = 18 }: { name: IconName; size?: number }) {
  return (
    <svg class="icon" viewBox="0 0 24 24" width={size} height={size} aria-hidden="true" focusable="false">
      <path d={PATHS[name]} />
    </svg>
  );
}
