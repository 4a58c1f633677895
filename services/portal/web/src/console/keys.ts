// Key strokes: which physical keys make a text on a keyboard of the US layout, and combinations that browsers keep.
//
// A guest sees keys, not letters. Where its layout is another one than US, other letters come out; the paste
// dialog says so.

export interface Key {
  /** X11 keysym. */
  keysym: number;
  /** `KeyboardEvent.code`: the place on the keyboard. */
  code: string;
}

export interface Stroke extends Key {
  isShifted: boolean;
}

export const SHIFT: Key = { keysym: 0xffe1, code: 'ShiftLeft' };
export const CONTROL: Key = { keysym: 0xffe3, code: 'ControlLeft' };
export const ALT: Key = { keysym: 0xffe9, code: 'AltLeft' };
const META: Key = { keysym: 0xffeb, code: 'MetaLeft' };
const ESCAPE: Key = { keysym: 0xff1b, code: 'Escape' };
const TAB: Key = { keysym: 0xff09, code: 'Tab' };
const DELETE: Key = { keysym: 0xffff, code: 'Delete' };
const ENTER: Key = { keysym: 0xff0d, code: 'Enter' };

function letter(name: string): Key {
  return { keysym: name.charCodeAt(0), code: `Key${name.toUpperCase()}` };
}

function functionKey(number: number): Key {
  return { keysym: 0xffbe + number - 1, code: `F${number}` };
}

/** Plain and shifted, key by key. */
const PRINTED: readonly [string, string, string][] = [
  ['Backquote', '`', '~'],
  ['Digit1', '1', '!'],
  ['Digit2', '2', '@'],
  ['Digit3', '3', '#'],
  ['Digit4', '4', '$'],
  ['Digit5', '5', '%'],
  ['Digit6', '6', '^'],
  ['Digit7', '7', '&'],
  ['Digit8', '8', '*'],
  ['Digit9', '9', '('],
  ['Digit0', '0', ')'],
  ['Minus', '-', '_'],
  ['Equal', '=', '+'],
  ['BracketLeft', '[', '{'],
  ['BracketRight', ']', '}'],
  ['Backslash', '\\', '|'],
  ['Semicolon', ';', ':'],
  ['Quote', "'", '"'],
  ['Comma', ',', '<'],
  ['Period', '.', '>'],
  ['Slash', '/', '?'],
  ['Space', ' ', ''],
];

const STROKES = new Map<string, Stroke>([
  ['\n', { ...ENTER, isShifted: false }],
  ['\t', { ...TAB, isShifted: false }],
]);
for (const [code, plain, shifted] of PRINTED) {
  STROKES.set(plain, { keysym: plain.charCodeAt(0), code, isShifted: false });
  if (shifted) STROKES.set(shifted, { keysym: shifted.charCodeAt(0), code, isShifted: true });
}
for (const name of 'abcdefghijklmnopqrstuvwxyz') {
  const upper = name.toUpperCase();
  STROKES.set(name, { ...letter(name), isShifted: false });
  STROKES.set(upper, { keysym: upper.charCodeAt(0), code: `Key${upper}`, isShifted: true });
}

export interface Untypable {
  character: string;
  /** From 1. */
  line: number;
}

interface Typing {
  strokes: Stroke[];
  /** What no key of the layout makes, each character once, where it stands first. */
  untypable: Untypable[];
}

/** Line ends of any system are one Enter each. */
export function typingOf(text: string): Typing {
  const strokes: Stroke[] = [];
  const untypable: Untypable[] = [];
  let line = 1;
  for (const character of text.replace(/\r\n?/g, '\n')) {
    const stroke = STROKES.get(character);
    if (stroke) strokes.push(stroke);
    else if (!untypable.some((one) => one.character === character)) untypable.push({ character, line });
    if (character === '\n') line += 1;
  }
  return { strokes, untypable };
}

export type KeyEvent = Key & { isDown: boolean };

/** A stroke as the presses and releases that make it. */
export function eventsOf({ keysym, code, isShifted }: Stroke): KeyEvent[] {
  const press = { keysym, code, isDown: true };
  const release = { keysym, code, isDown: false };
  if (!isShifted) return [press, release];
  return [{ ...SHIFT, isDown: true }, press, release, { ...SHIFT, isDown: false }];
}

/** Pressed in order, released in the opposite one. */
export function combination(keys: readonly Key[]): KeyEvent[] {
  return [
    ...keys.map((key) => ({ ...key, isDown: true })),
    ...[...keys].reverse().map((key) => ({ ...key, isDown: false })),
  ];
}

/** What browsers and desktops keep for themselves. */
export const COMBINATIONS: readonly { name: string; keys: readonly Key[] }[] = [
  { name: 'Ctrl+Alt+Del', keys: [CONTROL, ALT, DELETE] },
  ...[1, 2, 3, 4, 5, 6, 7].map((number) => ({
    name: `Ctrl+Alt+F${number}`,
    keys: [CONTROL, ALT, functionKey(number)],
  })),
  { name: 'Ctrl+C', keys: [CONTROL, letter('c')] },
  { name: 'Ctrl+W', keys: [CONTROL, letter('w')] },
  { name: 'Alt+Tab', keys: [ALT, TAB] },
  { name: 'Alt+F4', keys: [ALT, functionKey(4)] },
  { name: 'Esc', keys: [ESCAPE] },
  { name: 'Tab', keys: [TAB] },
  { name: 'Win', keys: [META] },
  { name: 'Win+L', keys: [META, letter('l')] },
  { name: 'Win+R', keys: [META, letter('r')] },
];
