// Who is here. One place knows whether there is a session, and why there is none.

import { createContext, useContext } from 'react';
import type { Session } from '../api/session';
import { Store } from '../live/store';

export type Why = 'new' | 'ended' | 'loggedOut';

export type Who = { is: 'unknown' } | { is: 'nobody'; why: Why } | { is: 'somebody'; session: Session };

/** What the portal says of the cookie that it is shown: whose it is, nobody's, or nothing at all. */
export type Found = { is: 'session'; session: Session } | { is: 'none' } | { is: 'unsaid' };

export const who = new Store<Who>({ is: 'unknown' });

/** Who is here once the portal has said so; the same object where nothing changed, so that nothing is drawn anew. */
export function known(before: Who, found: Found): Who {
  if (found.is === 'unsaid') return before;
  if (found.is === 'session') {
    const isSame =
      before.is === 'somebody' && JSON.stringify(before.session) === JSON.stringify(found.session);
    return isSame ? before : { is: 'somebody', session: found.session };
  }
  if (before.is === 'somebody') return { is: 'nobody', why: 'ended' };
  return before.is === 'unknown' ? { is: 'nobody', why: 'new' } : before;
}

export const SessionContext = createContext<Session | null>(null);

export function useSession(): Session {
  const session = useContext(SessionContext);
  if (!session) throw new Error('useSession is for pages inside of a session');
  return session;
}
