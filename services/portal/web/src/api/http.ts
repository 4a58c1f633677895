// One way to the portal: envelope in, data out; a failure is a `Problem`, never a status that somebody forgot.

/** Where the service is, below whatever path a proxy has put us. */
export const API = new URL('api/v1/', document.baseURI);

/** An RFC 9457 body as `nano/web/envelope.py` writes it. */
interface ProblemBody {
  detail?: string;
  code?: string;
  field?: string;
  subject?: string;
}

/** A refusal: a fact with a field, or a portal that was not reached (`status` 0). */
export class Problem extends Error {
  readonly status: number;
  /** The stable word for programs: `invalid`, `busy`, `no_room`… (nano/model/errors.py). */
  readonly code: string;
  /** The member of the request that is wrong: `name`, `disks[0]`; empty when none is. */
  readonly field: string;
  readonly subject: string;
  /** Seconds after which another try makes sense; 0 when nobody said. */
  readonly retryAfter: number;

  constructor(status: number, code: string, detail: string, field = '', subject = '', retryAfter = 0) {
    super(detail);
    this.name = 'Problem';
    this.status = status;
    this.code = code;
    this.field = field;
    this.subject = subject;
    this.retryAfter = retryAfter;
  }
}

export function isProblem(error: unknown): error is Problem {
  return error instanceof Problem;
}

export interface Answer<T> {
  data: T;
  /** 201 while a thing is still being made, 202 when a task was accepted. */
  status: number;
  /** The task that was started; empty when none was. */
  task: string;
}

type Doubted = () => Promise<boolean>;
let onSessionDoubted: Doubted = async () => false;

/** Who is asked when an answer says that there is no session: whether there is one after all (of another tab). */
export function whenSessionIsDoubted(listener: Doubted): void {
  onSessionDoubted = listener;
}

export interface Ask {
  body?: unknown;
  query?: Record<string, string | number>;
  /** Names the task within the session, so that a repeated request starts nothing twice. */
  idempotencyKey?: string;
  signal?: AbortSignal;
  /** A 401 is an answer here (login), not the end of a session. */
  isOpen?: boolean;
}

type Method = 'GET' | 'POST' | 'PUT' | 'DELETE';

export async function call<T>(method: Method, path: string, ask: Ask = {}): Promise<Answer<T>> {
  try {
    return await callOnce<T>(method, path, ask);
  } catch (error) {
    // Who was not let in has done nothing, so that it may be asked again with the cookie of now.
    if (!isProblem(error) || error.status !== 401 || ask.isOpen || !(await onSessionDoubted())) throw error;
    return callOnce<T>(method, path, ask);
  }
}

async function callOnce<T>(method: Method, path: string, ask: Ask): Promise<Answer<T>> {
  const url = new URL(path, API);
  for (const [name, value] of Object.entries(ask.query ?? {})) url.searchParams.set(name, String(value));
  const headers: Record<string, string> = { Accept: 'application/problem+json' };
  if (ask.body !== undefined) headers['Content-Type'] = 'application/json';
  if (ask.idempotencyKey) headers['Idempotency-Key'] = ask.idempotencyKey;
  const init: RequestInit = { method, headers, credentials: 'same-origin', cache: 'no-store' };
  if (ask.body !== undefined) init.body = JSON.stringify(ask.body);
  if (ask.signal) init.signal = ask.signal;

  let response: Response;
  try {
    response = await fetch(url, init);
  } catch (error) {
    if (error instanceof DOMException && error.name === 'AbortError') throw error;
    throw new Problem(0, 'offline', 'The portal did not answer.');
  }
  const text = await response.text();
  const document = parsed(text);
  if (!response.ok) throw problemOf(response, document);
  const data = (document as { data?: T } | null)?.data as T;
  return { data, status: response.status, task: response.headers.get('Nano-Task') ?? '' };
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null; // a proxy's own page, or nothing
  }
}

function problemOf(response: Response, document: unknown): Problem {
  const body = (document ?? {}) as ProblemBody;
  const wait = Number(response.headers.get('Retry-After') ?? 0);
  return new Problem(
    response.status,
    // A proxy in front of the portal answers in its place when it does not reach it.
    body.code ?? (response.status >= 502 && response.status <= 504 ? 'offline' : 'error'),
    body.detail ?? `${response.status} ${response.statusText}`.trim(),
    body.field ?? '',
    body.subject ?? '',
    Number.isFinite(wait) ? wait : 0,
  );
}

/** The address of one of our websockets. */
export function socketUrl(path: string): string {
  const url = new URL(path, API);
  url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
  return url.href;
}
