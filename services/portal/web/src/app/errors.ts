// A refusal in the reader's language: what kind it is, and the server's own words where they say more.

import { useTranslation } from 'react-i18next';
import type { Problem } from '../api/http';
import type { Fault } from '../api/tasks';
import { locale } from '../i18n';
import { size } from '../i18n/format';

const KNOWN = [
  'invalid',
  'not_found',
  'exists',
  'conflict',
  'busy',
  'exhausted',
  'no_room',
  'no_address',
  'storage_full',
  'forbidden',
  'untrusted',
  'unreachable',
  'timed_out',
  'cancelled',
  'unsupported',
  'corrupt',
  'stale',
  'internal',
  'offline',
] as const;

type Known = (typeof KNOWN)[number];

function isKnown(code: string): code is Known {
  return (KNOWN as readonly string[]).includes(code);
}

export interface Said {
  text: string;
  /** The server's words, in English, where `text` is our own. */
  detail: string;
}

/** Long counts of bytes as people read them: `5368709120 bytes` is `5 GiB`. */
export function humanised(text: string, language: string): string {
  return text.replace(/\b(\d{5,})( bytes)?\b/g, (_all, digits: string, unit: string | undefined) =>
    unit ? size(Number(digits), language) : digits,
  );
}

export function useSaid(): (error: Problem | Fault | Error) => Said {
  const { t, i18n } = useTranslation();
  return (error) => {
    const code = 'code' in error && typeof error.code === 'string' ? error.code : '';
    const detail = humanised(error.message, locale());
    const isOurs = code === 'offline';
    const kind = isKnown(code) ? t(`error.${code}`) : t('error.other');
    if (isOurs || detail === '') return { text: kind, detail: '' };
    if (i18n.language === 'en') return { text: sentence(detail), detail: '' };
    return { text: kind, detail: sentence(detail) };
  };
}

/** The server's words begin small, since they stand behind a colon in logs. */
export function sentence(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
