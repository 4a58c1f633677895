// The two languages. Keys are typed by en.json; a test holds zh.json to the same keys and every key to a use.

import i18next from 'i18next';
import { initReactI18next } from 'react-i18next';
import { type Language, language } from '../app/preferences';

const TEXTS = {
  en: () => import('./en.json'),
  zh: () => import('./zh.json'),
} satisfies Record<Language, () => Promise<unknown>>;

async function load(wanted: Language): Promise<void> {
  if (i18next.hasResourceBundle(wanted, 'translation')) return;
  const texts = await TEXTS[wanted]();
  i18next.addResourceBundle(wanted, 'translation', texts.default);
}

export async function startTexts(): Promise<void> {
  await i18next.use(initReactI18next).init({
    lng: language.get(),
    fallbackLng: false,
    interpolation: { escapeValue: false }, // React escapes
    returnNull: false,
    resources: {},
    react: { useSuspense: false },
  });
  await load(language.get());
  await i18next.changeLanguage(language.get());
  language.subscribe(() => {
    const wanted = language.get();
    void load(wanted).then(() => i18next.changeLanguage(wanted));
  });
}

export function locale(): string {
  return language.get() === 'zh' ? 'zh-CN' : 'en';
}
