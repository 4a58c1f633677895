// The live connection of the session, for whoever draws what it brings.

import { createContext, useContext, useEffect } from 'react';
import type { Live } from '../live/live';
import type { InstancePoint } from '../live/samples';
import { useStore } from '../live/store';

export const LiveContext = createContext<Live | null>(null);

export function useLive(): Live {
  const live = useContext(LiveContext);
  if (!live) throw new Error('useLive is for pages inside of a session');
  return live;
}

export function useInstanceSeries(id: string): InstancePoint[] {
  const live = useLive();
  useEffect(() => live.want(id), [live, id]);
  return useStore(live.instance(id));
}
