import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import en from '../../src/i18n/en.json';
import zh from '../../src/i18n/zh.json';

type Tree = { [key: string]: string | Tree };

function flat(tree: Tree, before = ''): Map<string, string> {
  const found = new Map<string, string>();
  for (const [key, value] of Object.entries(tree)) {
    if (typeof value === 'string') found.set(before + key, value);
    else for (const [inner, text] of flat(value, `${before}${key}.`)) found.set(inner, text);
  }
  return found;
}

function holes(text: string): string[] {
  return [...text.matchAll(/\{\{(\w+)\}\}/g)].map((match) => match[1] ?? '').sort();
}

const sources = readdirSync('src', { recursive: true, encoding: 'utf8' })
  .filter((name) => /\.tsx?$/.test(name))
  .map((name) => readFileSync(join('src', name), 'utf8'))
  .join('\n');

/** English counts differently for one; Chinese has one form. */
const ONE = /_one$/;
const PLURAL = /_(one|other)$/;

const english = flat(en);
const chinese = flat(zh);
const keys = new Set([...english.keys()].map((key) => key.replace(PLURAL, '')));

describe('the texts', () => {
  test('are the same keys in both languages, in the same order', () => {
    expect([...chinese.keys()]).toEqual([...english.keys()].filter((key) => !ONE.test(key)));
  });

  test('have the same holes in both languages', () => {
    for (const [key, text] of english) {
      expect([key, holes(chinese.get(key.replace(ONE, '_other')) ?? '')]).toEqual([key, holes(text)]);
    }
  });

  test('are never empty, and Chinese ones are Chinese', () => {
    for (const [key, text] of english) expect([key, text.trim()]).not.toEqual([key, '']);
    // What is the same in every language: names of things.
    const same = new Set(['overview.cpu']);
    for (const [key, text] of chinese) {
      if (!same.has(key)) expect([key, /[\u4e00-\u9fff]/.test(text)]).toEqual([key, true]);
    }
  });

  test('are all used', () => {
    const named = new Set([...sources.matchAll(/['"`]([a-zA-Z][\w.]*)['"`]/g)].map((match) => match[1]));
    // `task.state.${…}` uses all that begin like that.
    const prefixes = [...sources.matchAll(/`([a-zA-Z][\w.]*\.)\$\{/g)].map((match) => match[1] ?? '');
    const unused = [...keys].filter(
      (key) => !named.has(key) && !prefixes.some((prefix) => key.startsWith(prefix)),
    );
    expect(unused).toEqual([]);
  });

  test('exist for every key that is named', () => {
    const asked = [...sources.matchAll(/\bt\(\s*'([^']+)'/g)].map((match) => match[1] ?? '');
    expect(asked.length).toBeGreaterThan(100);
    expect(asked.filter((key) => !keys.has(key))).toEqual([]);
  });
});
