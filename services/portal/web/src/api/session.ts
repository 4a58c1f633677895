// `session/`, `sessions/`, `users/`: who is here (REST document, 9.3). The cookie is the server's business.

import { call } from './http';

export interface Session {
  user: string;
  group: string;
  menu: string[];
  /** Where the portal sees us. */
  address: string;
  /** Seconds until it ends, unless it is extended. */
  timeout: number;
  /** May see every instance of the zone. */
  operator: boolean;
}

export async function readSession(): Promise<Session> {
  return (await call<Session>('GET', 'session/', { isOpen: true })).data;
}

export async function logIn(user: string, password: string): Promise<void> {
  await call<unknown>('POST', 'sessions/', { body: { user, password }, isOpen: true });
}

/** The only call that keeps a session alive. */
export async function extendSession(): Promise<void> {
  await call<string>('PUT', 'session/');
}

export async function logOut(): Promise<void> {
  await call<string>('DELETE', 'session/', { isOpen: true });
}

export async function changePassword(user: string, old: string, next: string): Promise<void> {
  await call<string>('PUT', `users/${encodeURIComponent(user)}/password/`, { body: { old, new: next } });
}
