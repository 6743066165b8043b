// notification-service: messages that sound unhappy are sent at once, the others with the next batch.
//
//     node notification_service.mjs URL KEY < messages.jsonl      one {"id": …, "text": …} a line

import { Client } from '../clients/node/index.js';

/** From this score on a negative message is urgent. */
const URGENT = 0.7;
/** Messages of one call; a model's `limits.inputs_max` is the most. */
const MESSAGES_PER_CALL = 64;

/** The same messages with a `priority`: high, normal, or unknown where the text could not be read; urgent
 * ones first, else in their order. Rejects with `InferenceError`. */
export async function prioritized(client, messages) {
  const found = [];
  for (let start = 0; start < messages.length; start += MESSAGES_PER_CALL) {
    const part = messages.slice(start, start + MESSAGES_PER_CALL);
    const texts = part.map((message) => message.text);
    const { results } = await client.sentiment(texts, { on_error: 'partial', timeoutMs: 5000 });
    part.forEach((message, i) => found.push({ ...message, priority: priorityOf(results[i]) }));
  }
  return found.sort((a, b) => (b.priority === 'high') - (a.priority === 'high'));
}

function priorityOf(result) {
  if (result.error) return 'unknown';
  return result.label === 'negative' && result.score >= URGENT ? 'high' : 'normal';
}

const [url, key] = process.argv.slice(2);
process.stdin.setEncoding('utf8');
let text = '';
for await (const piece of process.stdin) text += piece;
const messages = text.split('\n').filter(Boolean).map((line) => JSON.parse(line));
for (const message of await prioritized(new Client(url, key), messages)) console.log(JSON.stringify(message));
