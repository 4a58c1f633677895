// `compute_zone_status/`: what the zone has and uses. Shape: services/gateway/routes/usage.py (`ZoneStatus`).

import { call } from './http';

export interface ZoneStatus {
  name: string;
  /** Stopped, running, lost, migrating. */
  instances: [number, number, number, number];
  /** Offline, online. */
  cells: [number, number];
  /** Disabled, enabled. */
  pools: [number, number];
  /** Percent of all measured cores. */
  cpu_usage: number;
  max_cpu: number;
  /** Bytes; the maximum is 0 as long as nobody has measured. */
  available_memory: number;
  max_memory: number;
  available_disk: number;
  max_disk: number;
  /** Bytes a second. */
  read_speed: number;
  write_speed: number;
  receive_speed: number;
  send_speed: number;
  start_time: string;
}

export async function readZone(): Promise<ZoneStatus> {
  return (await call<ZoneStatus>('GET', 'compute_zone_status/')).data;
}

/** A zone whose cells have given no sample yet shows zeros that nobody measured. */
export function isMeasured(zone: Pick<ZoneStatus, 'max_memory'>): boolean {
  return zone.max_memory > 0;
}
