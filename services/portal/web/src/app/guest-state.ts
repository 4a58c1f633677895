// What an instance is to the person who looks at it, and what may be done with it: one table, tested row by row.

import type { Guest } from '../api/guests';
import { hasEnded, type Task } from '../api/tasks';

export type GuestState =
  | 'creating'
  | 'starting'
  | 'stopping'
  | 'rebooting'
  | 'deleting'
  | 'undoing'
  | 'running'
  | 'stopped'
  | 'paused'
  | 'lost';

export type Verb = 'start' | 'stop' | 'powerOff' | 'reboot' | 'reset' | 'console' | 'delete';

const STATE_OF_TASK: Record<string, GuestState> = {
  create_instance: 'creating',
  start_instance: 'starting',
  stop_instance: 'stopping',
  reboot_instance: 'rebooting',
  delete_instance: 'deleting',
  forget_instance: 'deleting',
};

export const VERBS: Record<GuestState, readonly Verb[]> = {
  creating: [],
  starting: [],
  stopping: [],
  rebooting: [],
  deleting: [],
  undoing: [],
  running: ['console', 'stop', 'reboot', 'powerOff', 'reset'],
  stopped: ['start', 'delete'],
  paused: ['powerOff', 'reset'],
  lost: [],
};

/** The task that has the instance in its hands now. */
export function activeTask(id: string, tasks: readonly Task[]): Task | undefined {
  return tasks.find((task) => task.subject === id && !hasEnded(task));
}

export function stateOf(guest: Guest, task: Task | undefined): GuestState {
  if (task) {
    if (task.state === 'undoing' || task.state === 'stuck') return 'undoing';
    const doing = STATE_OF_TASK[task.kind];
    if (doing) return doing;
  }
  if (!guest.created) return 'creating';
  if (guest.lost) return 'lost';
  return guest.status;
}

export function may(verb: Verb, state: GuestState): boolean {
  return VERBS[state].includes(verb);
}
