import { expect, test } from 'vitest';
import { backoffMs } from '../../src/live/backoff';

test.each([
  [0, 500],
  [1, 1_000],
  [3, 4_000],
  [4, 8_000],
  [50, 8_000],
])('try %i waits at most %i ms and at least half of it', (attempt, most) => {
  expect(backoffMs(attempt, 1)).toBe(most);
  expect(backoffMs(attempt, 0)).toBe(most / 2);
});
