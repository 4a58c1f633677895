// Which of the four doors is open: first start, login, the pages, or none.

import { CSPProvider } from '@base-ui/react/csp-provider';
import { QueryClientProvider } from '@tanstack/react-query';
import { lazy, Suspense, useCallback, useEffect, useState } from 'react';
import { useTranslation } from 'react-i18next';
import { isProblem, type Problem, whenSessionIsDoubted } from '../api/http';
import { readSession } from '../api/session';
import { Button } from '../kit/button';
import { Notice } from '../kit/words';
import { useStore } from '../live/store';
import { Door } from '../pages/door';
import { FirstStart } from '../pages/first-start';
import { Login } from '../pages/login';
import { Boundary } from './boundary';
import { useSaid } from './errors';
import { followTabs, look, lookWhenSeen, tellTabs } from './presence';
import { KEYS, newQueryClient, useSystem } from './queries';
import { codeOf, go, paths } from './router';
import { known, who } from './who';

const Shell = lazy(() => import('../pages/shell'));

const queries = newQueryClient();

// What one person has seen is not kept for the next. Before anything is drawn for that one.
let last = '';
who.subscribe(() => {
  const here = who.get();
  const user = here.is === 'somebody' ? here.session.user : '';
  if (user === last) return;
  last = user;
  queries.removeQueries({ predicate: ({ queryKey }) => queryKey[0] !== KEYS.system[0] });
});

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
  const here = useStore(who);
  const [problem, setProblem] = useState<Problem | null>(null);
  const isReady = system.data?.ready;

  const enter = useCallback(async () => {
    setProblem(null);
    try {
      who.set(known(who.get(), { is: 'session', session: await readSession() }));
    } catch (error) {
      if (isProblem(error) && error.status === 401) who.set(known({ is: 'unknown' }, { is: 'none' }));
      else if (isProblem(error)) setProblem(error);
      else throw error;
    }
  }, []);
  const enterFromDoor = useCallback(async () => {
    await enter();
    if (who.get().is === 'somebody') tellTabs('in');
  }, [enter]);

  useEffect(() => whenSessionIsDoubted(async () => (await look()).is === 'session'), []);
  // Asked at once, beside `system/`: most often somebody is here already.
  useEffect(() => void enter(), [enter]);
  useEffect(
    () =>
      followTabs((news) => {
        if (news === 'in') {
          void look();
          // It may have been the first start.
          void queries.invalidateQueries({ queryKey: KEYS.system });
        } else if (who.get().is === 'somebody') {
          who.set({ is: 'nobody', why: 'loggedOut' });
        }
      }),
    [],
  );
  // The code of the first start has done its work.
  useEffect(() => {
    if (here.is === 'somebody' && codeOf(window.location.hash)) go(paths.overview, true);
  }, [here.is]);
  // Who logged out is not let in again by a glance, not even when the portal was not reached to be told so.
  const isLooking = here.is === 'nobody' && here.why !== 'loggedOut';
  useEffect(() => (isLooking ? lookWhenSeen() : undefined), [isLooking]);

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
        <Shell key={here.session.user} session={here.session} />
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
          await enterFromDoor();
        }}
      />
    );
  }
  return <Login why={here.why} onDone={enterFromDoor} />;
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
