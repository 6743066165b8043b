// Client of ml-inference. Types, units and errors: index.d.ts.
'use strict';

const { randomUUID } = require('node:crypto');
const { setTimeout: sleep } = require('node:timers/promises');
const { InferenceError, fromAnswer } = require('./errors.cjs');
const { Retries } = require('./retry.cjs');

/** Options of a call that are not parameters in its body. */
const NOT_PARAMETERS = new Set(['model', 'timeoutMs', 'idempotencyKey', 'requestId', 'signal']);

class Client {
  #base;
  #credentials;
  #options;
  #retries;

  constructor(baseUrl, credentials, options = {}) {
    this.#base = String(baseUrl).replace(/\/+$/, '');
    this.#credentials = credentials;
    this.#options = { timeoutMs: 30_000, idempotent: true, headers: {}, fetch: globalThis.fetch, ...options };
    this.#retries = new Retries(options.retries, options.chance);
  }

  classify(inputs, options) {
    return this.#infer('classify', inputs, options);
  }
  sentiment(inputs, options) {
    return this.#infer('sentiment', inputs, options);
  }
  entities(inputs, options) {
    return this.#infer('entities', inputs, options);
  }
  summarize(inputs, options) {
    return this.#infer('summarize', inputs, options);
  }
  embeddings(inputs, options) {
    return this.#infer('embeddings', inputs, options);
  }
  rerank(query, inputs, options) {
    return this.#infer('rerank', inputs, { ...options, query });
  }
  similarity(reference, inputs, options) {
    return this.#infer('similarity', inputs, { ...options, reference });
  }
  tokenize(inputs, options) {
    return this.#infer('tokenize', inputs, options);
  }
  detokenize(inputs, options) {
    return this.#infer('detokenize', inputs, options);
  }

  async models(options = {}) {
    return (await this.#send({ method: 'GET', path: '/v1/ml/models' }, options)).value.models;
  }

  async model(name, options = {}) {
    return (await this.#send({ method: 'GET', path: `/v1/ml/models/${encodeURIComponent(name)}` }, options))
      .value;
  }

  async usage({ by, from, to, ...options } = {}) {
    const asked = Object.entries({ by, from, to }).filter(([, value]) => value !== undefined);
    const path = `/v1/ml/usage?${new URLSearchParams(asked)}`;
    return (await this.#send({ method: 'GET', path }, options)).value;
  }

  async #infer(task, inputs, options = {}) {
    const listed = typeof inputs === 'string' ? [inputs] : Array.from(inputs);
    const isParameter = ([name, value]) => !NOT_PARAMETERS.has(name) && value !== undefined;
    const parameters = Object.fromEntries(Object.entries(options).filter(isParameter));
    const body = JSON.stringify({ inputs: listed, model: options.model, parameters });
    const isOwnKey = options.idempotencyKey === undefined;
    const key = isOwnKey && this.#options.idempotent ? randomUUID() : options.idempotencyKey;
    const call = { method: 'POST', path: `/v1/ml/${task}`, body, key, isOwnKey };
    const { value, headers } = await this.#send(call, options);
    const requestId = headers.get('x-request-id') ?? '';
    if (!Array.isArray(value.results) || value.results.length !== listed.length) throw malformed(requestId);
    return { ...value, requestId, replayed: headers.get('idempotency-replayed') === 'true' };
  }

  /** The answer of a call, within its deadline, however often it is sent. */
  async #send(call, { timeoutMs = this.#options.timeoutMs, requestId, signal }) {
    if (!(timeoutMs > 0)) throw new RangeError('timeoutMs is milliseconds, more than 0');
    const end = performance.now() + timeoutMs;
    let last;
    for (let attempt = 1; ; attempt += 1) {
      try {
        const answer = await this.#attempt(call, end, requestId, signal);
        this.#retries.earn();
        return answer;
      } catch (error) {
        if (!(error instanceof InferenceError)) throw error;
        error.attempts = attempt;
        error.cause ??= last;
        last = error;
        // Its place for kept answers is full, and refusing is all it did: without a key it answers.
        if (error.code === 'idempotency_full' && call.isOwnKey && call.key) {
          call = { ...call, key: undefined };
          continue;
        }
        // Nobody knows whether it was answered, and charged.
        const isSafe = call.method === 'GET' || call.key !== undefined || error.wasSent === false;
        if (error.code === 'connection_failed' && !isSafe) throw error;
        const wait = this.#retries.wait(error, attempt, end - performance.now());
        if (wait === undefined) throw error;
        await sleep(wait, undefined, { signal }).catch((cause) => {
          throw cancelled(cause);
        });
      }
    }
  }

  async #attempt(call, end, requestId, signal) {
    const remaining = Math.floor(end - performance.now());
    if (remaining < 1) throw late();
    const token = typeof this.#credentials === 'function' ? await this.#credentials() : this.#credentials;
    const headers = { ...this.#options.headers, Authorization: `Bearer ${token}` };
    headers['X-Request-Timeout'] = `${remaining}`;
    if (call.body !== undefined) headers['Content-Type'] = 'application/json';
    if (call.key !== undefined) headers['Idempotency-Key'] = call.key;
    if (requestId !== undefined) headers['X-Request-ID'] = requestId;
    const deadline = AbortSignal.timeout(remaining);
    const either = signal ? AbortSignal.any([signal, deadline]) : deadline;
    let answer;
    let text;
    try {
      const request = { method: call.method, headers, body: call.body, signal: either };
      answer = await this.#options.fetch(this.#base + call.path, request);
      text = await answer.text();
    } catch (cause) {
      if (signal?.aborted) throw cancelled(cause);
      if (deadline.aborted) throw late(cause);
      const error = new InferenceError('connection_failed', cause.cause?.message ?? cause.message, { cause });
      // Before there was a connection nothing was sent.
      error.wasSent = !['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN'].includes(cause.cause?.code);
      throw error;
    }
    if (answer.status >= 400) throw fromAnswer(answer.status, answer.headers, text, Date.now());
    try {
      const value = JSON.parse(text);
      if (value !== null && typeof value === 'object') return { value, headers: answer.headers };
    } catch {
      // Told below.
    }
    throw malformed(answer.headers.get('x-request-id') ?? '');
  }
}

function late(cause) {
  return new InferenceError('deadline_exceeded', 'there was no answer before the deadline', { cause });
}

function cancelled(cause) {
  return new InferenceError('cancelled', 'the caller cancelled the call', { cause });
}

function malformed(requestId) {
  return new InferenceError('malformed_answer', 'the answer is not one of this API', { requestId });
}

module.exports = { Client, InferenceError };
