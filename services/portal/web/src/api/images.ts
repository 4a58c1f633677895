// `disk_image_search/`: what a disk can be cloned from. Shape: services/gateway/routes/images.py (`ImageItem`).

import { call } from './http';

export interface DiskImage {
  id: string;
  name: string;
  /** Bytes of the file; 0 until its first upload has ended well. */
  size: number;
  description?: string;
  tags?: string[];
  owner: string;
  group: string;
}

/** Those of a group; of `''`, every one, which is for operators. */
export async function listImages(group: string): Promise<DiskImage[]> {
  const query = group ? { group } : { all: 'true' };
  return (await call<DiskImage[] | null>('GET', 'disk_image_search/', { query })).data ?? [];
}
