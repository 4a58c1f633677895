// What people do to instances, with what the server said to it kept beside the instance.

import { useMemo } from 'react';
import { deleteGuest, startGuest, stopGuest } from '../api/guests';
import { isProblem, Problem } from '../api/http';
import { cancelTask } from '../api/tasks';
import { Store } from '../live/store';
import type { Verb } from './guest-state';

/** Refusals by instance id, until the next try or until somebody puts them away. */
export const refusals = new Store<ReadonlyMap<string, Problem>>(new Map());
/** Tasks that ended badly and were put away. */
export const dismissed = new Store<ReadonlySet<string>>(new Set());
/** Grows when somebody starts something, so that the drawer shows it. */
export const started = new Store(0);

export function refuse(id: string, problem: Problem): void {
  refusals.set(new Map(refusals.get()).set(id, problem));
}

export function forgive(id: string): void {
  if (!refusals.get().has(id)) return;
  const left = new Map(refusals.get());
  left.delete(id);
  refusals.set(left);
}

export function dismissTask(id: string): void {
  dismissed.set(new Set(dismissed.get()).add(id));
}

/** One person's own work has begun. */
export function announceStart(): void {
  started.set(started.get() + 1);
}

const CALLS: Record<Exclude<Verb, 'console'>, (id: string) => Promise<unknown>> = {
  start: startGuest,
  stop: (id) => stopGuest(id, false, false),
  powerOff: (id) => stopGuest(id, false, true),
  reboot: (id) => stopGuest(id, true, false),
  reset: (id) => stopGuest(id, true, true),
  delete: deleteGuest,
};

/** A failure stays in `refusals`; nothing is thrown. */
export async function perform(verb: Exclude<Verb, 'console'>, id: string): Promise<void> {
  forgive(id);
  announceStart();
  try {
    await CALLS[verb](id);
  } catch (error) {
    refuse(id, isProblem(error) ? error : new Problem(0, 'error', String(error)));
  }
}

const AT_ONCE = 4;

/** The same for many, a few at a time. */
export async function performAll(verb: Exclude<Verb, 'console'>, ids: readonly string[]): Promise<void> {
  const waiting = [...ids];
  const worker = async (): Promise<void> => {
    for (let id = waiting.shift(); id !== undefined; id = waiting.shift()) await perform(verb, id);
  };
  await Promise.all(Array.from({ length: Math.min(AT_ONCE, ids.length) }, worker));
}

export function useCancel(): (taskId: string, subject: string) => Promise<void> {
  return useMemo(
    () => async (taskId, subject) => {
      try {
        await cancelTask(taskId);
      } catch (error) {
        refuse(subject, isProblem(error) ? error : new Problem(0, 'error', String(error)));
      }
    },
    [],
  );
}
