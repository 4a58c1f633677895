import { describe, expect, test } from 'vitest';
import type { CellDocument, InstanceDocument, NounEvent, StatusDocument } from '../../src/api/events';
import type { Guest, GuestPage } from '../../src/api/guests';
import type { Task, TaskPage } from '../../src/api/tasks';
import { needsReread, patchGuest, patchGuestPage, patchTasks, prefixOf } from '../../src/live/patches';

const GUEST: Guest = {
  id: 'i1',
  name: 'admin.web',
  created: false,
  progress: 20,
  running: false,
  owner: 'admin',
  group: 'admin',
  cores: 1,
  memory: 512,
  total_disk: 100,
  disks: [100],
  auto_start: false,
  internal: {},
  cell: 'Cell_1',
  status: 'stopped',
  agent: false,
  addresses: [],
};

const INSTANCE: InstanceDocument = {
  id: 'i1',
  spec: {
    name: 'web',
    owner: 'ann',
    group: 'ops',
    pool: 'default',
    cores: 2,
    memory_bytes: 1024,
    disks_bytes: [200, 50],
    auto_start: true,
  },
  cell: 'Cell_2',
  mac: '00:16:3e:00:00:01',
  created: true,
  deleting: false,
  binding: { address: '10.0.0.9', netmask: '255.255.255.0' },
  simulated: false,
};

const STATUS: StatusDocument = {
  instance: 'i1',
  power: 'running',
  agent: true,
  addresses: ['10.0.0.9', '10.0.0.10'],
  reason: '',
};

const TASK: Task = {
  id: 't1',
  kind: 'create_instance',
  subject: 'i1',
  name: 'admin.web-1',
  state: 'running',
  step: 'create_volumes',
  step_index: 3,
  step_count: 5,
  progress_percent: 60,
  cancellable: true,
  created_ms: 100,
  ended_ms: 0,
  error: null,
};

function told<K extends NounEvent['kind']>(kind: K, id: string, document: unknown): NounEvent {
  return { kind, id, gone: document === null, document, cursor: 'c' } as NounEvent;
}

function pageOf(...result: Guest[]): GuestPage {
  return { result, total: result.length, limit: 50, offset: 0 };
}

describe('an instance', () => {
  test('becomes what its record says, in the documented words', () => {
    expect(patchGuest(GUEST, told('instance', 'i1', INSTANCE))).toMatchObject({
      name: 'ops.web',
      owner: 'ann',
      cores: 2,
      memory: 1024,
      disks: [200, 50],
      total_disk: 250,
      created: true,
      cell: 'Cell_2',
      internal: { allocated_address: '10.0.0.9/24' },
    });
  });

  test('loses its address when its binding is gone', () => {
    const bound = patchGuest(GUEST, told('instance', 'i1', INSTANCE));
    const unbound = patchGuest(bound, told('instance', 'i1', { ...INSTANCE, binding: null }));
    expect(unbound.internal).toEqual({});
  });

  test('runs when its status says so', () => {
    expect(patchGuest(GUEST, told('status', 'i1', STATUS))).toMatchObject({
      running: true,
      status: 'running',
      agent: true,
      internal: { network_address: '10.0.0.9' },
    });
  });

  test('is paused, not running, with the reason', () => {
    const paused = { ...STATUS, power: 'paused', reason: 'its disk is full' };
    expect(patchGuest(GUEST, told('status', 'i1', paused))).toMatchObject({
      running: false,
      status: 'paused',
      reason: 'its disk is full',
    });
  });

  test.each<[CellDocument['presence'] | null, boolean]>([
    ['online', false],
    ['lost', true],
    ['left', true],
    [null, true],
  ])('on a cell that is %s is lost: %s', (presence, isLost) => {
    const document = presence && { id: 'Cell_1', pool: 'default', enabled: true, presence, confirmed: true };
    expect(patchGuest(GUEST, told('cell', 'Cell_1', document)).lost).toBe(isLost);
  });

  test('shows the progress of its creation, and of no other task', () => {
    expect(patchGuest(GUEST, told('task', 't1', TASK)).progress).toBe(60);
    expect(patchGuest(GUEST, told('task', 't1', { ...TASK, kind: 'start_instance' }))).toBe(GUEST);
    const created = { ...GUEST, created: true };
    expect(patchGuest(created, told('task', 't1', TASK))).toBe(created);
  });

  test('is the same object after an event about something else', () => {
    expect(patchGuest(GUEST, told('instance', 'i2', INSTANCE))).toBe(GUEST);
    expect(patchGuest(GUEST, told('cell', 'Cell_9', null))).toBe(GUEST);
    expect(patchGuest(GUEST, told('image', 'x', {}))).toBe(GUEST);
  });
});

describe('a page of instances', () => {
  const other = { ...GUEST, id: 'i2', name: 'admin.db' };

  test('drops what is gone and counts one less', () => {
    const page = patchGuestPage(pageOf(GUEST, other), told('instance', 'i1', null));
    expect(page.result.map((guest) => guest.id)).toEqual(['i2']);
    expect(page.total).toBe(1);
  });

  test('changes only the row that the event is about', () => {
    const page = pageOf(GUEST, other);
    const after = patchGuestPage(page, told('status', 'i1', STATUS));
    expect(after.result[0]?.running).toBe(true);
    expect(after.result[1]).toBe(other);
    expect(patchGuestPage(page, told('status', 'i9', STATUS))).toBe(page);
  });

  test('is read again for an instance that it does not have, and when a gap has come up', () => {
    expect(needsReread(pageOf(GUEST), told('instance', 'i2', INSTANCE))).toBe(true);
    expect(needsReread(pageOf(GUEST), told('instance', 'i1', INSTANCE))).toBe(false);
    expect(needsReread(pageOf(GUEST), told('instance', 'i1', null))).toBe(false);
    expect(needsReread({ ...pageOf(GUEST), total: 60 }, told('instance', 'i1', null))).toBe(true);
    expect(needsReread(pageOf(GUEST), told('status', 'i2', STATUS))).toBe(false);
  });
});

describe('the tasks', () => {
  const page: TaskPage = { tasks: [TASK], total: 1 };

  test('take a new one in front, by its time', () => {
    const newer = { ...TASK, id: 't2', created_ms: 200 };
    const older = { ...TASK, id: 't0', created_ms: 50 };
    const after = [newer, older].reduce((one, task) => patchTasks(one, told('task', task.id, task), 9), page);
    expect(after.tasks.map((task) => task.id)).toEqual(['t2', 't1', 't0']);
    expect(after.total).toBe(3);
  });

  test('replace one in its place', () => {
    const done: Task = { ...TASK, state: 'done', progress_percent: 100 };
    expect(patchTasks(page, told('task', 't1', done), 9)).toEqual({ tasks: [done], total: 1 });
  });

  test('forget what is gone and keep no more than asked for', () => {
    expect(patchTasks(page, told('task', 't1', null), 9)).toEqual({ tasks: [], total: 0 });
    expect(patchTasks(page, told('task', 't9', null), 9)).toBe(page);
    const newer = { ...TASK, id: 't2', created_ms: 200 };
    expect(patchTasks(page, told('task', 't2', newer), 1).tasks).toEqual([newer]);
  });
});

test.each([
  ['255.255.255.0', 24],
  ['255.255.240.0', 20],
  ['255.255.255.255', 32],
  ['0.0.0.0', 0],
])('the prefix of %s is %i', (netmask, bits) => {
  expect(prefixOf(netmask)).toBe(bits);
});
