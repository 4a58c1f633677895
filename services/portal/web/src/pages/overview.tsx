// The zone at a glance: what there is, how much of it is used, what happened last, and what to do next.

import { Plus } from 'lucide-react';
import type { ReactNode } from 'react';
import { useTranslation } from 'react-i18next';
import { isMeasured, type ZoneStatus } from '../api/zone';
import { useSaid } from '../app/errors';
import { useTitle } from '../app/hooks';
import { useZoneNow } from '../app/live';
import { useLive } from '../app/live-context';
import { opens } from '../app/menus';
import { useCells, useImages, useTasks } from '../app/queries';
import { go, paths } from '../app/router';
import { useSession } from '../app/who';
import { locale } from '../i18n';
import { count, percent, rate, size, sizeParts } from '../i18n/format';
import { Button } from '../kit/button';
import { Curve, CurveAxis, Scale } from '../kit/measure';
import { TaskTable } from '../kit/tasks';
import { Code, Empty, Notice, State, Unit } from '../kit/words';
import type { Point, ZonePoint } from '../live/samples';
import { useStore } from '../live/store';

const RECENT = 8;

type Measure = Exclude<keyof ZonePoint, 'atMs'>;

function series(points: readonly ZonePoint[], name: Measure): Point[] {
  return points.map((point) => ({ atMs: point.atMs, value: point[name] }));
}

export default function Overview() {
  const { t } = useTranslation();
  const said = useSaid();
  const live = useLive();
  const { zone, error, refetch } = useZoneNow();
  const points = useStore(live.zone);
  const mayCreate = opens(useSession(), 'acting');
  // Then the figures are of no machine.
  const isSimulated = useCells().data?.some((cell) => cell.simulated) ?? false;
  useTitle(t('nav.overview'));

  return (
    <div className="page">
      <div className="page-head">
        <h1>{t('nav.overview')}</h1>
        {isSimulated && <span className="tag">{t('simulated')}</span>}
        {zone && <p className="page-note">{t('overview.since', { time: zone.start_time })}</p>}
        {mayCreate && (
          <Button
            kind="primary"
            icon={<Plus size={16} aria-hidden />}
            onClick={() => go(paths.instances({ isCreating: true }))}
          >
            {t('create.open')}
          </Button>
        )}
      </div>
      {!zone && error && (
        <Notice
          tone="fault"
          detail={said(error).detail}
          action={
            <Button size="small" onClick={() => void refetch()}>
              {t('retry')}
            </Button>
          }
        >
          {said(error).text}
        </Notice>
      )}
      <NextSteps zone={zone} />
      {zone && <Gauges zone={zone} points={points} />}
      <div className="columns">
        <RecentTasks />
        <Cells />
      </div>
    </div>
  );
}

function Gauges({ zone, points }: { zone: ZoneStatus; points: readonly ZonePoint[] }) {
  const { t } = useTranslation();
  const here = locale();
  const [stopped, running, lost] = zone.instances;
  const [offline, online] = zone.cells;
  const measured = isMeasured(zone);
  const memoryUsed = zone.max_memory - zone.available_memory;
  const diskUsed = zone.max_disk - zone.available_disk;
  const part = (used: number, most: number): number | null => (most > 0 ? (used / most) * 100 : null);
  return (
    <div className="gauges">
      <section className="gauge gauge-counts" aria-labelledby="gauge-instances">
        <div>
          <h2 id="gauge-instances">{t('nav.instances')}</h2>
          <p className="numeral">
            {count(running, here)}
            <small>{t('overview.running')}</small>
          </p>
          <ul className="tally">
            <li data-quiet={stopped === 0 ? '' : undefined}>
              <State tone="off" shape="ring">
                {t('overview.stopped', { n: count(stopped, here) })}
              </State>
            </li>
            <li data-quiet={lost === 0 ? '' : undefined}>
              <State tone={lost ? 'fault' : 'off'} shape={lost ? 'cross' : 'ring'}>
                {t('overview.lost', { n: count(lost, here) })}
              </State>
            </li>
          </ul>
        </div>
        <div>
          <h2 className="second">{t('overview.cells')}</h2>
          <p className="numeral">
            {count(online, here)}
            <small>{t('overview.online')}</small>
          </p>
          <ul className="tally">
            <li data-quiet={offline === 0 ? '' : undefined}>
              <State tone={offline ? 'fault' : 'off'} shape={offline ? 'cross' : 'ring'}>
                {t('overview.offline', { n: count(offline, here) })}
              </State>
            </li>
          </ul>
        </div>
      </section>
      <Gauge
        title={t('overview.cpu')}
        value={measured ? percent(zone.cpu_usage, here) : null}
        unit="%"
        of={t('overview.ofCores', { count: zone.max_cpu })}
        percent={measured ? zone.cpu_usage : null}
        curve={<Curve points={series(points, 'cpu')} most={100} />}
      />
      <Gauge
        title={t('overview.memory')}
        {...(measured ? sized(memoryUsed, here) : { value: null, unit: '' })}
        of={t('overview.of', { size: size(zone.max_memory, here) })}
        percent={part(memoryUsed, zone.max_memory)}
        curve={<Curve points={series(points, 'memory')} most={100} />}
      />
      <Gauge
        title={t('overview.disk')}
        {...(measured ? sized(diskUsed, here) : { value: null, unit: '' })}
        of={t('overview.of', { size: size(zone.max_disk, here) })}
        percent={part(diskUsed, zone.max_disk)}
        curve={<Curve points={series(points, 'disk')} most={100} />}
      />
      <section className="gauge" aria-labelledby="gauge-traffic">
        <h2 id="gauge-traffic">{t('overview.traffic')}</h2>
        <div className="flows">
          <Flow
            title={t('overview.network')}
            first={{ name: t('overview.receive'), value: measured ? zone.receive_speed : null, isIn: true }}
            second={{ name: t('overview.send'), value: measured ? zone.send_speed : null, isIn: false }}
            curve={<Curve points={series(points, 'receive')} second={series(points, 'send')} />}
          />
          <Flow
            title={t('overview.disk')}
            first={{ name: t('overview.read'), value: measured ? zone.read_speed : null, isIn: true }}
            second={{ name: t('overview.write'), value: measured ? zone.write_speed : null, isIn: false }}
            curve={<Curve points={series(points, 'read')} second={series(points, 'write')} />}
          />
        </div>
      </section>
    </div>
  );
}

function sized(bytes: number, here: string): { value: string; unit: string } {
  return sizeParts(bytes, here);
}

export function Gauge({
  title,
  value,
  unit,
  of,
  percent: at,
  curve,
}: {
  title: string;
  value: string | null;
  unit: string;
  of: string;
  percent: number | null;
  curve: ReactNode;
}) {
  const { t } = useTranslation();
  return (
    <section className="gauge" aria-label={title}>
      <h2>{title}</h2>
      {value === null ? (
        <p className="numeral" data-unmeasured>
          –<small>{t('overview.unmeasured')}</small>
        </p>
      ) : (
        <p className="numeral">
          {value}
          <Unit>{unit}</Unit>
          <small>{of}</small>
        </p>
      )}
      <Scale
        label={title}
        percent={at}
        text={value === null ? t('overview.unmeasured') : `${value} ${unit} ${of}`}
      />
      {curve}
      <CurveAxis />
    </section>
  );
}

interface Direction {
  name: string;
  value: number | null;
  isIn: boolean;
}

export function Flow({
  title,
  first,
  second,
  curve,
}: {
  title: string;
  first: Direction;
  second: Direction;
  curve: ReactNode;
}) {
  const here = locale();
  return (
    <div className="flow">
      <h3>{title}</h3>
      {[first, second].map(({ name, value, isIn }) => (
        <p key={name}>
          <span className="swatch" data-second={isIn ? undefined : ''} />
          <span className="flow-name">{name}</span> {value === null ? '—' : rate(value, here)}
        </p>
      ))}
      {curve}
    </div>
  );
}

function NextSteps({ zone }: { zone: ZoneStatus | undefined }) {
  const { t } = useTranslation();
  const session = useSession();
  const { user, group } = session;
  const images = useImages();
  if (!zone) return null;
  const instances = zone.instances.reduce((sum, some) => sum + some, 0);
  const hasNoImage = images.data?.every((image) => image.size === 0) ?? false;
  if (zone.cells[1] === 0) {
    return (
      <Step title={t('next.noCell')}>
        <p>{t('next.noCellHow')}</p>
        <Code label={t('command')}>nanoctl status</Code>
      </Step>
    );
  }
  if (hasNoImage && session.operator) {
    return (
      <Step title={t('next.noImage')}>
        <p>{t('next.noImageHow')}</p>
        <Code label={t('command')}>{pushCommand(user, group)}</Code>
      </Step>
    );
  }
  if (instances === 0 && images.data && opens(session, 'acting')) {
    return (
      <Step title={t('next.noInstance')}>
        <p>{t('next.noInstanceHow')}</p>
        <Button kind="primary" onClick={() => go(paths.instances({ isCreating: true }))}>
          {t('create.first')}
        </Button>
      </Step>
    );
  }
  return null;
}

/** `admin` is what nanoctl takes unless it is told. */
export function pushCommand(user: string, group: string): string {
  const whose = `${user === 'admin' ? '' : ` --owner ${user}`}${group === 'admin' ? '' : ` --group ${group}`}`;
  return `nanoctl image push debian.qcow2 --name debian${whose}`;
}

function Step({ title, children }: { title: string; children: ReactNode }) {
  const { t } = useTranslation();
  return (
    <section className="step">
      <p className="step-word">{t('next.title')}</p>
      <Empty title={title}>{children}</Empty>
    </section>
  );
}

function RecentTasks() {
  const { t } = useTranslation();
  const found = useTasks();
  const tasks = found.data?.tasks ?? [];
  return (
    <section className="panel" aria-labelledby="recent-tasks">
      <h2 id="recent-tasks">{t('overview.recent')}</h2>
      {tasks.length > 0 ? (
        <TaskTable tasks={tasks.slice(0, RECENT)} label={t('overview.recent')} />
      ) : (
        <p className="panel-empty">{found.data ? t('tasks.none') : ''}</p>
      )}
    </section>
  );
}

function Cells() {
  const { t } = useTranslation();
  const found = useCells();
  const cells = found.data ?? [];
  return (
    <section className="panel" aria-labelledby="cells">
      <h2 id="cells">{t('overview.cells')}</h2>
      {cells.length > 0 ? (
        <table className="table" aria-label={t('overview.cells')}>
          <thead>
            <tr>
              <th scope="col">{t('cell.name')}</th>
              <th scope="col">{t('cell.state')}</th>
              <th scope="col">{t('cell.pool')}</th>
              <th scope="col" data-wide>
                {t('cell.address')}
              </th>
            </tr>
          </thead>
          <tbody>
            {cells.map((cell) => (
              <tr key={cell.name}>
                <td>
                  <code>{cell.name}</code> {cell.simulated && <span className="tag">{t('simulated')}</span>}
                </td>
                <td>
                  {cell.alive ? (
                    <State
                      tone={cell.confirmed ? 'good' : 'busy'}
                      shape={cell.confirmed ? 'full' : 'turning'}
                    >
                      {cell.confirmed ? t('cell.online') : t('cell.unconfirmed')}
                    </State>
                  ) : (
                    <State tone="fault" shape="cross">
                      {t('cell.lost')}
                    </State>
                  )}
                  {cell.enabled === false && <span className="tag">{t('cell.disabled')}</span>}
                </td>
                <td data-name>{cell.pool}</td>
                <td data-wide>
                  <code>{cell.address}</code>
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      ) : (
        <p className="panel-empty">{found.data ? t('cell.none') : ''}</p>
      )}
    </section>
  );
}
