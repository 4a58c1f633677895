import { describe, expect, test } from 'vitest';
import type { Guest } from '../../src/api/guests';
import type { Task } from '../../src/api/tasks';
import { activeTask, type GuestState, may, stateOf, VERBS, type Verb } from '../../src/app/guest-state';

const GUEST = { id: 'i1', created: true, status: 'running', lost: false } as Guest;

function task(kind: string, state: Task['state'] = 'running'): Task {
  return { id: `${kind}-${state}`, kind, subject: 'i1', state } as Task;
}

describe('the state of an instance', () => {
  test.each<[Partial<Guest>, Task | undefined, GuestState]>([
    [{}, undefined, 'running'],
    [{ status: 'stopped' }, undefined, 'stopped'],
    [{ status: 'paused' }, undefined, 'paused'],
    [{ lost: true }, undefined, 'lost'],
    [{ created: false, lost: true }, undefined, 'creating'],
    [{ status: 'stopped' }, task('start_instance'), 'starting'],
    [{}, task('stop_instance'), 'stopping'],
    [{}, task('reboot_instance'), 'rebooting'],
    [{ lost: true }, task('forget_instance'), 'deleting'],
    [{ status: 'stopped' }, task('delete_instance'), 'deleting'],
    [{ created: false }, task('create_instance'), 'creating'],
    [{ created: false }, task('create_instance', 'undoing'), 'undoing'],
    [{ created: false }, task('create_instance', 'stuck'), 'undoing'],
    [{}, task('migrate_instance'), 'running'],
  ])('%o with task %o is %s', (change, doing, state) => {
    expect(stateOf({ ...GUEST, ...change }, doing)).toBe(state);
  });
});

test.each<[GuestState, Verb[]]>([
  ['running', ['console', 'stop', 'reboot', 'powerOff', 'reset']],
  ['stopped', ['start', 'delete']],
  ['paused', ['powerOff', 'reset']],
  ['lost', []],
  ['creating', []],
  ['starting', []],
  ['stopping', []],
  ['rebooting', []],
  ['deleting', []],
  ['undoing', []],
])('what is %s may be asked for %o', (state, verbs) => {
  expect(VERBS[state]).toEqual(verbs);
  for (const verb of verbs) expect(may(verb, state)).toBe(true);
  expect(may('start', state)).toBe(verbs.includes('start'));
});

test('the task that has it now is one that has not ended', () => {
  expect(activeTask('i1', [task('stop_instance', 'done'), task('start_instance')])?.kind).toBe(
    'start_instance',
  );
  expect(activeTask('i1', [task('stop_instance', 'failed'), task('x', 'cancelled')])).toBeUndefined();
  expect(activeTask('i2', [task('start_instance')])).toBeUndefined();
});
