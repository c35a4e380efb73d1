// Answers whose shape the OpenAPI document doesn't tell in full.

export interface Session {
  owner: string | null;
  scopes: string[];
  admin: boolean;
  tokens_needed: boolean;
  expires: string | null;
  version: string;
  limits: { max_bytes: number; max_pixels: number; max_side: number; max_files: number };
}

export interface SavedPipeline {
  name: string;
  pipeline: string;
  changed: string;
}

export interface PipelineCheck {
  valid: boolean;
  text?: string;
  hash?: string;
  output?: { format: string | null };
  needs?: { what: string; command: string | null }[];
  error?: { type: string; title: string; detail: string };
  step?: number | null;
  position?: number | null;
}
