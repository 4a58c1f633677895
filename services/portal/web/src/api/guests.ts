// `guests/`, `search/guests/`, `instances/`: instances, in the documented words.
// Shapes: services/gateway/routes/guests.py (`Guest`, `CreateGuest`), routes/instances.py (`Runtime`).

import { type Answer, call } from './http';

export type Power = 'stopped' | 'running' | 'paused';

interface AddressSet {
  network_address?: string;
  /** What our DHCP gives, with the prefix length. */
  allocated_address?: string;
}

export interface Guest {
  id: string;
  /** `<group>.<name>` */
  name: string;
  created: boolean;
  /** Percent, while it is being created. */
  progress: number;
  running: boolean;
  owner: string;
  group: string;
  cores: number;
  /** Bytes. */
  memory: number;
  /** Bytes, of all disks. */
  total_disk: number;
  disks: number[];
  auto_start: boolean;
  internal: AddressSet;
  /** Its cell is silent: what is shown is what was last known. */
  lost?: boolean;
  pool?: string;
  cell?: string;
  host?: string;
  system?: string;
  ethernet_address?: string;
  /** In the server's own time zone, without one: `2026-11-29 09:20:00`. */
  create_time?: string;
  status: Power;
  agent: boolean;
  /** All that the guest itself reports. */
  addresses: string[];
  /** Why it is paused, or stopped when nobody asked for it. */
  reason?: string;
  simulated?: boolean;
}

/** What a running instance uses; counters grow from its start. */
export interface Runtime {
  id: string;
  running: boolean;
  memory: number;
  /** Percent of all its cores. */
  cpu_usage: number;
  memory_available: number;
  bytes_read: number;
  bytes_written: number;
  bytes_received: number;
  bytes_sent: number;
}

export interface GuestSearch {
  keyword: string;
  all: boolean;
  limit: number;
  offset: number;
}

export interface GuestPage {
  result: Guest[];
  total: number;
  limit: number;
  offset: number;
}

export interface CreateGuest {
  name: string;
  pool: string;
  cores: number;
  /** Bytes. */
  memory: number;
  /** Bytes; the system disk first. */
  disks: number[];
  template: string;
  from_image: string;
  modules: string[];
  auto_start: boolean;
}

export async function searchGuests(search: GuestSearch, signal?: AbortSignal): Promise<GuestPage> {
  const body: Record<string, unknown> = { limit: search.limit, offset: search.offset };
  if (search.keyword) body.keyword = search.keyword;
  if (search.all) body.all = true;
  const answer = await call<GuestPage>('POST', 'search/guests/', { body, ...(signal && { signal }) });
  return { ...answer.data, result: answer.data.result ?? [] };
}

export async function readGuest(id: string, signal?: AbortSignal): Promise<Guest> {
  return (await call<Guest>('GET', `guests/${id}`, signal && { signal })).data;
}

export async function createGuest(wanted: CreateGuest, key: string): Promise<Answer<{ id: string }>> {
  return call<{ id: string }>('POST', 'guests/', { body: wanted, idempotencyKey: key });
}

export async function deleteGuest(id: string): Promise<Answer<unknown>> {
  return call<unknown>('DELETE', `guests/${id}`, { body: {} });
}

export async function startGuest(id: string): Promise<Answer<unknown>> {
  return call<unknown>('POST', `instances/${id}`, { body: {} });
}

/** (false, false) asks the guest to shut down, (false, true) pulls the plug, (true, …) the same and on again. */
export async function stopGuest(id: string, reboot: boolean, force: boolean): Promise<Answer<unknown>> {
  return call<unknown>('DELETE', `instances/${id}`, { body: { reboot, force } });
}

/** The name without its group. */
export function shortName(guest: Pick<Guest, 'name' | 'group'>): string {
  return guest.name.startsWith(`${guest.group}.`) ? guest.name.slice(guest.group.length + 1) : guest.name;
}

/** What its owner would type to reach it; empty when nobody knows. */
export function addressOf(guest: Pick<Guest, 'internal'>): string {
  const allocated = guest.internal.allocated_address?.split('/')[0];
  return allocated || guest.internal.network_address || '';
}
