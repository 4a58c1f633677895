// "Start it when it is created": waits for the end of the creation, which may take longer than anybody looks.

import type { QueryClient } from '@tanstack/react-query';
import { hasEnded, type TaskPage } from '../api/tasks';
import { perform } from './actions';
import { KEYS } from './queries';

/** Starts `instance` once `task` is done; forgets it when that fails or is cancelled. */
export function startAfter(queries: QueryClient, task: string, instance: string): void {
  const look = (): boolean => {
    const page = queries.getQueryData<TaskPage>(KEYS.tasks);
    const found = page?.tasks.find((one) => one.id === task);
    if (!found || !hasEnded(found)) return false;
    if (found.state === 'done') void perform('start', instance);
    return true;
  };
  if (look()) return;
  const stop = queries.getQueryCache().subscribe((event) => {
    if (event.query.queryKey[0] === KEYS.tasks[0] && event.type === 'updated' && look()) stop();
  });
}
