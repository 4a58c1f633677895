// `system/`: whether somebody has set the portal up, and how large an instance may be (REST document, 9.1 and 9.2).

import { call } from './http';

export interface System {
  ready: boolean;
  max_cores: number;
  /** GiB. */
  max_memory: number;
  /** GiB. */
  max_disk: number;
  /** The first account needs the code that set-up printed. */
  code_required: boolean;
}

export interface FirstAccount {
  user: string;
  password: string;
  code: string;
}

export async function readSystem(): Promise<System> {
  return (await call<System>('GET', 'system/', { isOpen: true })).data;
}

export async function setUp(account: FirstAccount): Promise<void> {
  await call<string>('POST', 'system/', { body: account, isOpen: true });
}
