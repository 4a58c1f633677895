// How long to wait before the next try: 0.5 s, doubling to 8 s, spread so that pages do not come back as one.

const FIRST_MS = 500;
const MOST_MS = 8_000;

/** `attempt` counts from 0; `random` is in 0…1. Between a half and the whole of the step. */
export function backoffMs(attempt: number, random: number): number {
  const step = Math.min(MOST_MS, FIRST_MS * 2 ** Math.min(attempt, 10));
  return step * (0.5 + random / 2);
}
