// Numbers, sizes and times as people of either language read them.

const KIB = 1024;
const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'] as const;
export const MIB = KIB ** 2;
export const GIB = KIB ** 3;

interface Quantity {
  value: string;
  unit: string;
}

/** Bytes as a number of three digits or so and its binary unit. */
export function sizeParts(bytes: number, locale: string): Quantity {
  let value = bytes;
  let step = 0;
  while (Math.abs(value) >= KIB && step < UNITS.length - 1) {
    value /= KIB;
    step += 1;
  }
  const digits = step === 0 || value >= 100 || Number.isInteger(value) ? 0 : value >= 10 ? 1 : 2;
  return {
    value: new Intl.NumberFormat(locale, { maximumFractionDigits: digits }).format(value),
    unit: UNITS[step] ?? 'B',
  };
}

export function size(bytes: number, locale: string): string {
  const { value, unit } = sizeParts(bytes, locale);
  return `${value} ${unit}`;
}

/** Bytes a second. */
export function rate(bytes: number, locale: string): string {
  return `${size(bytes, locale)}/s`;
}

export function percent(value: number, locale: string): string {
  const digits = value > 0 && value < 10 ? 1 : 0;
  return new Intl.NumberFormat(locale, { maximumFractionDigits: digits }).format(value);
}

export function count(value: number, locale: string): string {
  return new Intl.NumberFormat(locale).format(value);
}

/** `3 s`, `2 min 5 s`, `1 h 4 min`: the language's own narrow units. */
export function duration(ms: number, locale: string): string {
  const part = (
    value: number,
    unit: 'millisecond' | 'second' | 'minute' | 'hour' | 'day',
    digits = 0,
  ): string =>
    new Intl.NumberFormat(locale, {
      style: 'unit',
      unit,
      unitDisplay: 'short',
      maximumFractionDigits: digits,
    }).format(value);
  const seconds = Math.max(0, ms) / 1000;
  if (seconds < 1) return part(Math.round(Math.max(0, ms) / 10) * 10, 'millisecond');
  if (seconds < 10) return part(Math.round(seconds * 10) / 10, 'second', 1);
  if (seconds < 60) return part(Math.round(seconds), 'second');
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${part(minutes, 'minute')} ${part(Math.floor(seconds % 60), 'second')}`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return `${part(hours, 'hour')} ${part(minutes % 60, 'minute')}`;
  return `${part(Math.floor(hours / 24), 'day')} ${part(hours % 24, 'hour')}`;
}

/** `3 minutes ago`, in whole units. */
export function ago(atMs: number, nowMs: number, locale: string): string {
  const seconds = Math.round((atMs - nowMs) / 1000);
  const words = new Intl.RelativeTimeFormat(locale, { numeric: 'auto', style: 'short' });
  const size = Math.abs(seconds);
  if (size < 60) return words.format(Math.min(0, seconds), 'second');
  if (size < 3600) return words.format(Math.round(seconds / 60), 'minute');
  if (size < 86_400) return words.format(Math.round(seconds / 3600), 'hour');
  return words.format(Math.round(seconds / 86_400), 'day');
}

export function moment(atMs: number, locale: string): string {
  return new Intl.DateTimeFormat(locale, { dateStyle: 'medium', timeStyle: 'medium' }).format(atMs);
}

export function clock(atMs: number, locale: string): string {
  return new Intl.DateTimeFormat(locale, {
    hour: '2-digit',
    minute: '2-digit',
    second: '2-digit',
    hour12: false,
  }).format(atMs);
}
