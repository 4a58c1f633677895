// Who is here. One place knows whether there is a session, and why there is none.

import { createContext, useContext } from 'react';
import type { Session } from '../api/session';
import { Store } from '../live/store';

export type Why = 'new' | 'ended' | 'loggedOut';

export type Who = { is: 'unknown' } | { is: 'nobody'; why: Why } | { is: 'somebody'; session: Session };

export const who = new Store<Who>({ is: 'unknown' });

/** The session is over, whoever noticed it. Where we are stays in the address, for the way back. */
export function sessionEnded(): void {
  if (who.get().is === 'somebody') who.set({ is: 'nobody', why: 'ended' });
}

export const SessionContext = createContext<Session | null>(null);

export function useSession(): Session {
  const session = useContext(SessionContext);
  if (!session) throw new Error('useSession is for pages inside of a session');
  return session;
}
