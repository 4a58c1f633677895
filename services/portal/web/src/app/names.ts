// Which texts are allowed as names and passwords, as the servers judge them (nano/model/names.py, REST document 9.4).

const PLAIN = /^[A-Za-z0-9_-]{1,64}$/;

/** Guests, owners, groups, users. */
export function isPlainName(text: string): boolean {
  return PLAIN.test(text);
}

export type PasswordRule = 'length' | 'digit' | 'lower' | 'upper';

export const PASSWORD_RULES: Record<PasswordRule, (text: string) => boolean> = {
  length: (text) => text.length >= 8,
  digit: (text) => /[0-9]/.test(text),
  lower: (text) => /[a-z]/.test(text),
  upper: (text) => /[A-Z]/.test(text),
};

export function isGoodPassword(text: string): boolean {
  return Object.values(PASSWORD_RULES).every((holds) => holds(text));
}

/** 1 or an even number. */
export function isCoreCount(cores: number, most: number): boolean {
  return Number.isInteger(cores) && (cores === 1 || (cores > 0 && cores % 2 === 0)) && cores <= most;
}
