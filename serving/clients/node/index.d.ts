/** Client of ml-inference. Every call rejects with `InferenceError` when it has no answer. */

/** Texts, one or many, or ids of the model's own tokens in the place of each text. */
export type Inputs = string | Iterable<string> | Iterable<readonly number[]>;
/** An API key or JWT, or a function that gives one: asked before each attempt, so a token may be renewed. */
export type Credentials = string | (() => string | Promise<string>);
export type OffsetUnit = 'codepoint' | 'byte' | 'utf16';
export type Truncation = 'stride' | 'error' | 'end' | 'start';

/** How often and how soon calls are sent again. */
export interface RetryPolicy {
  /** Of one call, the first included (4). */
  attempts?: number;
  /** Waits are drawn up to this many milliseconds (100), doubled with each attempt, and never shorter than
   * the server's `Retry-After`. */
  backoffMs?: number;
  /** Longest of these, in milliseconds (5000). */
  backoffMaxMs?: number;
  /** Retries of the whole client that can follow each other at once (20). */
  budget?: number;
  /** How much of a retry each answer earns back (0.1). */
  budgetRatio?: number;
}

export interface ClientOptions {
  /** Milliseconds a call may take, all attempts included (30000). */
  timeoutMs?: number;
  retries?: RetryPolicy;
  /** Whether calls carry an idempotency key, so that what is sent twice is charged once (true). */
  idempotent?: boolean;
  /** Sent with every call, such as a correlation id. */
  headers?: Record<string, string>;
  fetch?: typeof globalThis.fetch;
  /** Gives numbers from 0 to 1, for the waits. */
  chance?: () => number;
}

export interface ReadOptions {
  /** Milliseconds for the whole call, all attempts included. */
  timeoutMs?: number;
  /** What the server's logs call it: letters, digits and `-_.:`, at most 128. */
  requestId?: string;
  /** Cancels the call (`cancelled`). */
  signal?: AbortSignal;
}

export interface CallOptions extends ReadOptions {
  /** The task's default without it. */
  model?: string;
  /** 1 to 255 visible characters; made by the client without it. */
  idempotencyKey?: string;
  priority?: 'critical' | 'high' | 'normal' | 'low';
  /** `partial`: a bad input has an `error` in place of its result. */
  on_error?: 'fail' | 'partial';
}

export interface TextOptions extends CallOptions {
  truncation?: Truncation;
}
export interface ClassifyOptions extends TextOptions {
  top_k?: number;
  labels?: string[];
  multi_label?: boolean;
}
export interface EntitiesOptions extends TextOptions {
  aggregation?: 'none' | 'simple' | 'first' | 'average' | 'max';
  /** Of `start` and `end`; `utf16` are those of JavaScript's strings. */
  offset_unit?: OffsetUnit;
}
export interface SummarizeOptions extends CallOptions {
  max_sentences?: number;
  max_tokens?: number;
  method?: 'auto' | 'extractive' | 'abstractive';
  offset_unit?: OffsetUnit;
}
export interface EmbeddingsOptions extends TextOptions {
  dimensions?: number;
  normalize?: boolean;
  normalize_text?: boolean;
  prompt_name?: string;
  encoding_format?: 'float' | 'base64' | 'int8' | 'uint8' | 'binary' | 'ubinary';
}
export interface RerankOptions extends TextOptions {
  raw_scores?: boolean;
}
export interface TokenizeOptions extends CallOptions {
  add_special_tokens?: boolean;
  offset_unit?: OffsetUnit;
}
export interface DetokenizeOptions extends CallOptions {
  skip_special_tokens?: boolean;
}

/** What all results have. `tokens`: of the input, special ones included; `windows`: pieces the model read. */
export interface Report {
  tokens: number;
  windows: number;
  truncated: boolean;
  unknown_tokens: number;
  nothing_recognized: boolean;
}
/** Scores from 0 to 1, best first. */
export interface Classification extends Report {
  labels: { label: string; score: number }[];
}
export interface Sentiment extends Report {
  label: string;
  score: number;
  scores: Record<string, number>;
}
export interface Entity {
  text: string;
  label: string;
  start: number;
  end: number;
  score: number;
}
export interface Entities extends Report {
  entities: Entity[];
}
export interface Summary extends Report {
  summary: string;
  method: string;
  sentences: { text: string; start: number; end: number }[];
}
/** Numbers, or base64 where `encoding_format` asks for it. */
export interface Embedding extends Report {
  embedding: number[] | string;
}
/** Rerank: the higher, the better. Similarity: cosine, from -1 to 1. */
export interface Score extends Report {
  score: number;
}
export interface Token {
  id: number;
  text: string;
  special: boolean;
  start: number | null;
  end: number | null;
}
export interface Tokenization extends Report {
  tokenization: Token[];
}
export interface Detokenization extends Report {
  text: string;
}
export interface InputFault {
  error: { code: string; message: string; docs_url: string };
}

/** `results`: one for each input, in order. `replayed`: given before under the same key, at no charge. */
export interface Answer<R> {
  model: string;
  version: string;
  results: R[];
  usage: { inputs: number; tokens: number };
  requestId: string;
  replayed: boolean;
}
/** With `on_error: 'partial'` faults stand in the place of results. */
export type AnswerFor<R, O> = Answer<O extends { on_error: 'partial' } ? R | InputFault : R>;

export interface Model {
  name: string;
  version: string;
  task: string;
  labels: string[];
  limits: { tokens_max: number; window_overlap: number; document_tokens_max: number; inputs_max: number };
  /** Decimal, in dollars. */
  price_per_1000_requests_usd: string;
  p99_target_ms: number;
  status: string;
  reason?: string;
  verification: string;
}
/** `cost_micro_usd`: whole micro-dollars, for owners alone. `device_ms`: milliseconds of the device. */
export interface UsageNumbers {
  inputs: number;
  tokens: number;
  completed: number;
  cached: number;
  refused: number;
  failed: number;
  cancelled: number;
  device_ms: number;
  cost_micro_usd?: number;
}
export interface UsageRow extends UsageNumbers {
  tenant?: string;
  day?: string;
  hour?: string;
  model?: string;
}
export interface UsageReport {
  tenant?: string;
  from: string;
  to: string;
  rows: UsageRow[];
  total: UsageNumbers;
}
/** `by`: some of `tenant`, `day`, `hour`, `model`, with commas. `from`, `to`: days, YYYY-MM-DD, inclusive. */
export interface UsageQuery extends ReadOptions {
  by?: string;
  from?: string;
  to?: string;
}

/**
 * A call without an answer. `code`: a row of docs/errors.md, `http_<status>` where something before the
 * server answered, or the client's own: `connection_failed`, `deadline_exceeded`, `cancelled`,
 * `malformed_answer`.
 * `status`: of HTTP, 0 without an answer. `attempts`: how often the call was sent.
 */
export class InferenceError extends Error {
  readonly code: string;
  readonly status: number;
  readonly requestId: string;
  readonly docsUrl: string;
  readonly retryAfterMs: number | undefined;
  readonly attempts: number;
}

/** Calls one server. Throws `RangeError` for a `timeoutMs` that is not positive. */
export class Client {
  /** `baseUrl`: such as `https://ml.company.com`. */
  constructor(baseUrl: string | URL, credentials: Credentials, options?: ClientOptions);
  /** Sorts texts into the model's classes, or into your own `labels`. */
  classify<O extends ClassifyOptions>(inputs: Inputs, options?: O): Promise<AnswerFor<Classification, O>>;
  /** Tells negative, neutral and positive texts apart. */
  sentiment<O extends TextOptions>(inputs: Inputs, options?: O): Promise<AnswerFor<Sentiment, O>>;
  /** Finds names of persons, organisations, places and other things. */
  entities<O extends EntitiesOptions>(inputs: Inputs, options?: O): Promise<AnswerFor<Entities, O>>;
  /** Picks the sentences that carry a document. */
  summarize<O extends SummarizeOptions>(inputs: Inputs, options?: O): Promise<AnswerFor<Summary, O>>;
  /** Turns texts into vectors. */
  embeddings<O extends EmbeddingsOptions>(inputs: Inputs, options?: O): Promise<AnswerFor<Embedding, O>>;
  /** Scores documents (`inputs`) by how well they answer `query`; in the order of the documents. */
  rerank<O extends RerankOptions>(query: string, inputs: Inputs, options?: O): Promise<AnswerFor<Score, O>>;
  /** Compares texts with `reference`: cosine, from -1 to 1. */
  similarity<O extends TextOptions>(
    reference: string,
    inputs: Inputs,
    options?: O,
  ): Promise<AnswerFor<Score, O>>;
  /** Shows the model's tokens of texts; free. */
  tokenize<O extends TokenizeOptions>(inputs: Inputs, options?: O): Promise<AnswerFor<Tokenization, O>>;
  /** Makes text of token ids; free. */
  detokenize<O extends DetokenizeOptions>(inputs: Inputs, options?: O): Promise<AnswerFor<Detokenization, O>>;
  /** All models, loaded or not. */
  models(options?: ReadOptions): Promise<Model[]>;
  /** One model; `model_not_found` if there is none of that name. */
  model(name: string, options?: ReadOptions): Promise<Model>;
  /** What your tenant used; the last 30 days without `from` and `to`. */
  usage(query?: UsageQuery): Promise<UsageReport>;
}
