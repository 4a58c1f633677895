// What the live connection brings, for whoever draws it.

import { useEffect } from 'react';
import type { InstancePoint } from '../live/samples';
import { useStore } from '../live/store';
import { useLive } from './live-context';
import { useZone } from './queries';

/** What the zone has and uses: the newest sample, or what was read since. */
export function useZoneNow() {
  const live = useLive();
  const read = useZone();
  const sample = useStore(live.zoneNow);
  const sampledMs = useStore(live.zone).at(-1)?.atMs ?? 0;
  const zone = sample && sampledMs >= read.dataUpdatedAt ? sample : (read.data ?? sample ?? undefined);
  return { zone, error: read.error, refetch: read.refetch };
}

export function useInstanceSeries(id: string): InstancePoint[] {
  const live = useLive();
  useEffect(() => live.want(id), [live, id]);
  return useStore(live.instance(id));
}
