// The service's routes as functions. Types come from its OpenAPI document.

import type { components } from "../../generated/api";
import { address, ask, askJson, send, type Query, type UploadWanted } from "./http";

type Schemas = components["schemas"];
export type Job = Schemas["JobBody"];
export type JobList = Schemas["JobList"];
export type Task = Schemas["TaskBody"];
export type TaskDetail = Schemas["TaskDetailBody"];
export type TaskList = Schemas["TaskList"];
export type Outcome = Schemas["OutcomeBody"];
export type Operation = Schemas["OperationBody"];
export type Format = Schemas["FormatBody"];
export type Preset = Schemas["PresetBody"];
export type Upload = Schemas["UploadBody"];
export type Node = Schemas["NodeList"]["items"][number];
export type History = Schemas["HistoryBody"];
export type Session = Schemas["SessionBody"];
export type SavedPipeline = Schemas["SavedPipelineBody"];
export type PipelineCheck = Schemas["CheckedBody"];
export type JobState = Job["state"];
export type TaskState = Task["state"];

const part = encodeURIComponent;

// -- who asks ---------------------------------------------------------------------------------------------------------

export const session = () => askJson<Session>("GET", "/v1/session");
export const signIn = (token: string) =>
  askJson<Session>("POST", "/v1/session", { headers: { Authorization: `Bearer ${token}` } });
export const signOut = () => ask("DELETE", "/v1/session");

// -- what is here -----------------------------------------------------------------------------------------------------

export const operations = () => askJson<Schemas["OperationList"]>("GET", "/v1/operations");
export const formats = () => askJson<Schemas["FormatList"]>("GET", "/v1/formats");
export const presets = () => askJson<Schemas["PresetList"]>("GET", "/v1/presets");

// -- pipelines --------------------------------------------------------------------------------------------------------

export const checkPipeline = (pipeline: string, signal?: AbortSignal) =>
  askJson<PipelineCheck>("POST", "/v1/pipelines/check", { json: { pipeline }, ...(signal ? { signal } : {}) });
export const savedPipelines = () => askJson<Schemas["SavedPipelineList"]>("GET", "/v1/pipelines");
export const savePipeline = (name: string, pipeline: string) =>
  askJson<SavedPipeline>("PUT", `/v1/pipelines/${part(name)}`, { json: { pipeline } });
export const deletePipeline = (name: string) => ask("DELETE", `/v1/pipelines/${part(name)}`);

/** What one image becomes: the answer has the image, or JSON where there is none. */
export const process = (image: Blob, pipeline: string, signal?: AbortSignal) =>
  ask("POST", "/v1/process", { query: { pipeline }, body: image, ...(signal ? { signal } : {}) });
/** The same with its data as JSON, without the image. */
export const processData = (image: Blob, pipeline: string, signal?: AbortSignal) =>
  askJson<Outcome>("POST", "/v1/process", { query: { pipeline, data: 1 }, body: image, ...(signal ? { signal } : {}) });

// -- jobs -------------------------------------------------------------------------------------------------------------

export const upload = (name: string, file: Blob, wanted: UploadWanted) =>
  send<Upload>(`/v1/uploads/${part(name)}`, file, wanted);

export interface NewJob {
  pipeline: string;
  uploads: string[];
  name?: string;
  priority?: "interactive" | "normal" | "batch";
  sealed?: boolean;
}

/** Submit; `key` makes a repeated request give the same job. */
export const submitJob = (job: NewJob, key: string) =>
  askJson<Job>("POST", "/v1/jobs", { json: job, headers: { "Idempotency-Key": key } });
/** Add a page to a job that isn't sealed; `seal` with the last one. */
export const addTasks = (job: string, uploads: string[], seal: boolean) => askJson<Job>("POST", `/v1/jobs/${part(job)}/tasks`, { json: { uploads, seal } });
export const sealJob = (job: string) => askJson<Job>("POST", `/v1/jobs/${part(job)}/seal`);

export const jobs = (query: Query, signal?: AbortSignal) =>
  askJson<JobList>("GET", "/v1/jobs", { query, ...(signal ? { signal } : {}) });
export const job = (id: string) => askJson<Job>("GET", `/v1/jobs/${part(id)}`);
export const tasks = (id: string, query: Query, signal?: AbortSignal) =>
  askJson<TaskList>("GET", `/v1/jobs/${part(id)}/tasks`, { query, ...(signal ? { signal } : {}) });
/** Tasks of all jobs by what was found in them. */
export const findTasks = (query: Query, signal?: AbortSignal) =>
  askJson<Schemas["FoundTasks"]>("GET", "/v1/tasks", { query, ...(signal ? { signal } : {}) });
export const task = (id: string) => askJson<TaskDetail>("GET", `/v1/tasks/${part(id)}`);
export const cancelJob = (id: string) => askJson<Job>("POST", `/v1/jobs/${part(id)}/cancel`);
export const retryJob = (id: string) => askJson<Job>("POST", `/v1/jobs/${part(id)}/retry`);
export const deleteJob = (id: string) => ask("DELETE", `/v1/jobs/${part(id)}`);

export const archiveUrl = (id: string) => `/v1/jobs/${part(id)}/archive`;
export const resultUrl = (task: string) => `/v1/tasks/${part(task)}/result`;
export const inputUrl = (task: string) => `/v1/tasks/${part(task)}/input`;
export const thumbnailUrl = (task: string, of: "result" | "input", size: number, run = 0) =>
  address(`/v1/tasks/${part(task)}/thumbnail`, { of, size, run: run || undefined });

// -- the fleet --------------------------------------------------------------------------------------------------------

export const nodes = () => askJson<Schemas["NodeList"]>("GET", "/v1/nodes");
export const history = (range: "hour" | "day") => askJson<History>("GET", "/v1/metrics/history", { query: { range } });
