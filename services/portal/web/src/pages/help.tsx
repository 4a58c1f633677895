import { Fragment } from 'react';
import { useTranslation } from 'react-i18next';
import { Dialog } from '../kit/dialog';

const GROUPS = {
  anywhere: [
    ['/', 'search'],
    ['o', 'overview'],
    ['i', 'instances'],
    ['n', 'create'],
    ['t', 'tasks'],
    ['?', 'help'],
  ],
  list: [
    ['j k ↓ ↑', 'move'],
    ['Enter', 'open'],
    ['x', 'select'],
    ['c', 'console'],
  ],
  console: [['Ctrl+Alt+Shift', 'release']],
} as const;

export function Help({ isOpen, onClose }: { isOpen: boolean; onClose: () => void }) {
  const { t } = useTranslation();
  return (
    <Dialog isOpen={isOpen} onClose={onClose} title={t('keys.title')}>
      {(Object.keys(GROUPS) as (keyof typeof GROUPS)[]).map((group) => (
        <section key={group} className="keys">
          <h3>{t(`keys.group.${group}`)}</h3>
          <dl>
            {GROUPS[group].map(([keys, does]) => (
              <Fragment key={does}>
                <dt>
                  {keys.split(' ').map((key) => (
                    <kbd key={key}>{key}</kbd>
                  ))}
                </dt>
                <dd>{t(`keys.does.${does}`)}</dd>
              </Fragment>
            ))}
          </dl>
        </section>
      ))}
    </Dialog>
  );
}
