// Whether there still is a session: the browser has one cookie for all its tabs, so another tab may have logged in
// or out. Whoever is told that there is no session asks here before the page shows the door.

import { API, isProblem } from '../api/http';
import { readSession } from '../api/session';
import { type Found, known, who } from './who';

/** What a tab tells the others. */
export type News = 'in' | 'out';

/** Those of this portal: another one may be below another path. */
const CHANNEL = `nano.session ${API.pathname}`;

let asking: Promise<Found> | null = null;

/** Asks the portal who is here, once for all who want to know at the same time. */
export function look(): Promise<Found> {
  asking ??= ask().finally(() => {
    asking = null;
  });
  return asking;
}

async function ask(): Promise<Found> {
  const before = who.get();
  const found = await read();
  // Somebody came or went while it was asked: the answer is of before.
  if (who.get() === before) who.set(known(before, found));
  return found;
}

async function read(): Promise<Found> {
  try {
    return { is: 'session', session: await readSession() };
  } catch (error) {
    if (!isProblem(error)) throw error;
    return { is: error.status === 401 ? 'none' : 'unsaid' };
  }
}

export function tellTabs(news: News): void {
  const channel = new BroadcastChannel(CHANNEL);
  channel.postMessage(news);
  channel.close();
}

/** Calls `hear` with what other tabs tell, until the returned function is called. */
export function followTabs(hear: (news: News) => void): () => void {
  const channel = new BroadcastChannel(CHANNEL);
  channel.onmessage = (message: MessageEvent<unknown>) => {
    if (message.data === 'in' || message.data === 'out') hear(message.data);
  };
  return () => channel.close();
}

/** Looks at the session whenever the tab is looked at. */
export function lookWhenSeen(): () => void {
  const seen = (): void => {
    if (document.visibilityState === 'visible') void look();
  };
  document.addEventListener('visibilitychange', seen);
  window.addEventListener('focus', seen);
  return () => {
    document.removeEventListener('visibilitychange', seen);
    window.removeEventListener('focus', seen);
  };
}
