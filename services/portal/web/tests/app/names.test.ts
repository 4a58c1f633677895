import { expect, test } from 'vitest';
import { isCoreCount, isGoodPassword, isPlainName } from '../../src/app/names';

test.each([
  ['web-1', true],
  ['A_b', true],
  ['', false],
  ['a.b', false],
  ['é', false],
  ['a'.repeat(64), true],
  ['a'.repeat(65), false],
])('name %s: %s', (name, isGood) => expect(isPlainName(name)).toBe(isGood));

test.each([
  ['Passw0rd', true],
  ['Passw0r', false],
  ['password1', false],
  ['PASSWORD1', false],
  ['Passwords', false],
])('password %s: %s', (password, isGood) => expect(isGoodPassword(password)).toBe(isGood));

test.each([
  [1, true],
  [2, true],
  [3, false],
  [24, true],
  [26, false],
  [0, false],
])('%i cores of 24: %s', (cores, isGood) => expect(isCoreCount(cores, 24)).toBe(isGood));
