// What `live/` sends. Documents are nouns of nano/model in their JSON form, not the documented REST shapes.

import type { Power, Runtime } from './guests';
import type { Task } from './tasks';
import type { ZoneStatus } from './zone';

/** nano/model/instance.py `Instance`, as far as pages look at it. */
export interface InstanceDocument {
  id: string;
  spec: {
    name: string;
    owner: string;
    group: string;
    pool: string;
    cores: number;
    memory_bytes: number;
    disks_bytes: number[];
    auto_start: boolean;
  };
  cell: string;
  mac: string;
  created: boolean;
  deleting: boolean;
  binding: { address: string; netmask: string } | null;
  simulated: boolean;
}

/** nano/model/instance.py `InstanceStatus`. */
export interface StatusDocument {
  instance: string;
  power: Power;
  agent: boolean;
  addresses: string[];
  reason: string;
}

/** nano/model/pool.py `Cell`. */
export interface CellDocument {
  id: string;
  pool: string | null;
  enabled: boolean;
  presence: 'online' | 'lost' | 'left' | 'removed';
  confirmed: boolean;
}

interface Told<K extends string, D> {
  kind: K;
  id: string;
  gone: boolean;
  /** The noun as it is now; null when it is gone. */
  document: D | null;
  cursor: string;
}

export type NounEvent =
  | Told<'instance', InstanceDocument>
  | Told<'status', StatusDocument>
  | Told<'task', Task>
  | Told<'cell', CellDocument>
  | Told<'image' | 'pool' | 'template' | 'address_pool' | 'lease', unknown>;

export type SampleEvent = Told<'sample', ZoneStatus | Runtime>;

export type LiveEvent = NounEvent | SampleEvent | Told<'hello' | 'reread' | 'lost' | 'found', unknown>;
