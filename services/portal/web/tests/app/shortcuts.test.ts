import { afterEach, expect, test } from 'vitest';
import { isForPage } from '../../src/app/shortcuts';

afterEach(() => document.body.replaceChildren());

function press(html: string, change: Partial<KeyboardEvent> = {}): boolean {
  document.body.innerHTML = html;
  const target = document.querySelector('[data-here]') ?? document.body;
  return isForPage({ target, ctrlKey: false, altKey: false, metaKey: false, isComposing: false, ...change });
}

test.each([
  ['<button data-here></button>', true],
  ['<input data-here>', false],
  ['<textarea data-here></textarea>', false],
  ['<div role="dialog"><button data-here></button></div>', false],
  ['<div role="menu"><div data-here></div></div>', false],
  ['<div data-keys="guest"><canvas data-here></canvas></div>', false],
])('a key in %s is for the page: %s', (html, isOurs) => {
  expect(press(html)).toBe(isOurs);
});

test('keys that are held with others, or compose a character, are not ours', () => {
  for (const held of ['ctrlKey', 'altKey', 'metaKey', 'isComposing']) {
    expect(press('<p data-here></p>', { [held]: true })).toBe(false);
  }
});
