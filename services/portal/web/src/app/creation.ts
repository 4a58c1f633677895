// The form of "create instance" as plain values: what it checks, what it sends, and the same for a terminal.

import type { CreateGuest } from '../api/guests';
import type { System } from '../api/system';
import { GIB, MIB } from '../i18n/format';
import { isCoreCount, isPlainName } from './names';

export interface Draft {
  name: string;
  image: string;
  /** As typed. */
  cores: string;
  /** GiB, as typed. */
  memory: string;
  /** GiB, as typed. */
  disk: string;
  template: string;
  pool: string;
  isStarted: boolean;
  isAutoStarted: boolean;
}

/** The members of the request, as the server names them in its refusals. */
export type DraftField = 'name' | 'from_image' | 'cores' | 'memory' | 'disks[0]' | 'template' | 'pool';
export type DraftFault =
  | 'required'
  | 'nameRule'
  | 'coreRule'
  | 'tooMuch'
  | 'tooLittle'
  | 'notANumber'
  | 'notACount';

const MEMORY_LEAST = 16 * MIB;
const DISK_LEAST = MIB;

/** `1.5`, also with a comma; NaN for anything else. */
export function numberOf(text: string): number {
  const plain = text.trim().replace(',', '.');
  return /^\d+(\.\d+)?$/.test(plain) ? Number(plain) : Number.NaN;
}

/** Whole MiB: what was typed in GiB. */
export function bytesOf(gib: string): number {
  return Math.round((numberOf(gib) * GIB) / MIB) * MIB;
}

/** Field by field, what the person who fills it in can see at once; the server judges the rest. */
export function faultsOf(draft: Draft, limits: Pick<System, 'max_cores' | 'max_memory' | 'max_disk'>) {
  const faults: Partial<Record<DraftField, DraftFault>> = {};
  if (!draft.name) faults.name = 'required';
  else if (!isPlainName(draft.name)) faults.name = 'nameRule';
  const cores = numberOf(draft.cores);
  if (Number.isNaN(cores)) faults.cores = 'notACount';
  else if (cores > limits.max_cores) faults.cores = 'tooMuch';
  else if (!isCoreCount(cores, limits.max_cores)) faults.cores = 'coreRule';
  const memory = bytesOf(draft.memory);
  if (Number.isNaN(memory)) faults.memory = 'notANumber';
  else if (memory > limits.max_memory * GIB) faults.memory = 'tooMuch';
  else if (memory < MEMORY_LEAST) faults.memory = 'tooLittle';
  const disk = bytesOf(draft.disk);
  if (Number.isNaN(disk)) faults['disks[0]'] = 'notANumber';
  else if (disk > limits.max_disk * GIB) faults['disks[0]'] = 'tooMuch';
  else if (disk < DISK_LEAST) faults['disks[0]'] = 'tooLittle';
  if (!draft.template) faults.template = 'required';
  if (!draft.pool) faults.pool = 'required';
  return faults;
}

export function bodyOf(draft: Draft): CreateGuest {
  return {
    name: draft.name,
    pool: draft.pool,
    cores: numberOf(draft.cores),
    memory: bytesOf(draft.memory),
    disks: [bytesOf(draft.disk)],
    template: draft.template,
    from_image: draft.image,
    // A clone of an image is taken to have the guest agent; a blank disk has nothing.
    modules: draft.image ? ['qemu'] : [],
    auto_start: draft.isAutoStarted,
  };
}

const WORD = /^[A-Za-z0-9_./:=-]+$/;

/** A word as a shell takes it. */
export function quoted(text: string): string {
  return WORD.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}

/** `512M`, `2G`: as nanoctl reads sizes. */
export function sizeWord(bytes: number): string {
  if (!Number.isFinite(bytes)) return '…';
  return bytes % GIB === 0 ? `${bytes / GIB}G` : `${Math.round(bytes / MIB)}M`;
}

export function commandOf(draft: Draft, names: { template: string; owner: string; group: string }): string {
  const words = ['nanoctl instance create', quoted(draft.name || '…')];
  if (draft.image) words.push(`--image ${quoted(draft.image)}`);
  words.push(`--template ${quoted(names.template)}`);
  words.push(`--cores ${draft.cores || '…'}`);
  words.push(`--memory ${sizeWord(bytesOf(draft.memory))}`);
  words.push(`--disk ${sizeWord(bytesOf(draft.disk))}`);
  words.push(`--pool ${quoted(draft.pool)}`);
  words.push(`--owner ${quoted(names.owner)} --group ${quoted(names.group)}`);
  if (draft.isAutoStarted) words.push('--auto-start');
  else if (draft.isStarted) words.push('--start');
  return words.join(' ');
}

/** The documented request, signed by the caller's own credential. */
export function requestOf(draft: Draft, owner: string, group: string): string {
  const body = bodyOf(draft);
  const shown = {
    ...body,
    cores: Number.isNaN(body.cores) ? null : body.cores,
    memory: Number.isNaN(body.memory) ? null : body.memory,
    owner,
    group,
  };
  return `POST /api/v1/guests/\nContent-Type: application/json\n\n${JSON.stringify(shown, null, 2)}`;
}
