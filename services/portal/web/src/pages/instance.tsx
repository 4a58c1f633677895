// One instance: its facts and figures, and its screen.

import { Tabs } from '@base-ui/react/tabs';
import { lazy, Suspense, useState } from 'react';
import { useTranslation } from 'react-i18next';
import { addressOf, type Guest, shortName } from '../api/guests';
import { isProblem } from '../api/http';
import type { Task } from '../api/tasks';
import { dismissed } from '../app/actions';
import { useSaid } from '../app/errors';
import { activeTask } from '../app/guest-state';
import { useNow, useTitle } from '../app/hooks';
import { useInstanceSeries } from '../app/live';
import { opens } from '../app/menus';
import { useGuest, useTasks, useTasksOf } from '../app/queries';
import { go, type InstanceTab, paths } from '../app/router';
import { useSession } from '../app/who';
import { locale } from '../i18n';
import { percent, size, sizeParts } from '../i18n/format';
import { Button } from '../kit/button';
import { GuestActions, GuestStateCell, type Question, Questions, Refusal } from '../kit/guest';
import { Curve } from '../kit/measure';
import { TaskTable } from '../kit/tasks';
import { Empty, Notice } from '../kit/words';
import { GAP_MS, type InstancePoint, type Point } from '../live/samples';
import { useStore } from '../live/store';
import { TaskFailure } from './instances';
import { Flow, Gauge } from './overview';

const Console = lazy(() => import('../console/console'));

export default function Instance({ id, tab }: { id: string; tab: InstanceTab }) {
  const { t } = useTranslation();
  const said = useSaid();
  const found = useGuest(id);
  const tasks = useTasks().data?.tasks ?? [];
  const task = activeTask(id, tasks);
  const mayAct = opens(useSession(), 'acting');
  const [question, setQuestion] = useState<Question | null>(null);
  const guest = found.data;
  useTitle(guest ? shortName(guest) : '…', t('nav.instances'));

  const isGone = isProblem(found.error) && (found.error.status === 404 || found.error.status === 409);
  if (isGone && found.error) {
    return (
      <div className="page">
        <Empty title={t('instance.gone')} isWhole>
          <p>{said(found.error).text}</p>
          <Button kind="primary" onClick={() => go(paths.instances())}>
            {t('instance.back')}
          </Button>
        </Empty>
      </div>
    );
  }
  if (found.error && !guest) {
    return (
      <div className="page">
        <Notice
          tone="fault"
          detail={said(found.error).detail}
          action={
            <Button size="small" onClick={() => void found.refetch()}>
              {t('retry')}
            </Button>
          }
        >
          {said(found.error).text}
        </Notice>
      </div>
    );
  }
  if (!guest) return null;
  return (
    <div className="page page-instance" data-tab={tab}>
      <div className="page-head">
        <div className="crumbs">
          <a href={paths.instances()}>{t('nav.instances')}</a> <span aria-hidden>/</span>
        </div>
        <h1>{shortName(guest)}</h1>
        <GuestStateCell guest={guest} task={task} />
        <div className="page-tools">
          <GuestActions guest={guest} task={task} onAsk={setQuestion} isWordy />
        </div>
      </div>
      <Refusal guest={guest} />
      <LastFailure guest={guest} tasks={tasks} />
      <Tabs.Root
        className="tab-root"
        value={tab}
        onValueChange={(next) => go(paths.instance(id, next as InstanceTab))}
      >
        <Tabs.List className="tabs" aria-label={t('instance.tabs')}>
          <Tabs.Tab className="tab" value="overview">
            {t('nav.overview')}
          </Tabs.Tab>
          {mayAct && (
            <Tabs.Tab className="tab" value="console">
              {t('console.title')}
            </Tabs.Tab>
          )}
        </Tabs.List>
        <Tabs.Panel value="overview" className="tab-panel">
          <Facts guest={guest} />
        </Tabs.Panel>
        <Tabs.Panel value="console" className="tab-panel">
          <Suspense fallback={null}>
            <Console guest={guest} task={task} />
          </Suspense>
        </Tabs.Panel>
      </Tabs.Root>
      <Questions
        question={question}
        onClose={() => setQuestion(null)}
        onDeleted={() => go(paths.instances())}
      />
    </div>
  );
}

const openedMs = Date.now();
/** How often it is looked whether the newest sample is still of now. */
const LOOK_MS = 2_000;

function LastFailure({ guest, tasks }: { guest: Guest; tasks: readonly Task[] }) {
  const newest = tasks.find((task) => task.subject === guest.id);
  const putAway = useStore(dismissed);
  if (newest?.state !== 'failed' || newest.ended_ms < openedMs || putAway.has(newest.id)) return null;
  return <TaskFailure task={newest} guest={guest} />;
}

type Measure = Exclude<keyof InstancePoint, 'atMs'>;

function series(points: readonly InstancePoint[], name: Measure): Point[] {
  return points.map((point) => ({ atMs: point.atMs, value: point[name] }));
}

function Facts({ guest }: { guest: Guest }) {
  const { t } = useTranslation();
  const here = locale();
  const points = useInstanceSeries(guest.id);
  const isOn = guest.running && !guest.lost;
  const newest = isOn ? points.at(-1) : undefined;
  const nowMs = useNow(LOOK_MS);
  const last = newest && nowMs - newest.atMs <= GAP_MS ? newest : undefined;
  const memoryUsed = last?.memory ?? null;
  const cpu = last?.cpu ?? null;
  const address = addressOf(guest);
  const others = guest.addresses.filter((one) => one !== address);

  return (
    <div className="facts-page">
      <div className="gauges gauges-three">
        <Gauge
          title={t('overview.cpu')}
          value={cpu === null ? null : percent(cpu, here)}
          unit="%"
          of={t('overview.ofCores', { count: guest.cores })}
          percent={cpu}
          curve={<Curve points={series(points, 'cpu')} most={100} />}
        />
        <Gauge
          title={t('overview.memory')}
          {...(memoryUsed === null ? { value: null, unit: '' } : sizeParts(memoryUsed, here))}
          of={t('overview.of', { size: size(guest.memory, here) })}
          percent={memoryUsed === null ? null : (memoryUsed / guest.memory) * 100}
          curve={<Curve points={series(points, 'memory')} most={guest.memory} />}
        />
        <section className="gauge gauge-wide" aria-label={t('overview.traffic')}>
          <h2>{t('overview.traffic')}</h2>
          <div className="flows">
            <Flow
              title={t('overview.network')}
              first={{ name: t('overview.receive'), value: last?.receive ?? null, isIn: true }}
              second={{ name: t('overview.send'), value: last?.send ?? null, isIn: false }}
              curve={<Curve points={series(points, 'receive')} second={series(points, 'send')} />}
            />
            <Flow
              title={t('overview.disk')}
              first={{ name: t('overview.read'), value: last?.read ?? null, isIn: true }}
              second={{ name: t('overview.write'), value: last?.write ?? null, isIn: false }}
              curve={<Curve points={series(points, 'read')} second={series(points, 'write')} />}
            />
          </div>
        </section>
      </div>
      <div className="columns columns-even">
        <section className="panel" aria-labelledby="facts">
          <h2 id="facts">{t('instance.facts')}</h2>
          <dl className="facts">
            <Fact name={t('instance.address')}>
              {address ? <code>{address}</code> : t(isOn ? 'instance.noAddressYet' : 'instance.noAddress')}
              {others.map((one) => (
                <code key={one}>{one}</code>
              ))}
            </Fact>
            <Fact name={t('instance.agent')}>
              {guest.agent ? t('instance.agentOn') : t('instance.agentOff')}
            </Fact>
            <Fact name={t('instance.cores')}>{guest.cores}</Fact>
            <Fact name={t('instance.memory')}>{size(guest.memory, here)}</Fact>
            <Fact name={t('instance.disks')}>{guest.disks.map((one) => size(one, here)).join(' + ')}</Fact>
            <Fact name={t('instance.owner')}>
              {guest.owner} · {guest.group}
            </Fact>
            <Fact name={t('instance.pool')}>{guest.pool}</Fact>
            <Fact name={t('instance.cell')}>
              <code>{guest.cell}</code>
            </Fact>
            <Fact name={t('instance.system')}>{guest.system}</Fact>
            <Fact name={t('instance.mac')}>
              <code>{guest.ethernet_address}</code>
            </Fact>
            <Fact name={t('instance.autoStart')}>{guest.auto_start ? t('yes') : t('no')}</Fact>
            <Fact name={t('instance.createdAt')}>{guest.create_time}</Fact>
            <Fact name={t('instance.id')}>
              <code>{guest.id}</code>
            </Fact>
          </dl>
        </section>
        <InstanceTasks id={guest.id} />
      </div>
    </div>
  );
}

function Fact({ name, children }: { name: string; children: React.ReactNode }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}

function InstanceTasks({ id }: { id: string }) {
  const { t } = useTranslation();
  const found = useTasksOf(id);
  const tasks = found.data?.tasks ?? [];
  return (
    <section className="panel" aria-labelledby="instance-tasks">
      <h2 id="instance-tasks">{t('instance.tasks')}</h2>
      {tasks.length > 0 ? (
        <TaskTable tasks={tasks} label={t('instance.tasks')} isOfOne />
      ) : (
        <p className="panel-empty">{found.data ? t('tasks.none') : ''}</p>
      )}
    </section>
  );
}
