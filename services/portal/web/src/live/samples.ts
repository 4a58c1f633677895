// Measurements as they came in, kept while the page is open. What was not measured stays a gap.

import type { Runtime } from '../api/guests';
import { isMeasured, type ZoneStatus } from '../api/zone';

/** Five minutes of a sample each two seconds. */
export const LENGTH = 150;
/** A longer silence than this is a gap, not a line. */
export const GAP_MS = 7_000;

/** One point of a curve; null says that nobody measured. */
export interface Point {
  atMs: number;
  value: number | null;
}

export interface ZonePoint {
  atMs: number;
  /** Percent, like the two below. */
  cpu: number | null;
  memory: number | null;
  disk: number | null;
  read: number | null;
  write: number | null;
  receive: number | null;
  send: number | null;
}

export interface InstancePoint {
  atMs: number;
  cpu: number | null;
  memory: number | null;
  read: number | null;
  write: number | null;
  receive: number | null;
  send: number | null;
}

/** Percent; of what there was at that time, which may be another amount now. */
const used = (available: number, most: number): number | null =>
  most > 0 ? ((most - available) / most) * 100 : null;

export function zonePoint(zone: ZoneStatus, atMs: number): ZonePoint {
  const measured = isMeasured(zone);
  const or = (value: number): number | null => (measured ? value : null);
  return {
    atMs,
    cpu: or(zone.cpu_usage),
    memory: used(zone.available_memory, zone.max_memory),
    disk: used(zone.available_disk, zone.max_disk),
    read: or(zone.read_speed),
    write: or(zone.write_speed),
    receive: or(zone.receive_speed),
    send: or(zone.send_speed),
  };
}

/** All zeros is what the gateway answers for an instance that it has no sample of. */
function isRuntimeMeasured(runtime: Runtime): boolean {
  return (
    runtime.running &&
    (runtime.cpu_usage > 0 ||
      runtime.memory_available > 0 ||
      runtime.bytes_read + runtime.bytes_written + runtime.bytes_received + runtime.bytes_sent > 0)
  );
}

/** Rates are differences of counters: none for the first sample, after a restart, or across a gap. */
export function instancePoint(
  runtime: Runtime,
  before: { runtime: Runtime; atMs: number } | undefined,
  atMs: number,
): InstancePoint {
  const measured = isRuntimeMeasured(runtime);
  const elapsedS = before ? (atMs - before.atMs) / 1000 : 0;
  const isNear = before !== undefined && elapsedS > 0 && atMs - before.atMs <= GAP_MS;
  const rate = (name: 'bytes_read' | 'bytes_written' | 'bytes_received' | 'bytes_sent'): number | null => {
    if (!measured || !isNear || !isRuntimeMeasured(before.runtime)) return null;
    const grown = runtime[name] - before.runtime[name];
    return grown >= 0 ? grown / elapsedS : null;
  };
  return {
    atMs,
    cpu: measured ? runtime.cpu_usage : null,
    memory: measured && runtime.memory_available > 0 ? runtime.memory - runtime.memory_available : null,
    read: rate('bytes_read'),
    write: rate('bytes_written'),
    receive: rate('bytes_received'),
    send: rate('bytes_sent'),
  };
}

/** The same list with one more, and no longer than `LENGTH`. */
export function appended<P>(points: readonly P[], point: P): P[] {
  return [...points.slice(Math.max(0, points.length - LENGTH + 1)), point];
}

/** Runs of points that belong together: a null or a gap ends one. */
export function runs(points: readonly Point[]): { atMs: number; value: number }[][] {
  const found: { atMs: number; value: number }[][] = [];
  let run: { atMs: number; value: number }[] = [];
  for (const { atMs, value } of points) {
    const last = run.at(-1);
    if (value === null || (last && atMs - last.atMs > GAP_MS)) {
      if (run.length) found.push(run);
      run = [];
    }
    if (value !== null) run.push({ atMs, value });
  }
  if (run.length) found.push(run);
  return found;
}
