import { describe, expect, test } from 'vitest';
import { COMBINATIONS, combination, eventsOf, typingOf } from '../../src/console/keys';

function codes(text: string): string[] {
  return typingOf(text).strokes.map((stroke) => (stroke.isShifted ? `+${stroke.code}` : stroke.code));
}

describe('typing', () => {
  test('takes each key of the layout, shifted where it must be', () => {
    expect(codes('aZ1! /?')).toEqual(['KeyA', '+KeyZ', 'Digit1', '+Digit1', 'Space', 'Slash', '+Slash']);
  });

  test('makes one Enter of each line end, whatever system it is from', () => {
    expect(codes('a\r\nb\rc\n')).toEqual(['KeyA', 'Enter', 'KeyB', 'Enter', 'KeyC', 'Enter']);
  });

  test('knows every printable ASCII character', () => {
    const ascii = Array.from({ length: 95 }, (_one, index) => String.fromCharCode(32 + index)).join('');
    const { strokes, untypable } = typingOf(ascii);
    expect(untypable).toEqual([]);
    expect(strokes.map((stroke) => String.fromCharCode(stroke.keysym)).join('')).toBe(ascii);
  });

  test('names what no key makes, once, with its line, and leaves it out', () => {
    const { strokes, untypable } = typingOf('é\n你é😀');
    expect(untypable).toEqual([
      { character: 'é', line: 1 },
      { character: '你', line: 2 },
      { character: '😀', line: 2 },
    ]);
    expect(strokes.map((stroke) => stroke.code)).toEqual(['Enter']);
  });
});

test('a shifted stroke holds Shift around the key', () => {
  const [stroke] = typingOf('A').strokes;
  if (!stroke) throw new Error('A has a key');
  expect(eventsOf(stroke).map(({ code, isDown }) => `${code} ${isDown ? 'down' : 'up'}`)).toEqual([
    'ShiftLeft down',
    'KeyA down',
    'KeyA up',
    'ShiftLeft up',
  ]);
});

test('every combination lets go of all that it holds', () => {
  expect(COMBINATIONS.map((one) => one.name)).toContain('Ctrl+Alt+F7');
  for (const { keys } of COMBINATIONS) {
    const held = new Set<string>();
    for (const { code, isDown } of combination(keys)) {
      if (isDown) held.add(code);
      else expect(held.delete(code)).toBe(true);
    }
    expect(held.size).toBe(0);
  }
});
