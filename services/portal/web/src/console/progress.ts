// Where a console stands: what can happen next, in one place.

import type { Problem } from '../api/http';
import { backoffMs } from '../live/backoff';

export type Screen =
  | { is: 'off' }
  /** With the reason when the try before failed, which stays true until this one succeeds. */
  | { is: 'connecting'; attempt: number; reason?: Reason }
  | { is: 'connected' }
  /** Another try comes by itself. */
  | { is: 'waiting'; attempt: number; delayMs: number; reason: Reason }
  /** Another try would fail the same way: only a person starts one. */
  | { is: 'refused'; reason: Reason };

/** Why the last one ended: a word of ours, and the other side's own where they say more. */
export interface Reason {
  word: 'ended' | 'lost' | 'portal' | 'gateway' | 'refused' | 'handshake';
  detail: string;
}

export type Happening =
  | { what: 'running'; isRunning: boolean }
  | { what: 'opened' }
  | { what: 'closed'; code: number; detail: string }
  | { what: 'handshakeFailed'; detail: string }
  | { what: 'refused'; problem: Refusal }
  | { what: 'timer' }
  | { what: 'pressed' };

/** What is looked at of a `Problem`. */
type Refusal = Pick<Problem, 'status' | 'code' | 'subject' | 'message'>;

const NORMAL = 1000;
const SESSION_ENDED = 4401;
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
      // Another tab may have opened a session meanwhile: the next channel is of that one, or leads to the door.
      if (happening.code === SESSION_ENDED && screen.is === 'connected') {
        return { is: 'connecting', attempt: 0 };
      }
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
      const reason = reasonOf(happening.problem);
      if (PASSING(happening.problem.status)) return again(screen, reason, random);
      return screen.is === 'off' ? screen : { is: 'refused', reason };
    }
    case 'timer':
      return screen.is === 'waiting'
        ? { is: 'connecting', attempt: screen.attempt, reason: screen.reason }
        : screen;
    case 'pressed':
      return screen.is === 'off' || screen.is === 'connected' ? screen : { is: 'connecting', attempt: 0 };
  }
}

/** Who it was that did not answer, or that refused, and in the latter case why. */
function reasonOf({ code, subject, message }: Refusal): Reason {
  if (code === 'offline') return { word: 'portal', detail: '' };
  // Of what is farther away than the gateway the subject is an id, not an address.
  const isGateway = code === 'unreachable' && subject.includes('://');
  return isGateway ? { word: 'gateway', detail: '' } : { word: 'refused', detail: message };
}

function again(screen: Screen, reason: Reason, random: number): Screen {
  if (screen.is !== 'connecting' && screen.is !== 'connected') return screen;
  const attempt = screen.is === 'connecting' ? screen.attempt : 0;
  return { is: 'waiting', attempt: attempt + 1, delayMs: backoffMs(attempt, random), reason };
}
