import { expect, test } from 'vitest';
import { ago, duration, percent, rate, size } from '../../src/i18n/format';

test.each([
  [0, '0 B'],
  [1023, '1,023 B'],
  [1024, '1 KiB'],
  [1_258_291, '1.2 MiB'],
  [536_870_912, '512 MiB'],
  [25_000_000_000, '23.3 GiB'],
  [2 ** 40 * 1.5, '1.5 TiB'],
])('%d bytes are %s', (bytes, text) => expect(size(bytes, 'en')).toBe(text));

test('a rate is a size each second', () => {
  expect(rate(2048, 'en')).toBe('2 KiB/s');
});

test.each([
  [0, '0'],
  [3.84, '3.8'],
  [31.4, '31'],
  [100, '100'],
])('%d percent read %s', (value, text) => expect(percent(value, 'en')).toBe(text));

test.each([
  [-7_000, '0 ms'],
  [42, '40 ms'],
  [1_400, '1.4 sec'],
  [42_300, '42 sec'],
  [125_000, '2 min 5 sec'],
  [3_840_000, '1 hr 4 min'],
  [97_200_000, '1 day 3 hr'],
])('%d ms are %s', (ms, text) => expect(duration(ms, 'en')).toBe(text));

test.each([
  [1_000, 0, '1 sec. ago'],
  [0, 500, 'now'],
  [180_000, 0, '3 min. ago'],
  [7_200_000, 0, '2 hr. ago'],
  [86_400_000, 0, 'yesterday'],
])('%d ms later than %d is %s', (nowMs, atMs, text) => expect(ago(atMs, nowMs, 'en')).toBe(text));

test('a clock of theirs that is ahead of ours does not show the future', () => {
  expect(ago(5_000, 0, 'en')).toBe('now');
});
