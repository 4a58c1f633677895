import { describe, expect, test } from 'vitest';
import type { Session } from '../../src/api/session';
import { known, type Who } from '../../src/app/who';

const ADMIN: Session = {
  user: 'admin',
  group: 'admin',
  menu: ['instance'],
  address: '127.0.0.1',
  timeout: 180,
  operator: true,
};
const HERE: Who = { is: 'somebody', session: ADMIN };
const ENDED: Who = { is: 'nobody', why: 'ended' };

describe('who is here', () => {
  test('stays the very same when the portal knows the same session, or says nothing', () => {
    expect(known(HERE, { is: 'session', session: { ...ADMIN } })).toBe(HERE);
    for (const before of [HERE, ENDED, { is: 'unknown' }] as Who[]) {
      expect(known(before, { is: 'unsaid' })).toBe(before);
    }
  });

  test('is whoever the cookie of now belongs to', () => {
    const bob = { ...ADMIN, user: 'bob' };
    for (const before of [HERE, ENDED, { is: 'unknown' }] as Who[]) {
      expect(known(before, { is: 'session', session: bob })).toEqual({ is: 'somebody', session: bob });
    }
    const less = { ...ADMIN, menu: [] };
    expect(known(HERE, { is: 'session', session: less })).toEqual({ is: 'somebody', session: less });
  });

  test('is nobody when there is no session, and remembers why', () => {
    expect(known(HERE, { is: 'none' })).toEqual(ENDED);
    expect(known({ is: 'unknown' }, { is: 'none' })).toEqual({ is: 'nobody', why: 'new' });
    const left: Who = { is: 'nobody', why: 'loggedOut' };
    expect(known(left, { is: 'none' })).toBe(left);
  });
});
