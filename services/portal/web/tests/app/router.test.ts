import { expect, test } from 'vitest';
import { codeOf, parse, paths, type Route } from '../../src/app/router';

const list = { page: 'instances', keyword: '', offset: 0, isCreating: false } as const;

test.each<[string, Route]>([
  ['', { page: 'overview' }],
  ['#/', { page: 'overview' }],
  ['#/overview', { page: 'overview' }],
  ['#/?code=ABCD', { page: 'overview' }],
  ['#/instances', list],
  ['#/instances?q=web%201&from=50', { ...list, keyword: 'web 1', offset: 50 }],
  ['#/instances?from=-3', list],
  ['#/instances?from=x', list],
  ['#/instances?new', { ...list, isCreating: true }],
  ['#/instances/abc', { page: 'instance', id: 'abc', tab: 'overview' }],
  ['#/instances/abc/console', { page: 'instance', id: 'abc', tab: 'console' }],
  ['#/instances/abc/disks', { page: 'nowhere' }],
  ['#/instances/%E0%A4%A', { page: 'instance', id: '%E0%A4%A', tab: 'overview' }],
  ['#/users', { page: 'nowhere' }],
])('%s is %o', (hash, route) => {
  expect(parse(hash)).toEqual(route);
});

test.each([
  paths.overview,
  paths.instances(),
  paths.instances({ keyword: 'a&b=c', offset: 100, isCreating: true }),
  paths.instance('abc'),
  paths.instance('abc', 'console'),
])('%s leads to a page', (path) => {
  expect(parse(path).page).not.toBe('nowhere');
});

test('what is put into an address is read back from it', () => {
  const asked = { keyword: 'a&b=c +é', offset: 100, isCreating: true };
  expect(parse(paths.instances(asked))).toEqual({ page: 'instances', ...asked });
});

test.each([
  ['#/?code=KWR6-C9MM', 'KWR6-C9MM'],
  ['#/', ''],
  ['', ''],
  ['#/instances?q=code', ''],
])('the first-start code of %j is %j', (hash, code) => {
  expect(codeOf(hash)).toBe(code);
});
