// The page's one live connection: events go into the query cache, samples into series. Nothing is polled.

import type { QueryClient } from '@tanstack/react-query';
import type { LiveEvent, NounEvent } from '../api/events';
import type { Guest, GuestPage, Runtime } from '../api/guests';
import { socketUrl } from '../api/http';
import type { TaskPage } from '../api/tasks';
import type { ZoneStatus } from '../api/zone';
import { KEYS, TASKS_KEPT } from '../app/queries';
import type { Found } from '../app/who';
import { backoffMs } from './backoff';
import { isNoun, isSample, needsReread, patchGuest, patchGuestPage, patchTasks } from './patches';
import { appended, type InstancePoint, instancePoint, type ZonePoint, zonePoint } from './samples';
import { Store } from './store';

export type LinkState = 'connecting' | 'open' | 'waiting';

interface LinkStatus {
  link: LinkState;
  /** The portal is there, but does not reach its gateway. */
  isGatewayLost: boolean;
}

const SESSION_ENDED = 4401;
/** Lists are read again at most this often while events pour in. */
const REREAD_MS = 250;
const ZONE = 'zone';

export class Live {
  readonly status = new Store<LinkStatus>({ link: 'connecting', isGatewayLost: false });
  readonly zone = new Store<ZonePoint[]>([]);
  readonly zoneNow = new Store<ZoneStatus | null>(null);
  /** Names of instances by id, also of those that are gone: tasks name only ids. */
  readonly names = new Store<ReadonlyMap<string, string>>(new Map());

  readonly #queries: QueryClient;
  readonly #look: () => Promise<Found>;
  readonly #wanted = new Map<string, number>([[ZONE, 1]]);
  readonly #instances = new Map<string, Store<InstancePoint[]>>();
  readonly #last = new Map<string, { runtime: Runtime; atMs: number }>();
  #socket: WebSocket | null = null;
  #cursor = '';
  #attempt = 0;
  #timer = 0;
  #rereadTimer = 0;
  #isClosed = false;
  /** Something was heard since the last connection that the portal ended for want of a session. */
  #isHeard = false;

  /** `look` asks who is here; it shows the door itself when that is nobody. */
  constructor(queries: QueryClient, look: () => Promise<Found>) {
    this.#queries = queries;
    this.#look = look;
  }

  open(): void {
    this.#isClosed = false;
    this.#connect();
    window.addEventListener('online', this.#now);
  }

  close(): void {
    this.#isClosed = true;
    window.clearTimeout(this.#timer);
    window.clearTimeout(this.#rereadTimer);
    window.removeEventListener('online', this.#now);
    this.#socket?.close(1000);
    this.#socket = null;
  }

  /** The curve of an instance; it grows as long as somebody holds it with `want`. */
  instance(id: string): Store<InstancePoint[]> {
    let store = this.#instances.get(id);
    if (!store) {
      store = new Store<InstancePoint[]>([]);
      this.#instances.set(id, store);
    }
    return store;
  }

  /** Ask for the samples of a subject until the returned function is called. */
  want(subject: string): () => void {
    this.#wanted.set(subject, (this.#wanted.get(subject) ?? 0) + 1);
    this.#ask();
    return () => {
      const left = (this.#wanted.get(subject) ?? 1) - 1;
      if (left > 0) this.#wanted.set(subject, left);
      else this.#wanted.delete(subject);
      this.#ask();
    };
  }

  learnNames(guests: readonly Pick<Guest, 'id' | 'name'>[]): void {
    const known = this.names.get();
    const news = guests.filter((guest) => known.get(guest.id) !== guest.name);
    if (!news.length) return;
    this.names.set(new Map([...known, ...news.map((guest) => [guest.id, guest.name] as const)]));
  }

  /** Somebody pressed "try again", or the network is back. */
  retry(): void {
    this.#now();
  }

  #now = (): void => {
    if (this.#isClosed || this.status.get().link !== 'waiting') return;
    window.clearTimeout(this.#timer);
    this.#connect();
  };

  #connect(isUnseen = false): void {
    const socket = new WebSocket(socketUrl('live/'));
    this.#socket = socket;
    if (!isUnseen) this.#shown({ link: 'connecting' });
    socket.onopen = () => {
      this.#attempt = 0;
      this.#ask();
      // Whether the gateway is lost is told anew to each connection.
      this.#shown({ link: 'open', isGatewayLost: false });
    };
    socket.onmessage = (message) => this.#take(JSON.parse(String(message.data)) as LiveEvent);
    socket.onclose = (event) => {
      if (this.#socket !== socket || this.#isClosed) return;
      this.#socket = null;
      if (event.code === SESSION_ENDED) void this.#doubt();
      else this.#wait();
    };
  }

  #wait(): void {
    this.#shown({ link: 'waiting' });
    this.#timer = window.setTimeout(() => this.#connect(), backoffMs(this.#attempt, Math.random()));
    this.#attempt += 1;
  }

  /** The session of this connection has ended. When the browser has another by now, the stream goes on as if nothing was. */
  async #doubt(): Promise<void> {
    const found = await this.#look();
    if (this.#isClosed || this.#socket || found.is === 'none') return;
    if (found.is === 'session' && this.#isHeard) {
      this.#isHeard = false;
      this.#connect(true);
    } else this.#wait();
  }

  #ask(): void {
    if (this.#socket?.readyState !== WebSocket.OPEN) return;
    this.#socket.send(JSON.stringify({ since: this.#cursor, samples: [...this.#wanted.keys()] }));
  }

  #shown(change: Partial<LinkStatus>): void {
    const before = this.status.get();
    const after = { ...before, ...change };
    if (after.link !== before.link || after.isGatewayLost !== before.isGatewayLost) this.status.set(after);
  }

  #take(event: LiveEvent): void {
    this.#isHeard = true;
    if (isSample(event)) {
      this.#sample(event.id, event.document);
      return;
    }
    if (isNoun(event)) {
      this.#noun(event);
    } else if (event.kind === 'lost') {
      this.#shown({ isGatewayLost: true });
    } else if (event.kind === 'found') {
      if (this.status.get().isGatewayLost) this.#rereadAll();
      this.#shown({ isGatewayLost: false });
    } else if (event.kind === 'reread') {
      this.#rereadAll();
    } else if (event.kind === 'hello') {
      // Whoever resumes keeps the old cursor: what was missed is still to come.
      if (this.#cursor !== '') return;
      // What was read before the stream stood may have changed in between.
      this.#rereadAll();
    }
    if (event.cursor) this.#cursor = event.cursor;
  }

  #sample(subject: string, document: ZoneStatus | Runtime | null): void {
    if (document === null) return;
    const atMs = Date.now();
    if (subject === ZONE) {
      const zone = document as ZoneStatus;
      this.zoneNow.set(zone);
      this.zone.set(appended(this.zone.get(), zonePoint(zone, atMs)));
      return;
    }
    const runtime = document as Runtime;
    const store = this.instance(subject);
    store.set(appended(store.get(), instancePoint(runtime, this.#last.get(subject), atMs)));
    this.#last.set(subject, { runtime, atMs });
  }

  #noun(event: NounEvent): void {
    const queries = this.#queries;
    if (event.kind === 'instance' && event.document) {
      const { spec } = event.document;
      this.learnNames([{ id: event.id, name: `${spec.group}.${spec.name}` }]);
    }
    queries.setQueryData<TaskPage>(KEYS.tasks, (page) => page && patchTasks(page, event, TASKS_KEPT));
    for (const [key, page] of queries.getQueriesData<TaskPage>({ queryKey: KEYS.tasksOfAny })) {
      const isItsTask = event.kind === 'task' && event.document?.subject === key[1];
      if (page && isItsTask) queries.setQueryData(key, patchTasks(page, event, TASKS_KEPT));
    }
    let isStale = false;
    for (const [key, page] of queries.getQueriesData<GuestPage>({ queryKey: KEYS.guestPages })) {
      if (!page) continue;
      if (needsReread(page, event)) isStale = true;
      const patched = patchGuestPage(page, event);
      if (patched !== page) queries.setQueryData(key, patched);
    }
    for (const [key, guest] of queries.getQueriesData<Guest>({ queryKey: KEYS.guests })) {
      if (!guest) continue;
      const patched = patchGuest(guest, event);
      if (patched !== guest) queries.setQueryData(key, patched);
    }
    if (event.kind === 'instance' && event.gone) {
      void queries.invalidateQueries({ queryKey: KEYS.guest(event.id) });
    }
    if (isStale) this.#rereadSoon();
    if (event.kind === 'image') void queries.invalidateQueries({ queryKey: KEYS.images });
    if (event.kind === 'template') void queries.invalidateQueries({ queryKey: KEYS.templates });
    if (event.kind === 'cell' || event.kind === 'pool') {
      void queries.invalidateQueries({ queryKey: KEYS.cells });
      // A zone whose cells are all silent sends no sample that would say so.
      void queries.invalidateQueries({ queryKey: KEYS.zone });
    }
  }

  #rereadSoon(): void {
    if (this.#rereadTimer) return;
    this.#rereadTimer = window.setTimeout(() => {
      this.#rereadTimer = 0;
      void this.#queries.invalidateQueries({ queryKey: KEYS.guestPages });
    }, REREAD_MS);
  }

  #rereadAll(): void {
    void this.#queries.invalidateQueries();
  }
}
