// `compute_pools/`, `compute_pool_cells/`: servers and how they are grouped.
// Shapes: services/gateway/routes/compute_pools.py, compute_pool_cells.py.

import { call } from './http';

export interface Pool {
  name: string;
  enabled: boolean;
  cells: number;
  /** The address pool; empty: addresses come from the physical network. */
  network: string;
}

export interface Cell {
  name: string;
  address?: string;
  enabled?: boolean;
  alive?: boolean;
  /** It has given its full account; before that it takes no instance. */
  confirmed?: boolean;
  simulated?: boolean;
}

export interface PooledCell extends Cell {
  pool: string;
}

export async function listPools(): Promise<Pool[]> {
  return (await call<Pool[] | null>('GET', 'compute_pools/')).data ?? [];
}

/** Every cell that is in a pool, pool by pool. */
export async function listCells(): Promise<PooledCell[]> {
  const pools = await listPools();
  const perPool = await Promise.all(
    pools.map(async ({ name }) => {
      const path = `compute_pool_cells/${encodeURIComponent(name)}`;
      const cells = (await call<Cell[] | null>('GET', path)).data ?? [];
      return cells.map((cell) => ({ ...cell, pool: name }));
    }),
  );
  return perPool.flat();
}
