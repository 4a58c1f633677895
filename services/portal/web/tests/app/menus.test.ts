import { describe, expect, test } from 'vitest';
import { allowed, opens } from '../../src/app/menus';
import { parse } from '../../src/app/router';

const EVERYTHING = { menu: ['dashboard', 'compute_pool', 'instance', 'image', 'user'] };
const TENANT = { menu: ['instance'] };
const WATCHER = { menu: ['dashboard'] };
const NOTHING = { menu: [] };

describe('a menu', () => {
  test.each([
    [EVERYTHING, ['usage', 'cells', 'instances', 'acting', 'tasks']],
    [TENANT, ['instances', 'acting', 'tasks']],
    [WATCHER, ['usage', 'cells', 'instances', 'tasks']],
    [{ menu: ['image'] }, ['tasks']],
    [NOTHING, []],
  ])('of %j opens %j', (session, places) => {
    const all = ['usage', 'cells', 'instances', 'acting', 'tasks'] as const;
    expect(all.filter((place) => opens(session, place))).toEqual(places);
  });
});

describe('an address', () => {
  test('leads who may see no usage to the instances', () => {
    expect(allowed(parse('#/'), TENANT)).toEqual(parse('#/instances'));
    expect(allowed(parse('#/'), WATCHER)).toEqual({ page: 'overview' });
  });

  test('leads nowhere for whom nothing is open', () => {
    for (const hash of ['#/', '#/instances', '#/instances/x/console']) {
      expect(allowed(parse(hash), NOTHING)).toEqual({ page: 'closed' });
    }
    expect(allowed(parse('#/moon'), NOTHING)).toEqual({ page: 'nowhere' });
  });

  test('leads who may only look to no console', () => {
    expect(allowed(parse('#/instances/x/console'), WATCHER)).toEqual(parse('#/instances/x'));
    expect(allowed(parse('#/instances/x/console'), TENANT)).toEqual(parse('#/instances/x/console'));
  });

  test('is left as it is for whom it is open', () => {
    const route = parse('#/instances?q=web&from=50');
    expect(allowed(route, TENANT)).toBe(route);
  });
});
