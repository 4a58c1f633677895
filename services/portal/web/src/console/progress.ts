// Where a console stands: what can happen next, in one place.

import { backoffMs } from '../live/backoff';

export type Screen =
  | { is: 'off' }
  | { is: 'connecting'; attempt: number }
  | { is: 'connected' }
  /** Another try comes by itself. */
  | { is: 'waiting'; attempt: number; delayMs: number; reason: Reason }
  /** Another try would fail the same way: only a person starts one. */
  | { is: 'refused'; reason: Reason };

/** Why the last one ended: a word of ours, and the other side's own where it gave any. */
interface Reason {
  word: 'ended' | 'lost' | 'refused' | 'handshake';
  detail: string;
}

export type Happening =
  | { what: 'running'; isRunning: boolean }
  | { what: 'opened' }
  | { what: 'closed'; code: number; detail: string }
  | { what: 'handshakeFailed'; detail: string }
  | { what: 'refused'; status: number; detail: string }
  | { what: 'timer' }
  | { what: 'pressed' };

const NORMAL = 1000;
/** A conflict passes (the instance is just starting), so does an unreached server; the rest does not. */
const PASSING = (status: number): boolean =>
  status === 0 || status === 409 || status === 429 || status >= 500;

export function next(screen: Screen, happening: Happening, random: number): Screen {
  switch (happening.what) {
    case 'running':
      if (!happening.isRunning) return { is: 'off' };
      return screen.is === 'off' ? { is: 'connecting', attempt: 0 } : screen;
    case 'opened':
      return screen.is === 'connecting' ? { is: 'connected' } : screen;
    case 'closed':
      return again(
        screen,
        { word: happening.code === NORMAL ? 'ended' : 'lost', detail: happening.detail },
        random,
      );
    case 'handshakeFailed':
      return screen.is === 'off'
        ? screen
        : { is: 'refused', reason: { word: 'handshake', detail: happening.detail } };
    case 'refused': {
      const reason: Reason = { word: 'refused', detail: happening.detail };
      if (PASSING(happening.status)) return again(screen, reason, random);
      return screen.is === 'off' ? screen : { is: 'refused', reason };
    }
    case 'timer':
      return screen.is === 'waiting' ? { is: 'connecting', attempt: screen.attempt } : screen;
    case 'pressed':
      return screen.is === 'off' || screen.is === 'connected' ? screen : { is: 'connecting', attempt: 0 };
  }
}

function again(screen: Screen, reason: Reason, random: number): Screen {
  if (screen.is !== 'connecting' && screen.is !== 'connected') return screen;
  const attempt = screen.is === 'connecting' ? screen.attempt : 0;
  return { is: 'waiting', attempt: attempt + 1, delayMs: backoffMs(attempt, random), reason };
}
