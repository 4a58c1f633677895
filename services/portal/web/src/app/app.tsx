// Which of the four doors is open: first start, login, the pages, or none.

import { CSPProvider } from '@base-ui/react/csp-provider';
import { QueryClientProvider, useQueryClient } from '@tanstack/react-query';
import { lazy, Suspense, useCallback, useEffect, useState } from 'react';
import { useTranslation } from 'react-i18next';
import { isProblem, type Problem, whenSessionEnds } from '../api/http';
import { readSession } from '../api/session';
import { Button } from '../kit/button';
import { Notice } from '../kit/words';
import { useStore } from '../live/store';
import { Door } from '../pages/door';
import { FirstStart } from '../pages/first-start';
import { Login } from '../pages/login';
import { Boundary } from './boundary';
import { useSaid } from './errors';
import { KEYS, newQueryClient, useSystem } from './queries';
import { sessionEnded, who } from './who';

const Shell = lazy(() => import('../pages/shell'));

const queries = newQueryClient();

export function App() {
  return (
    <CSPProvider disableStyleElements>
      <QueryClientProvider client={queries}>
        <Boundary>
          <Gate />
        </Boundary>
      </QueryClientProvider>
    </CSPProvider>
  );
}

function Gate() {
  const system = useSystem();
  const client = useQueryClient();
  const here = useStore(who);
  const [problem, setProblem] = useState<Problem | null>(null);
  const isReady = system.data?.ready;

  const enter = useCallback(async () => {
    setProblem(null);
    try {
      who.set({ is: 'somebody', session: await readSession() });
    } catch (error) {
      if (isProblem(error) && error.status === 401) who.set({ is: 'nobody', why: 'new' });
      else if (isProblem(error)) setProblem(error);
      else throw error;
    }
  }, []);

  useEffect(() => whenSessionEnds(sessionEnded), []);
  // Asked at once, beside `system/`: most often somebody is here already.
  useEffect(() => void enter(), [enter]);
  // What one person has seen is not kept for the next.
  useEffect(() => {
    if (here.is === 'nobody')
      client.removeQueries({ predicate: ({ queryKey }) => queryKey[0] !== KEYS.system[0] });
  }, [here.is, client]);

  const failed = problem ?? (isProblem(system.error) ? system.error : null);
  if (failed) {
    return (
      <Unreached
        problem={failed}
        onRetry={() => {
          void system.refetch();
          void enter();
        }}
      />
    );
  }
  if (here.is === 'somebody') {
    return (
      <Suspense fallback={null}>
        <Shell session={here.session} />
      </Suspense>
    );
  }
  if (isReady === undefined || here.is === 'unknown') return null;
  if (!isReady) {
    return (
      <FirstStart
        isCodeRequired={system.data?.code_required ?? true}
        onDone={async () => {
          await system.refetch();
          await enter();
        }}
      />
    );
  }
  return <Login why={here.why} onDone={enter} />;
}

function Unreached({ problem, onRetry }: { problem: Problem; onRetry: () => void }) {
  const { t } = useTranslation();
  const said = useSaid()(problem);
  return (
    <Door title={t('unreached.title')}>
      <Notice tone="fault" detail={said.detail}>
        {said.text}
      </Notice>
      <p className="hint">{t('unreached.hint')}</p>
      <div>
        <Button kind="primary" onClick={onRetry}>
          {t('retry')}
        </Button>
      </div>
    </Door>
  );
}
