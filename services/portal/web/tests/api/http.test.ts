import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { call, whenSessionIsDoubted } from '../../src/api/http';

/** The portal answers one after the other of these; the methods that it was asked with. */
function portal(...statuses: number[]): string[] {
  const asked: string[] = [];
  vi.stubGlobal('fetch', async (_url: URL, init: RequestInit) => {
    asked.push(init.method ?? '');
    const status = statuses.shift() ?? 500;
    const body = status < 400 ? { data: 'done' } : { code: 'untrusted', detail: 'log in' };
    return new Response(JSON.stringify(body), { status });
  });
  return asked;
}

let doubts = 0;

function thereIs(isSession: boolean): void {
  whenSessionIsDoubted(async () => {
    doubts += 1;
    return isSession;
  });
}

beforeEach(() => {
  doubts = 0;
});
afterEach(() => vi.unstubAllGlobals());

describe('a call that is answered with 401', () => {
  test('is made again when there is a session after all', async () => {
    thereIs(true);
    const asked = portal(401, 200);
    expect((await call('DELETE', 'guests/x')).data).toBe('done');
    expect([asked, doubts]).toEqual([['DELETE', 'DELETE'], 1]);
  });

  test('is made again only once', async () => {
    thereIs(true);
    const asked = portal(401, 401, 200);
    await expect(call('GET', 'guests/x')).rejects.toMatchObject({ status: 401 });
    expect([asked.length, doubts]).toEqual([2, 1]);
  });

  test('has failed when there is none', async () => {
    thereIs(false);
    const asked = portal(401, 200);
    await expect(call('GET', 'guests/x')).rejects.toMatchObject({ status: 401 });
    expect([asked.length, doubts]).toEqual([1, 1]);
  });

  test('has failed where that is an answer: at the login', async () => {
    thereIs(true);
    const asked = portal(401, 200);
    await expect(call('POST', 'sessions/', { isOpen: true })).rejects.toMatchObject({ status: 401 });
    expect([asked.length, doubts]).toEqual([1, 0]);
  });
});

test.each([
  [502, 'offline'],
  [503, 'offline'],
  [401, 'error'],
])('an answer of %i that is no answer of the portal is %s', async (status, code) => {
  vi.stubGlobal('fetch', async () => new Response('<html>', { status }));
  await expect(call('GET', 'system/', { isOpen: true })).rejects.toMatchObject({ status, code });
});
