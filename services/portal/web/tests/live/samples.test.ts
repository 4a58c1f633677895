import { describe, expect, test } from 'vitest';
import type { Runtime } from '../../src/api/guests';
import type { ZoneStatus } from '../../src/api/zone';
import { appended, GAP_MS, instancePoint, LENGTH, runs, zonePoint } from '../../src/live/samples';

const ZONE: ZoneStatus = {
  name: 'default',
  instances: [0, 1, 0, 0],
  cells: [0, 1],
  pools: [0, 1],
  cpu_usage: 12.5,
  max_cpu: 8,
  available_memory: 60,
  max_memory: 200,
  available_disk: 60,
  max_disk: 100,
  read_speed: 0,
  write_speed: 2,
  receive_speed: 3,
  send_speed: 4,
  start_time: '',
};

const RUNTIME: Runtime = {
  id: 'i1',
  running: true,
  memory: 100,
  cpu_usage: 5,
  memory_available: 40,
  bytes_read: 1000,
  bytes_written: 0,
  bytes_received: 0,
  bytes_sent: 0,
};

describe('a sample of the zone', () => {
  test('gives what is used', () => {
    expect(zonePoint(ZONE, 7)).toMatchObject({ atMs: 7, cpu: 12.5, memory: 70, disk: 40, read: 0, write: 2 });
  });

  test('that nobody measured gives nothing, not zero', () => {
    const unmeasured = { ...ZONE, max_memory: 0, max_disk: 0, cpu_usage: 0 };
    const { atMs: _at, ...values } = zonePoint(unmeasured, 0);
    expect(Object.values(values)).toEqual(Array(7).fill(null));
  });
});

describe('a sample of an instance', () => {
  const before = { runtime: RUNTIME, atMs: 1_000 };

  test('alone has no rates', () => {
    expect(instancePoint(RUNTIME, undefined, 1_000)).toMatchObject({ cpu: 5, memory: 60, read: null });
  });

  test('after another has the rate between them', () => {
    const grown = { ...RUNTIME, bytes_read: 5_000 };
    expect(instancePoint(grown, before, 3_000).read).toBe(2_000);
  });

  test('has no rate when counters began anew, or across a gap', () => {
    expect(instancePoint({ ...RUNTIME, bytes_read: 10 }, before, 3_000).read).toBeNull();
    expect(instancePoint({ ...RUNTIME, bytes_read: 9_000 }, before, 1_001 + GAP_MS).read).toBeNull();
  });

  test('of all zeros, or of one that is off, is no measurement', () => {
    const zeros = { ...RUNTIME, cpu_usage: 0, memory_available: 0, bytes_read: 0 };
    expect(instancePoint(zeros, before, 3_000)).toMatchObject({ cpu: null, memory: null, read: null });
    expect(instancePoint({ ...RUNTIME, running: false }, before, 3_000).cpu).toBeNull();
  });
});

test('a series keeps its newest points only', () => {
  let points: number[] = [];
  for (let n = 0; n < LENGTH + 5; n += 1) points = appended(points, n);
  expect(points).toHaveLength(LENGTH);
  expect(points.at(-1)).toBe(LENGTH + 4);
});

test('a curve breaks where nothing was measured, and where nothing came', () => {
  const at = (atMs: number, value: number | null) => ({ atMs, value });
  const found = runs([at(0, 1), at(2_000, 2), at(4_000, null), at(6_000, 3), at(6_001 + GAP_MS, 4)]);
  expect(found.map((run) => run.map((point) => point.value))).toEqual([[1, 2], [3], [4]]);
});
