import { describe, expect, test } from 'vitest';
import { type Happening, next, type Screen } from '../../src/console/progress';

function through(start: Screen, ...happenings: Happening[]): Screen {
  return happenings.reduce((screen, happening) => next(screen, happening, 1), start);
}

const OFF: Screen = { is: 'off' };
const CONNECTED: Screen = { is: 'connected' };
const ON: Happening = { what: 'running', isRunning: true };
const DOWN: Happening = { what: 'running', isRunning: false };
const NO = { code: 'error', subject: '', message: 'no' };
const LOST: Happening = { what: 'closed', code: 1011, detail: 'the cell is lost' };

describe('the screen of an instance', () => {
  test('is connected to as soon as it runs', () => {
    expect(through(OFF, ON)).toEqual({ is: 'connecting', attempt: 0 });
    expect(through(OFF, ON, { what: 'opened' })).toEqual(CONNECTED);
  });

  test('is off when the instance is, from anywhere', () => {
    for (const screen of [CONNECTED, through(OFF, ON), through(CONNECTED, LOST)]) {
      expect(next(screen, DOWN, 0)).toEqual(OFF);
    }
  });

  test('comes back by itself, later each time, with the reason shown', () => {
    expect(through(CONNECTED, LOST)).toEqual({
      is: 'waiting',
      attempt: 1,
      delayMs: 500,
      reason: { word: 'lost', detail: 'the cell is lost' },
    });
    expect(through(CONNECTED, LOST, { what: 'timer' })).toEqual({
      is: 'connecting',
      attempt: 1,
      reason: { word: 'lost', detail: 'the cell is lost' },
    });
    expect(through(CONNECTED, LOST, { what: 'timer' }, LOST)).toMatchObject({ attempt: 2, delayMs: 1_000 });
  });

  test('begins anew with short waits once it was connected', () => {
    const again = through(
      CONNECTED,
      LOST,
      { what: 'timer' },
      LOST,
      { what: 'timer' },
      { what: 'opened' },
      LOST,
    );
    expect(again).toMatchObject({ attempt: 1, delayMs: 500 });
  });

  test('that ended in order says so', () => {
    expect(through(CONNECTED, { what: 'closed', code: 1000, detail: '' })).toMatchObject({
      reason: { word: 'ended' },
    });
  });

  test.each([
    [409, 'waiting'],
    [503, 'waiting'],
    [0, 'waiting'],
    [429, 'waiting'],
    [403, 'refused'],
    [404, 'refused'],
  ])('refused with %i is %s', (status, is) => {
    expect(through(OFF, ON, { what: 'refused', problem: { ...NO, status } }).is).toBe(is);
  });

  test.each([
    ['portal', 0, 'offline', ''],
    ['portal', 502, 'offline', ''],
    ['gateway', 503, 'unreachable', 'https://127.0.0.1:5850'],
    ['refused', 503, 'unreachable', 'Cell_024e0a390000'],
    ['refused', 409, 'conflict', '1b20dfc2'],
  ])('says that it was the %s (%i %s, of %j)', (word, status, code, subject) => {
    const screen = through(OFF, ON, { what: 'refused', problem: { status, code, subject, message: 'why' } });
    expect(screen).toMatchObject({ reason: { word, detail: word === 'refused' ? 'why' : '' } });
  });

  test('whose session ended is asked for anew at once, and only once', () => {
    const ended: Happening = { what: 'closed', code: 4401, detail: 'the session has ended' };
    expect(through(CONNECTED, ended)).toEqual({ is: 'connecting', attempt: 0 });
    expect(through(CONNECTED, ended, ended).is).toBe('waiting');
  });

  test('that was refused waits for a person', () => {
    const refused = through(OFF, ON, { what: 'refused', problem: { ...NO, status: 403 } });
    expect(next(refused, { what: 'timer' }, 0)).toBe(refused);
    expect(next(refused, { what: 'pressed' }, 0)).toEqual({ is: 'connecting', attempt: 0 });
  });

  test('lets nothing that comes late change it', () => {
    expect(next(OFF, LOST, 0)).toBe(OFF);
    expect(next(OFF, { what: 'opened' }, 0)).toBe(OFF);
    expect(next(OFF, { what: 'pressed' }, 0)).toBe(OFF);
    expect(next(CONNECTED, { what: 'pressed' }, 0)).toBe(CONNECTED);
    expect(next(CONNECTED, ON, 0)).toBe(CONNECTED);
  });
});
