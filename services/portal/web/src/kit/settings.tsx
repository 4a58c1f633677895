// Theme and language, wherever one stands.

import { Contrast, Languages } from 'lucide-react';
import { useTranslation } from 'react-i18next';
import { chooseLanguage, chooseTheme, language, theme } from '../app/preferences';
import { useStore } from '../live/store';
import { IconButton } from './button';
import { Menu, MenuChoice } from './menu';

export function ThemeMenu() {
  const { t } = useTranslation();
  return (
    <Menu trigger={<IconButton label={t('theme.label')} icon={<Contrast size={17} aria-hidden />} />}>
      <MenuChoice
        label={t('theme.label')}
        value={useStore(theme)}
        onValue={chooseTheme}
        options={[
          { value: 'system', label: t('theme.system') },
          { value: 'light', label: t('theme.light') },
          { value: 'dark', label: t('theme.dark') },
        ]}
      />
    </Menu>
  );
}

export function LanguageMenu() {
  const { t } = useTranslation();
  return (
    <Menu trigger={<IconButton label={t('language')} icon={<Languages size={17} aria-hidden />} />}>
      <MenuChoice
        label={t('language')}
        value={useStore(language)}
        onValue={chooseLanguage}
        options={[
          { value: 'en', label: 'English', lang: 'en' },
          { value: 'zh', label: '中文', lang: 'zh-CN' },
        ]}
      />
    </Menu>
  );
}
