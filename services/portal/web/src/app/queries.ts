// What the pages know of the server: read once, then kept true by the event stream.

import { keepPreviousData, QueryClient, useQuery } from '@tanstack/react-query';
import { useEffect } from 'react';
import { listCells, listPools } from '../api/cells';
import { type GuestSearch, readGuest, searchGuests } from '../api/guests';
import { isProblem } from '../api/http';
import { listImages } from '../api/images';
import { readSystem } from '../api/system';
import { listTasks, listTasksOf } from '../api/tasks';
import { listTemplates } from '../api/templates';
import { readZone } from '../api/zone';
import { useLive } from './live-context';
import { opens } from './menus';
import { useSession } from './who';

export const TASKS_KEPT = 100;
const TASKS_OF_ONE = 20;

export const KEYS = {
  system: ['system'],
  session: ['session'],
  guestPages: ['guest-pages'],
  names: ['names'],
  guests: ['guest'],
  guest: (id: string) => ['guest', id],
  tasks: ['tasks'],
  tasksOfAny: ['tasks-of'],
  tasksOf: (subject: string) => ['tasks-of', subject],
  zone: ['zone'],
  cells: ['cells'],
  images: ['images'],
  templates: ['templates'],
} as const;

export function newQueryClient(): QueryClient {
  return new QueryClient({
    defaultOptions: {
      queries: {
        staleTime: Number.POSITIVE_INFINITY,
        refetchOnWindowFocus: false,
        refetchOnReconnect: false,
        // What the server refused it would refuse again; what was not reached may be back.
        retry: (count, error) => count < 2 && isProblem(error) && (error.status === 0 || error.status >= 502),
      },
    },
  });
}

export function useSystem() {
  return useQuery({ queryKey: KEYS.system, queryFn: readSystem });
}

export function useGuestPage(search: GuestSearch) {
  const live = useLive();
  const found = useQuery({
    queryKey: [...KEYS.guestPages, search],
    queryFn: ({ signal }) => searchGuests(search, signal),
    placeholderData: keepPreviousData,
  });
  const { data } = found;
  useEffect(() => {
    if (data) live.learnNames(data.result);
  }, [data, live]);
  return found;
}

export function useGuest(id: string) {
  const live = useLive();
  const found = useQuery({ queryKey: KEYS.guest(id), queryFn: ({ signal }) => readGuest(id, signal) });
  const { data } = found;
  useEffect(() => {
    if (data) live.learnNames([data]);
  }, [data, live]);
  return found;
}

const NAMES = 500;

/** Tasks name instances by id only: their names are read once, and learnt from events afterwards. */
export function useNames(): void {
  const live = useLive();
  const session = useSession();
  const found = useQuery({
    queryKey: KEYS.names,
    queryFn: () => searchGuests({ keyword: '', all: session.operator, limit: NAMES, offset: 0 }),
    enabled: opens(session, 'instances'),
  });
  const { data } = found;
  useEffect(() => {
    if (data) live.learnNames(data.result);
  }, [data, live]);
}

/** The newest tasks of the zone that the session may see; events keep them true. */
export function useTasks() {
  const enabled = opens(useSession(), 'tasks');
  return useQuery({ queryKey: KEYS.tasks, queryFn: () => listTasks(TASKS_KEPT), enabled });
}

/** Older tasks of one instance than `useTasks` may hold. */
export function useTasksOf(subject: string) {
  return useQuery({ queryKey: KEYS.tasksOf(subject), queryFn: () => listTasksOf(subject, TASKS_OF_ONE) });
}

export function useZone() {
  return useQuery({ queryKey: KEYS.zone, queryFn: readZone, enabled: opens(useSession(), 'usage') });
}

export function useCells() {
  return useQuery({ queryKey: KEYS.cells, queryFn: listCells, enabled: opens(useSession(), 'cells') });
}

export function usePools() {
  return useQuery({ queryKey: [...KEYS.cells, 'pools'], queryFn: listPools });
}

/** What the session may clone from: operators every image, others those of their group. */
export function useImages() {
  const session = useSession();
  const group = session.operator ? '' : session.group;
  return useQuery({
    queryKey: [...KEYS.images, group],
    queryFn: () => listImages(group),
    enabled: opens(session, 'images'),
  });
}

export function useTemplates() {
  return useQuery({ queryKey: KEYS.templates, queryFn: listTemplates });
}
