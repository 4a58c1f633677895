// Theme and language: from the browser until somebody chooses, then remembered here.

import { Store } from '../live/store';

export type Theme = 'system' | 'light' | 'dark';
export type Language = 'en' | 'zh';

const THEME = 'nano.theme';
const LANGUAGE = 'nano.language';

function remembered(name: string): string {
  try {
    return localStorage.getItem(name) ?? '';
  } catch {
    return ''; // storage is switched off: the choice lasts as long as the page
  }
}

function remember(name: string, value: string): void {
  try {
    if (value) localStorage.setItem(name, value);
    else localStorage.removeItem(name);
  } catch {
    // see above
  }
}

export function themeOf(text: string): Theme {
  return text === 'light' || text === 'dark' ? text : 'system';
}

export function languageOf(text: string): Language {
  return text.toLowerCase().startsWith('zh') ? 'zh' : 'en';
}

export const theme = new Store<Theme>(themeOf(remembered(THEME)));
export const language = new Store<Language>(languageOf(remembered(LANGUAGE) || navigator.language));

export function chooseTheme(chosen: Theme): void {
  remember(THEME, chosen === 'system' ? '' : chosen);
  if (chosen === 'system') delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = chosen;
  theme.set(chosen);
}

export function chooseLanguage(chosen: Language): void {
  remember(LANGUAGE, chosen);
  document.documentElement.lang = chosen === 'zh' ? 'zh-CN' : 'en';
  language.set(chosen);
}
