// Whether a call that failed is sent again, and when. Pure: told the time and the chance.
'use strict';

/** Codes of docs/errors.md that can be retried, and the client's own. */
const RETRYABLE = new Set([
  'answers_unread',
  'body_incomplete',
  'concurrency_limit_exceeded',
  'conflict',
  'deadline_exceeded',
  'deadline_infeasible',
  'idempotency_full',
  'idempotency_in_progress',
  'internal',
  'issuer_unavailable',
  'limits_unavailable',
  'model_unavailable',
  'overloaded',
  'rate_limit_exceeded',
  'shutting_down',
  'starting',
  'store_unavailable',
  'connection_failed',
  'http_408',
  'http_429',
  'http_500',
  'http_502',
  'http_503',
  'http_504',
]);

/** As `RetryPolicy` in index.d.ts. */
const DEFAULTS = Object.freeze({
  attempts: 4,
  backoffMs: 100,
  backoffMaxMs: 5000,
  budget: 20,
  budgetRatio: 0.1,
});

/** Retries of one client. */
class Retries {
  constructor(policy = {}, chance = Math.random) {
    this.policy = { ...DEFAULTS, ...policy };
    this.chance = chance;
    this.left = this.policy.budget;
  }

  /** A call was answered. */
  earn() {
    this.left = Math.min(this.policy.budget, this.left + this.policy.budgetRatio);
  }

  /** Milliseconds until attempt number `attempt` + 1; undefined if `error` is the end: waiting does not mend
   * it, attempts or the budget are used up, or the wait would outlive `remainingMs`. Spends one retry. */
  wait(error, attempt, remainingMs) {
    const { attempts, backoffMs, backoffMaxMs } = this.policy;
    if (!RETRYABLE.has(error.code) || attempt >= attempts || this.left < 1) return undefined;
    const chance = this.chance();
    // Callers who were refused together do not come back together.
    const wait =
      error.retryAfterMs === undefined
        ? chance * Math.min(backoffMaxMs, backoffMs * 2 ** (attempt - 1))
        : error.retryAfterMs + chance * backoffMs;
    if (wait >= remainingMs) return undefined;
    this.left -= 1;
    return wait;
  }
}

module.exports = { RETRYABLE, DEFAULTS, Retries };
