// What an event means for what is on the page: pure, so that each row is tested without a socket.

import type {
  CellDocument,
  InstanceDocument,
  LiveEvent,
  NounEvent,
  SampleEvent,
  StatusDocument,
} from '../api/events';
import type { Guest, GuestPage } from '../api/guests';
import type { Task, TaskPage } from '../api/tasks';

export function isSample(event: LiveEvent): event is SampleEvent {
  return event.kind === 'sample';
}

const NOUNS = new Set([
  'instance',
  'status',
  'task',
  'cell',
  'image',
  'pool',
  'template',
  'address_pool',
  'lease',
]);

export function isNoun(event: LiveEvent): event is NounEvent {
  return NOUNS.has(event.kind);
}

/** The guest after the event; the same object when it says nothing about it. */
export function patchGuest(guest: Guest, event: NounEvent): Guest {
  if (event.kind === 'cell') {
    return guest.cell === event.id ? withCell(guest, event.document) : guest;
  }
  if (event.kind === 'task') {
    const task = event.document;
    const isItsCreation = task?.subject === guest.id && task.kind === 'create_instance' && !guest.created;
    return isItsCreation ? { ...guest, progress: task.progress_percent } : guest;
  }
  if (event.id !== guest.id || event.document === null) return guest;
  if (event.kind === 'instance') return withInstance(guest, event.document);
  if (event.kind === 'status') return withStatus(guest, event.document);
  return guest;
}

function withInstance(guest: Guest, document: InstanceDocument): Guest {
  const { spec, binding } = document;
  const internal = { ...guest.internal };
  if (binding) internal.allocated_address = `${binding.address}/${prefixOf(binding.netmask)}`;
  else delete internal.allocated_address;
  return {
    ...guest,
    name: `${spec.group}.${spec.name}`,
    owner: spec.owner,
    group: spec.group,
    pool: spec.pool,
    cores: spec.cores,
    memory: spec.memory_bytes,
    disks: spec.disks_bytes,
    total_disk: spec.disks_bytes.reduce((sum, size) => sum + size, 0),
    auto_start: spec.auto_start,
    cell: document.cell,
    ethernet_address: document.mac,
    created: document.created,
    simulated: document.simulated,
    internal,
  };
}

function withStatus(guest: Guest, document: StatusDocument): Guest {
  const internal = { ...guest.internal };
  const first = document.addresses[0];
  if (first) internal.network_address = first;
  else delete internal.network_address;
  return {
    ...guest,
    status: document.power,
    running: document.power === 'running',
    agent: document.agent,
    addresses: document.addresses,
    reason: document.reason,
    internal,
  };
}

function withCell(guest: Guest, document: CellDocument | null): Guest {
  return { ...guest, lost: document === null || document.presence !== 'online' };
}

/** `255.255.255.0` is 24. */
export function prefixOf(netmask: string): number {
  return netmask
    .split('.')
    .map((octet) => Number(octet).toString(2).replaceAll('0', '').length)
    .reduce((sum, bits) => sum + bits, 0);
}

export function patchGuestPage(page: GuestPage, event: NounEvent): GuestPage {
  if (event.kind === 'instance' && event.gone) {
    const result = page.result.filter((guest) => guest.id !== event.id);
    if (result.length === page.result.length) return page;
    return { ...page, result, total: Math.max(0, page.total - 1) };
  }
  let hasChanged = false;
  const result = page.result.map((guest) => {
    const next = patchGuest(guest, event);
    if (next !== guest) hasChanged = true;
    return next;
  });
  return hasChanged ? { ...page, result } : page;
}

/** Whether a list must be read again: who is on a page, and in which order, only the server knows. */
export function needsReread(page: GuestPage, event: NounEvent): boolean {
  if (event.kind !== 'instance') return false;
  const isHere = page.result.some((guest) => guest.id === event.id);
  return event.gone ? isHere && page.total > page.result.length : !isHere;
}

/** The newest first, one line per task, no longer than it was asked for. */
export function patchTasks(page: TaskPage, event: NounEvent, limit: number): TaskPage {
  if (event.kind !== 'task') return page;
  const known = page.tasks.findIndex((task) => task.id === event.id);
  if (event.document === null) {
    if (known < 0) return page;
    return { tasks: page.tasks.filter((task) => task.id !== event.id), total: page.total - 1 };
  }
  const task = event.document;
  if (known >= 0) {
    return { ...page, tasks: page.tasks.map((one) => (one.id === task.id ? task : one)) };
  }
  const tasks = [task, ...page.tasks].sort(newestFirst).slice(0, limit);
  return { tasks, total: page.total + 1 };
}

function newestFirst(one: Task, other: Task): number {
  return other.created_ms - one.created_ms || (one.id < other.id ? 1 : -1);
}
