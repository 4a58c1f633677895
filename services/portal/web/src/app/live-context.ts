// The live connection of the session.

import { createContext, useContext } from 'react';
import type { Live } from '../live/live';

export const LiveContext = createContext<Live | null>(null);

export function useLive(): Live {
  const live = useContext(LiveContext);
  if (!live) throw new Error('useLive is for pages inside of a session');
  return live;
}
