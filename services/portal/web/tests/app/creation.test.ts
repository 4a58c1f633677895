import { describe, expect, test } from 'vitest';
import {
  bodyOf,
  bytesOf,
  commandOf,
  type Draft,
  faultsOf,
  numberOf,
  quoted,
  requestOf,
  sizeWord,
} from '../../src/app/creation';

const LIMITS = { max_cores: 24, max_memory: 32, max_disk: 64 };
const GOOD: Draft = {
  name: 'web-1',
  image: 'img',
  cores: '2',
  memory: '0.5',
  disk: '5',
  template: 'tpl',
  pool: 'default',
  isStarted: true,
  isAutoStarted: false,
};

test('a good draft has no fault', () => {
  expect(faultsOf(GOOD, LIMITS)).toEqual({});
});

test.each<[Partial<Draft>, object]>([
  [{ name: '' }, { name: 'required' }],
  [{ name: 'a b' }, { name: 'nameRule' }],
  [{ name: 'a'.repeat(65) }, { name: 'nameRule' }],
  [{ cores: '3' }, { cores: 'coreRule' }],
  [{ cores: '0' }, { cores: 'coreRule' }],
  [{ cores: '1.5' }, { cores: 'coreRule' }],
  [{ cores: '26' }, { cores: 'tooMuch' }],
  [{ cores: 'two' }, { cores: 'notACount' }],
  [{ cores: '' }, { cores: 'notACount' }],
  [{ memory: '33' }, { memory: 'tooMuch' }],
  [{ memory: '0.01' }, { memory: 'tooLittle' }],
  [{ memory: '-1' }, { memory: 'notANumber' }],
  [{ disk: '65' }, { 'disks[0]': 'tooMuch' }],
  [{ disk: '0' }, { 'disks[0]': 'tooLittle' }],
  [{ template: '' }, { template: 'required' }],
  [{ pool: '' }, { pool: 'required' }],
])('with %o the fault is %o', (change, faults) => {
  expect(faultsOf({ ...GOOD, ...change }, LIMITS)).toEqual(faults);
});

describe('sizes as typed', () => {
  test.each([
    ['1.5', 1.5],
    ['1,5', 1.5],
    [' 2 ', 2],
  ])('%s is %d', (text, value) => expect(numberOf(text)).toBe(value));

  test.each(['', 'x', '1e3', '-1', '1.', 'Infinity'])('%s is no number', (text) => {
    expect(numberOf(text)).toBeNaN();
  });

  test('are whole MiB', () => {
    expect(bytesOf('0.5')).toBe(512 * 2 ** 20);
    expect(bytesOf('0.3') % 2 ** 20).toBe(0);
  });

  test('are words for nanoctl', () => {
    expect([sizeWord(2 ** 31), sizeWord(512 * 2 ** 20), sizeWord(Number.NaN)]).toEqual(['2G', '512M', '…']);
  });
});

describe('what is sent', () => {
  test('is the documented body', () => {
    expect(bodyOf(GOOD)).toEqual({
      name: 'web-1',
      pool: 'default',
      cores: 2,
      memory: 536_870_912,
      disks: [5_368_709_120],
      template: 'tpl',
      from_image: 'img',
      modules: ['qemu'],
      auto_start: false,
    });
  });

  test('takes no agent for granted on a blank disk', () => {
    expect(bodyOf({ ...GOOD, image: '' })).toMatchObject({ from_image: '', modules: [] });
  });

  test('reads the same as a command', () => {
    const names = { template: 'Linux (virtio)', owner: 'ann', group: 'ops' };
    expect(commandOf(GOOD, names)).toBe(
      "nanoctl instance create web-1 --image img --template 'Linux (virtio)' --cores 2 --memory 512M " +
        '--disk 5G --pool default --owner ann --group ops --start',
    );
    expect(commandOf({ ...GOOD, isAutoStarted: true }, names)).toMatch(/ --auto-start$/);
  });

  test('reads the same as a request, with owner and group', () => {
    const [head, body] = requestOf(GOOD, 'ann', 'ops').split('\n\n');
    expect(head).toContain('POST /api/v1/guests/');
    expect(JSON.parse(body ?? '')).toEqual({ ...bodyOf(GOOD), owner: 'ann', group: 'ops' });
  });
});

test('a word with a quote survives the shell', () => {
  expect(quoted("it's")).toBe("'it'\\''s'");
  expect(quoted('plain-1.2')).toBe('plain-1.2');
});
