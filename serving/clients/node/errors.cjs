// What a call ends with when it has no answer.
'use strict';

/** Longest piece of a foreign answer that goes into a message, in characters. */
const FOREIGN_TEXT_MAX = 200;

/**
 * A call without an answer. `code`: a row of docs/errors.md, `http_<status>` where something before the
 * server answered, or the client's own: `connection_failed`, `deadline_exceeded`, `cancelled`,
 * `malformed_answer`.
 */
class InferenceError extends Error {
  constructor(code, message, { status = 0, requestId = '', docsUrl = '', retryAfterMs, cause } = {}) {
    super(`${code}: ${message}${requestId ? ` (request ${requestId})` : ''}`, { cause });
    this.name = 'InferenceError';
    this.code = code;
    this.status = status;
    this.requestId = requestId;
    this.docsUrl = docsUrl;
    this.retryAfterMs = retryAfterMs;
    this.attempts = 1;
  }
}

/** The error that an answer of `status` (HTTP, 400 or more) tells. `now`: milliseconds since 1970. */
function fromAnswer(status, headers, body, now) {
  const retryAfterMs = millisecondsOf(headers.get('retry-after'), now);
  const requestId = headers.get('x-request-id') ?? '';
  try {
    const { code, message, request_id: told, docs_url: docsUrl = '' } = JSON.parse(body).error;
    if (typeof code === 'string') {
      return new InferenceError(code, message, {
        status,
        requestId: told || requestId,
        docsUrl,
        retryAfterMs,
      });
    }
  } catch {
    // A proxy's, which has a form of its own.
  }
  const message = body.slice(0, FOREIGN_TEXT_MAX) || 'no message';
  return new InferenceError(`http_${status}`, message, { status, requestId, retryAfterMs });
}

/** What a `Retry-After` header asks to wait, in milliseconds, at least 0; undefined without a usable one. */
function millisecondsOf(retryAfter, now) {
  if (!retryAfter) return undefined;
  if (/^\s*\d+\s*$/.test(retryAfter)) return Number(retryAfter) * 1000;
  const date = Date.parse(retryAfter);
  return Number.isNaN(date) ? undefined : Math.max(0, date - now);
}

module.exports = { InferenceError, fromAnswer, millisecondsOf };
