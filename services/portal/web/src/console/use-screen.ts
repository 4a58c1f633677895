// Ties noVNC to the page: opens a channel when the instance runs, comes back when it breaks, closes on leaving.

import RFB from '@novnc/novnc';
import { type RefObject, useCallback, useEffect, useReducer, useRef } from 'react';
import { channelUrl, openChannel } from '../api/consoles';
import { isProblem } from '../api/http';
import type { KeyEvent } from './keys';
import { type Happening, next, type Screen } from './progress';

interface ScreenHandle {
  screen: Screen;
  /** Try again now. */
  reconnect: () => void;
  send: (events: readonly KeyEvent[]) => void;
  focus: () => void;
  blur: () => void;
}

export function useScreen(
  target: RefObject<HTMLElement | null>,
  guest: string,
  isRunning: boolean,
  isFitted: boolean,
): ScreenHandle {
  const [screen, happen] = useReducer(
    (before: Screen, happening: Happening) => next(before, happening, Math.random()),
    { is: 'off' } as Screen,
  );
  const rfb = useRef<RFB | null>(null);
  const fitted = useRef(isFitted);

  useEffect(() => happen({ what: 'running', isRunning }), [isRunning]);

  // Each time that we connect there is a new channel: its id is good once.
  const isTrying = screen.is === 'connecting';
  const isHeld = screen.is === 'connecting' || screen.is === 'connected';
  const socket = useRef<WebSocket | null>(null);
  useEffect(() => {
    if (!isTrying) return;
    const leaving = new AbortController();
    void connect(leaving.signal);
    return () => leaving.abort();

    async function connect(signal: AbortSignal): Promise<void> {
      try {
        const channel = await openChannel(guest, signal);
        const place = target.current;
        if (signal.aborted || !place) return;
        attach(place, new WebSocket(channelUrl(channel), ['binary']), channel.username, channel.password);
      } catch (error) {
        if (signal.aborted) return;
        if (!isProblem(error)) throw error;
        happen({ what: 'refused', problem: error });
      }
    }

    function attach(place: HTMLElement, own: WebSocket, username: string, password: string): void {
      const client = new RFB(place, own, { shared: true });
      socket.current = own;
      rfb.current = client;
      client.scaleViewport = fitted.current;
      client.clipViewport = false;
      client.resizeSession = false;
      client.focusOnClick = true;
      client.showDotCursor = true;
      client.background = 'transparent';
      client.addEventListener('connect', () => happen({ what: 'opened' }));
      client.addEventListener('credentialsrequired', () => {
        (client as unknown as { sendCredentials: (given: object) => void }).sendCredentials({
          username,
          password,
        });
      });
      client.addEventListener('securityfailure', (event) => {
        const { reason } = (event as CustomEvent<{ reason?: string }>).detail;
        happen({ what: 'handshakeFailed', detail: reason ?? '' });
      });
      // noVNC takes the handlers of the socket for itself; a listener beside them sees code and reason.
      own.addEventListener('close', (event) => {
        if (socket.current !== own) return;
        rfb.current = null;
        socket.current = null;
        happen({ what: 'closed', code: event.code, detail: event.reason });
      });
    }
  }, [isTrying, guest, target]);

  useEffect(() => {
    if (isHeld) return;
    drop(rfb, socket);
  }, [isHeld]);
  useEffect(() => () => drop(rfb, socket), []);

  const delayMs = screen.is === 'waiting' ? screen.delayMs : -1;
  useEffect(() => {
    if (delayMs < 0) return;
    const timer = setTimeout(() => happen({ what: 'timer' }), delayMs);
    return () => clearTimeout(timer);
  }, [delayMs]);

  useEffect(() => {
    fitted.current = isFitted;
    if (rfb.current) rfb.current.scaleViewport = isFitted;
  }, [isFitted]);

  return {
    screen,
    reconnect: useCallback(() => happen({ what: 'pressed' }), []),
    send: useCallback((events) => {
      for (const { keysym, code, isDown } of events) rfb.current?.sendKey(keysym, code, isDown);
    }, []),
    focus: useCallback(() => rfb.current?.focus({ preventScroll: true }), []),
    blur: useCallback(() => rfb.current?.blur(), []),
  };
}

function drop(rfb: RefObject<RFB | null>, socket: RefObject<WebSocket | null>): void {
  const [client, own] = [rfb.current, socket.current];
  rfb.current = null;
  socket.current = null;
  if (!client) return;
  client.disconnect();
  own?.close(1000);
}
