// Where we are, by the part of the address behind `#`: it works below any path, and asks the server nothing.

import { useSyncExternalStore } from 'react';

export type InstanceTab = 'overview' | 'console';

export type Route =
  | { page: 'overview' }
  | { page: 'instances'; keyword: string; offset: number; isCreating: boolean }
  | { page: 'instance'; id: string; tab: InstanceTab }
  | { page: 'nowhere' };

/** What an address means: `#/instances?q=web&from=50`, `#/instances/<id>/console`. */
export function parse(hash: string): Route {
  const [path = '', query = ''] = hash.replace(/^#/, '').split('?', 2);
  const parts = path.split('/').filter(Boolean).map(decoded);
  const asked = new URLSearchParams(query);
  if (parts.length === 0 || (parts.length === 1 && parts[0] === 'overview')) return { page: 'overview' };
  if (parts[0] === 'instances' && parts.length === 1) {
    const offset = Number.parseInt(asked.get('from') ?? '0', 10);
    return {
      page: 'instances',
      keyword: asked.get('q') ?? '',
      offset: Number.isFinite(offset) && offset > 0 ? offset : 0,
      isCreating: asked.has('new'),
    };
  }
  if (parts[0] === 'instances' && parts[1] && (parts.length === 2 || parts.length === 3)) {
    const tab = parts[2] ?? 'overview';
    if (tab === 'overview' || tab === 'console') return { page: 'instance', id: parts[1], tab };
  }
  return { page: 'nowhere' };
}

/** `#/?code=…`, as a set-up may print it: behind `#`, so that no server or proxy logs it. */
export function codeOf(hash: string): string {
  return new URLSearchParams(hash.split('?', 2)[1] ?? '').get('code') ?? '';
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

export const paths = {
  overview: '#/',
  instances(asked: { keyword?: string; offset?: number; isCreating?: boolean } = {}): string {
    const query = new URLSearchParams();
    if (asked.keyword) query.set('q', asked.keyword);
    if (asked.offset) query.set('from', String(asked.offset));
    if (asked.isCreating) query.set('new', '');
    const text = query.toString().replace(/=(?=&|$)/g, '');
    return text ? `#/instances?${text}` : '#/instances';
  },
  instance(id: string, tab: InstanceTab = 'overview'): string {
    return `#/instances/${encodeURIComponent(id)}${tab === 'console' ? '/console' : ''}`;
  },
};

function subscribe(listener: () => void): () => void {
  window.addEventListener('hashchange', listener);
  return () => window.removeEventListener('hashchange', listener);
}

export function useHash(): string {
  return useSyncExternalStore(subscribe, () => window.location.hash);
}

/** `isReplacing` leaves no step for "back": for what is typed letter by letter. */
export function go(path: string, isReplacing = false): void {
  if (window.location.hash === path) return;
  if (isReplacing) {
    window.history.replaceState(null, '', path);
    window.dispatchEvent(new HashChangeEvent('hashchange'));
  } else {
    window.location.hash = path;
  }
}
