// What the menus of a session open: pages offer no way that would only end at a refusal. The server decides all
// the same (docs/portal.md, "Who may what").

import type { Session } from '../api/session';
import type { Route } from './router';

/** `acting` is creating instances, switching them, and their consoles. */
type Place = 'usage' | 'cells' | 'instances' | 'acting' | 'images' | 'tasks';

const OPENED_BY: Record<Place, readonly string[]> = {
  usage: ['dashboard'],
  cells: ['dashboard', 'compute_pool'],
  instances: ['instance', 'compute_pool', 'dashboard'],
  acting: ['instance'],
  images: ['instance', 'image'],
  tasks: ['instance', 'image', 'media', 'compute_pool', 'dashboard'],
};

export function opens({ menu }: Pick<Session, 'menu'>, place: Place): boolean {
  return OPENED_BY[place].some((one) => menu.includes(one));
}

/** Where an address leads this session: without the overview to the instances, without either nowhere; to a console
 * only where there may be one. */
export function allowed(route: Route, session: Pick<Session, 'menu'>): Route | { page: 'closed' } {
  const hasInstances = opens(session, 'instances');
  if (route.page === 'overview' && !opens(session, 'usage')) {
    return hasInstances
      ? { page: 'instances', keyword: '', offset: 0, isCreating: false }
      : { page: 'closed' };
  }
  if (route.page !== 'instances' && route.page !== 'instance') return route;
  if (!hasInstances) return { page: 'closed' };
  const isConsole = route.page === 'instance' && route.tab === 'console';
  return isConsole && !opens(session, 'acting') ? { ...route, tab: 'overview' } : route;
}
