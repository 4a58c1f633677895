// A defect of ours on a page must not leave an empty window.

import { Component, type ReactNode } from 'react';
import { useTranslation } from 'react-i18next';
import { Button } from '../kit/button';
import { Notice } from '../kit/words';
import { Door } from '../pages/door';

interface Held {
  failure: Error | null;
}

export class Boundary extends Component<{ children: ReactNode }, Held> {
  override state: Held = { failure: null };

  static getDerivedStateFromError(failure: Error): Held {
    return { failure };
  }

  override render(): ReactNode {
    return this.state.failure ? <Broken failure={this.state.failure} /> : this.props.children;
  }
}

function Broken({ failure }: { failure: Error }) {
  const { t } = useTranslation();
  return (
    <Door title={t('broken.title')}>
      <Notice tone="fault" isAlert detail={failure.message}>
        {t('broken.what')}
      </Notice>
      <div>
        <Button kind="primary" onClick={() => window.location.reload()}>
          {t('broken.reload')}
        </Button>
      </div>
    </Door>
  );
}
