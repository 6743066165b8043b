// The client against the real server. API: its address; PROXY: that of the faulty proxy before it; KEY.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { beforeEach, test } from 'node:test';
import { Client, InferenceError } from '../index.js';

const require = createRequire(import.meta.url);
const { RETRYABLE, Retries } = require('../retry.cjs');
const { millisecondsOf } = require('../errors.cjs');
const { API, PROXY, KEY } = process.env;
const TEXTS = ['The new release is a joy to use.', 'Broken on arrival and nobody answers my emails.'];
const client = new Client(API, KEY, { timeoutMs: 60_000 });
const faulty = new Client(PROXY, KEY, { timeoutMs: 60_000, retries: { backoffMs: 10 } });

const script = (...faults) => fetch(`${PROXY}/_faults`, { method: 'POST', body: JSON.stringify(faults) });
const seen = async () => (await fetch(`${PROXY}/_seen`)).json();
const code = (expected) => (error) => error instanceof InferenceError && error.code === expected;
beforeEach(() => script());

test('every task', async () => {
  const labels = (await client.sentiment(TEXTS)).results.map((result) => result.label);
  assert.deepEqual(labels, ['positive', 'negative']);
  const options = { labels: ['cooking', 'astronomy'], top_k: 1 };
  const [classes] = (await client.classify('The telescope found a new comet.', options)).results;
  assert.equal(classes.labels[0].label, 'astronomy');
  const text = '🎉 Angela Merkel visited Zürich.';
  const [{ entities }] = (await client.entities(text, { offset_unit: 'utf16' })).results;
  assert.ok(entities.some((entity) => entity.text === 'Angela Merkel'));
  for (const entity of entities) assert.equal(text.slice(entity.start, entity.end), entity.text);
  assert.equal(
    (await client.summarize('It rained. It poured.', { max_sentences: 1 })).results[0].sentences.length,
    1,
  );
  const vectors = await client.embeddings(new Set(TEXTS), { dimensions: 8 });
  assert.deepEqual(
    vectors.results.map((result) => result.embedding.length),
    [8, 8],
  );
  const documents = ['Bears live in the Arctic.', 'The panda lives in China.'];
  const scores = (await client.rerank('Where do pandas live?', documents)).results;
  assert.ok(scores[0].score < scores[1].score);
  assert.ok((await client.similarity(TEXTS[0], TEXTS)).results[0].score > 0.999);
  const [{ tokenization }] = (await client.tokenize('Hello, World')).results;
  assert.deepEqual(
    tokenization.map((token) => token.id),
    [101, 7592, 1010, 2088, 102],
  );
  assert.equal((await client.detokenize([[7592, 2088]])).results[0].text, 'hello world');
  assert.equal((await client.models()).length, 5);
  assert.equal((await client.model('ner-v2')).task, 'entities');
  assert.ok((await client.usage({ by: 'model' })).total.inputs >= 0);
});

test('errors say what happened', async () => {
  await assert.rejects(client.sentiment(['fine', ''], { requestId: 'node-test-1' }), (error) => {
    assert.deepEqual(
      [error.code, error.status, error.requestId, error.attempts],
      ['empty_input', 400, 'node-test-1', 1],
    );
    return error.message.includes('inputs[1]');
  });
  await assert.rejects(new Client(API, () => 'tc_test_nobody').models(), code('invalid_credentials'));
  await assert.rejects(client.model('no/thing'), code('model_not_found'));
  const { results } = await client.sentiment([TEXTS[0], ''], { on_error: 'partial' });
  assert.deepEqual([results[0].label, results[1].error.code], ['positive', 'empty_input']);
  await assert.rejects(client.sentiment('x', { timeoutMs: 0 }), RangeError);
});

for (const fault of [
  { status: 429, code: 'rate_limit_exceeded', retry_after: 0 },
  { status: 503, code: 'overloaded', retry_after: 0 },
  { status: 502 },
  { drop: 'before' },
  { drop: 'after' },
]) {
  test(`${JSON.stringify(fault)} is retried under one key`, async () => {
    await script(fault);
    const answer = await faulty.sentiment(TEXTS);
    const calls = await seen();
    assert.equal(calls.length, 2);
    assert.equal(new Set(calls.map((headers) => headers['idempotency-key'])).size, 1);
    // The answer that was lost is given again, and not charged again.
    assert.equal(answer.replayed, fault.drop === 'after');
  });
}

test('the last error is raised', async () => {
  await script(...Array(9).fill({ status: 503, code: 'starting', retry_after: 0 }));
  await assert.rejects(faulty.sentiment(TEXTS), (error) => code('starting')(error) && error.attempts === 4);
  assert.equal((await seen()).length, 4);
});

test('Retry-After is obeyed, if the deadline allows', async () => {
  await script({ status: 429, code: 'rate_limit_exceeded', retry_after: 1 });
  const begun = performance.now();
  await faulty.sentiment(TEXTS);
  assert.ok(performance.now() - begun >= 1000);
  await script({ status: 429, code: 'rate_limit_exceeded', retry_after: 3600 });
  await assert.rejects(faulty.sentiment(TEXTS, { timeoutMs: 30_000 }), code('rate_limit_exceeded'));
  assert.equal((await seen()).length, 1);
});

for (const fault of [{ stall: true }, { drip: true }]) {
  test(`a deadline holds with ${JSON.stringify(fault)}`, async () => {
    await script(fault);
    const begun = performance.now();
    await assert.rejects(faulty.sentiment(TEXTS, { timeoutMs: 500 }), code('deadline_exceeded'));
    // A stalled answer lasts a minute, a dripping one longer.
    assert.ok(performance.now() - begun < 30_000);
    assert.ok(Number((await seen())[0]['x-request-timeout']) <= 500);
  });
}

test('a caller cancels, also while waiting', async () => {
  for (const fault of [{ stall: true }, { status: 503, code: 'overloaded', retry_after: 50 }]) {
    await script(fault);
    const controller = new AbortController();
    const call = assert.rejects(faulty.sentiment(TEXTS, { signal: controller.signal }), code('cancelled'));
    while ((await seen()).length === 0);
    controller.abort();
    await call;
  }
});

test('without a key nothing is sent twice', async () => {
  const careless = new Client(PROXY, KEY, { idempotent: false });
  await script({ drop: 'after' });
  await assert.rejects(careless.sentiment(TEXTS), code('connection_failed'));
  const calls = await seen();
  assert.ok(calls.length === 1 && !('idempotency-key' in calls[0]));
  await script({ status: 429, code: 'idempotency_full', retry_after: 80_000 });
  await faulty.sentiment(TEXTS);
  assert.deepEqual(
    (await seen()).map((headers) => 'idempotency-key' in headers),
    [true, false],
  );
});

test('a client in an outage runs out of retries', async () => {
  const poor = new Client(PROXY, KEY, { retries: { attempts: 3, backoffMs: 1, budget: 5 } });
  await script(...Array(99).fill({ status: 503, code: 'overloaded', retry_after: 0 }));
  for (let i = 0; i < 10; i += 1) await assert.rejects(poor.models(), code('overloaded'));
  assert.equal((await seen()).length, 15);
});

test('waits', () => {
  const wait = (attempt, remaining, name, retryAfterMs) =>
    new Retries({ backoffMs: 500, backoffMaxMs: 1500 }, () => 1).wait(
      { code: name, retryAfterMs },
      attempt,
      remaining,
    );
  assert.deepEqual(
    [1, 2, 3, 4].map((attempt) => wait(attempt, 60_000, 'overloaded')),
    [500, 1000, 1500, undefined],
  );
  assert.equal(wait(1, 60_000, 'empty_input'), undefined);
  assert.equal(wait(1, 60_000, 'overloaded', 2000), 2500);
  assert.equal(wait(1, 2500, 'overloaded', 2000), undefined);
  assert.equal(millisecondsOf('Thu, 01 Jan 1970 00:00:10 GMT', 4000), 6000);
  assert.equal(millisecondsOf('soon', 0), undefined);
  const table = readFileSync(new URL('../../../../docs/errors.md', import.meta.url), 'utf8');
  const told = [...table.matchAll(/^\| `(\w+)` \|.*?\|.*?\| (?:with backoff|after `Retry-After`) \|/gm)];
  const own = [...RETRYABLE].filter((name) => name !== 'connection_failed' && !name.startsWith('http_'));
  assert.deepEqual(own.sort(), told.map(([, name]) => name).sort());
});

test('require gives the same classes, and the types name every method', () => {
  const required = require('../index.cjs');
  assert.deepEqual([required.Client, required.InferenceError], [Client, InferenceError]);
  const types = readFileSync(new URL('../index.d.ts', import.meta.url), 'utf8');
  const declared = types.slice(types.indexOf('export class Client')).matchAll(/^  (\w+)(?:<.*?>)?\(/gm);
  assert.deepEqual(
    [...declared].map(([, name]) => name).sort(),
    Object.getOwnPropertyNames(Client.prototype).sort(),
  );
});
