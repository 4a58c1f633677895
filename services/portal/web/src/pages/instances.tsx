// The list of instances: live, searchable, with everything that may be done to one or to many.

import { ChevronLeft, ChevronRight, Plus, X } from 'lucide-react';
import { Fragment, type KeyboardEvent, useEffect, useMemo, useRef, useState } from 'react';
import { useTranslation } from 'react-i18next';
import { addressOf, type Guest, shortName } from '../api/guests';
import { isProblem } from '../api/http';
import { hasEnded, type Task } from '../api/tasks';
import { dismissed, dismissTask, performAll, refusals } from '../app/actions';
import { useSaid } from '../app/errors';
import { activeTask, may, stateOf } from '../app/guest-state';
import { useSettled, useTitle } from '../app/hooks';
import { useLive } from '../app/live-context';
import { opens } from '../app/menus';
import { useGuestPage, useImages, useTasks } from '../app/queries';
import { go, paths, type Route } from '../app/router';
import { type Shortcuts, useShortcuts } from '../app/shortcuts';
import { useSession } from '../app/who';
import { locale } from '../i18n';
import { count, sizeParts } from '../i18n/format';
import { Button, IconButton } from '../kit/button';
import { Checkbox, Segments } from '../kit/choice';
import { GuestActions, GuestStateCell, type Question, Questions, Refusal } from '../kit/guest';
import { shortOf } from '../kit/tasks';
import { Code, Empty, Notice, Unit } from '../kit/words';
import { useStore } from '../live/store';
import { CreateInstance } from './create-instance';
import { pushCommand } from './overview';

const LIMIT = 50;
const TYPING_MS = 200;
const SCOPE = 'nano.scope';

type Scope = 'mine' | 'all';

/** The page was opened then: what ended before is no news. */
const openedMs = Date.now();

function useScope(isOperator: boolean): [Scope, (scope: Scope) => void] {
  const [scope, setScope] = useState<Scope>(() => {
    try {
      return localStorage.getItem(SCOPE) === 'mine' ? 'mine' : 'all';
    } catch {
      return 'all'; // storage is switched off
    }
  });
  const choose = (chosen: Scope): void => {
    setScope(chosen);
    try {
      localStorage.setItem(SCOPE, chosen);
    } catch {
      // as above
    }
  };
  return [isOperator ? scope : 'mine', choose];
}

export default function Instances({ route }: { route: Extract<Route, { page: 'instances' }> }) {
  const { t } = useTranslation();
  const said = useSaid();
  const session = useSession();
  const [scope, setScope] = useScope(session.operator);
  const mayCreate = opens(session, 'acting');
  const keyword = useSettled(route.keyword, TYPING_MS);
  const found = useGuestPage({ keyword, all: scope === 'all', limit: LIMIT, offset: route.offset });
  const tasks = useTasks().data?.tasks ?? [];
  const [selected, setSelected] = useState<ReadonlySet<string>>(new Set());
  const [question, setQuestion] = useState<Question | null>(null);
  useTitle(t('nav.instances'));

  const page = found.data;
  const guests = page?.result ?? [];
  const isBeyond = isProblem(found.error) && found.error.field === 'offset';
  useEffect(() => {
    if (isBeyond) go(paths.instances({ keyword: route.keyword }), true);
  }, [isBeyond, route.keyword]);

  const chosen = guests.filter((guest) => selected.has(guest.id));
  const close = (): void => go(paths.instances({ keyword: route.keyword, offset: route.offset }));
  const open = (): void =>
    go(paths.instances({ keyword: route.keyword, offset: route.offset, isCreating: true }));
  const toggle = (id: string, isOn: boolean): void => {
    const next = new Set(selected);
    if (isOn) next.add(id);
    else next.delete(id);
    setSelected(next);
  };

  return (
    <div className="page">
      <div className="page-head">
        <h1>{t('nav.instances')}</h1>
        {page && <p className="page-note">{t('instancesCount', { count: page.total })}</p>}
        {session.operator && (
          <Segments
            label={t('scope.label')}
            value={scope}
            onValue={(next) => {
              setScope(next);
              if (route.offset) go(paths.instances({ keyword: route.keyword }), true);
            }}
            options={[
              { value: 'mine', label: t('scope.mine') },
              { value: 'all', label: t('scope.all') },
            ]}
          />
        )}
        {mayCreate && (
          <Button kind="primary" icon={<Plus size={16} aria-hidden />} onClick={open}>
            {t('create.open')}
          </Button>
        )}
      </div>
      <FailedCreations tasks={tasks} guests={guests} />
      {route.keyword && (
        <p className="filter">
          {t('search.shown', { keyword: route.keyword })}
          <IconButton
            label={t('search.clear')}
            size="small-icon"
            icon={<X size={14} aria-hidden />}
            onClick={() => go(paths.instances())}
          />
        </p>
      )}
      {chosen.length > 0 && (
        <BulkBar chosen={chosen} tasks={tasks} onAsk={setQuestion} onClear={() => setSelected(new Set())} />
      )}
      {found.error && !isBeyond && (
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
      )}
      {page && guests.length > 0 && (
        <GuestTable
          guests={guests}
          tasks={tasks}
          selected={selected}
          onToggle={toggle}
          onToggleAll={(isOn) => setSelected(isOn ? new Set(guests.map((guest) => guest.id)) : new Set())}
          onAsk={setQuestion}
        />
      )}
      {page && guests.length === 0 && !found.isPlaceholderData && (
        <Nothing keyword={route.keyword} scope={scope} onScope={setScope} onCreate={open} />
      )}
      {page && page.total > LIMIT && <Pages total={page.total} route={route} />}
      {mayCreate && <CreateInstance isOpen={route.isCreating} onClose={close} />}
      <Questions
        question={question}
        onClose={() => setQuestion(null)}
        onDeleted={() => setSelected(new Set())}
      />
    </div>
  );
}

function GuestTable({
  guests,
  tasks,
  selected,
  onToggle,
  onToggleAll,
  onAsk,
}: {
  guests: readonly Guest[];
  tasks: readonly Task[];
  selected: ReadonlySet<string>;
  onToggle: (id: string, isOn: boolean) => void;
  onToggleAll: (isOn: boolean) => void;
  onAsk: (question: Question) => void;
}) {
  const { t } = useTranslation();
  const body = useRef<HTMLTableSectionElement>(null);
  const [current, setCurrent] = useState('');
  const mayAct = opens(useSession(), 'acting');
  const isAll = guests.every((guest) => selected.has(guest.id));
  const isAny = guests.some((guest) => selected.has(guest.id));
  const tabbable = guests.some((guest) => guest.id === current) ? current : guests[0]?.id;

  const shortcuts = useMemo<Shortcuts>(() => {
    const all = (): HTMLElement[] => [...(body.current?.querySelectorAll<HTMLElement>('tr[data-id]') ?? [])];
    const move = (step: number): void => {
      const list = all();
      const at = list.findIndex((row) => row.contains(document.activeElement));
      const next =
        at < 0 ? (step > 0 ? 0 : list.length - 1) : Math.min(list.length - 1, Math.max(0, at + step));
      list[next]?.focus();
      list[next]?.scrollIntoView({ block: 'nearest' });
    };
    return {
      j: () => move(1),
      k: () => move(-1),
      ArrowDown: () => move(1),
      ArrowUp: () => move(-1),
    };
  }, []);
  useShortcuts(shortcuts);

  /** Keys of the row that has the focus itself; its buttons keep theirs. */
  const onRowKey = (event: KeyboardEvent<HTMLTableRowElement>, guest: Guest): void => {
    if (event.target !== event.currentTarget || event.ctrlKey || event.altKey || event.metaKey) return;
    const act: Record<string, () => void> = {
      Enter: () => go(paths.instance(guest.id)),
      ...(mayAct && {
        c: () => go(paths.instance(guest.id, 'console')),
        x: () => onToggle(guest.id, !selected.has(guest.id)),
        ' ': () => onToggle(guest.id, !selected.has(guest.id)),
      }),
    };
    const wanted = act[event.key];
    if (!wanted) return;
    event.preventDefault();
    wanted();
  };

  return (
    <div className="table-frame">
      <table className="table guest-table" aria-label={t('nav.instances')}>
        <thead>
          <tr>
            <th scope="col" className="tight">
              <Checkbox
                label={t('select.all')}
                isChecked={isAll}
                isMixed={isAny && !isAll}
                isDisabled={!mayAct}
                onChecked={(isOn) => onToggleAll(isOn)}
              />
            </th>
            <th scope="col">{t('instance.name')}</th>
            <th scope="col">{t('instance.state')}</th>
            <th scope="col" data-wide>
              {t('instance.address')}
            </th>
            <th scope="col" className="number" data-wide>
              {t('instance.cores')}
            </th>
            <th scope="col" className="number" data-wide>
              {t('instance.memory')}
            </th>
            <th scope="col" className="number" data-wide>
              {t('instance.disk')}
            </th>
            <th scope="col" data-widest>
              {t('instance.cell')}
            </th>
            <th scope="col" data-widest>
              {t('instance.owner')}
            </th>
            <th scope="col" className="tight">
              <span className="hidden">{t('actions')}</span>
            </th>
          </tr>
        </thead>
        <tbody ref={body}>
          {guests.map((guest) => (
            <GuestRow
              key={guest.id}
              guest={guest}
              task={activeTask(guest.id, tasks)}
              isSelected={selected.has(guest.id)}
              isTabbable={guest.id === tabbable}
              onFocus={() => setCurrent(guest.id)}
              onToggle={(isOn) => onToggle(guest.id, isOn)}
              onKey={(event) => onRowKey(event, guest)}
              onAsk={onAsk}
              newest={tasks.find((task) => task.subject === guest.id)}
            />
          ))}
        </tbody>
      </table>
    </div>
  );
}

function GuestRow({
  guest,
  task,
  newest,
  isSelected,
  isTabbable,
  onFocus,
  onToggle,
  onKey,
  onAsk,
}: {
  guest: Guest;
  task: Task | undefined;
  newest: Task | undefined;
  isSelected: boolean;
  isTabbable: boolean;
  onFocus: () => void;
  onToggle: (isOn: boolean) => void;
  onKey: (event: KeyboardEvent<HTMLTableRowElement>) => void;
  onAsk: (question: Question) => void;
}) {
  const { t } = useTranslation();
  const here = locale();
  const name = shortName(guest);
  const prefix = guest.name.slice(0, guest.name.length - name.length);
  const address = addressOf(guest);
  const memory = sizeParts(guest.memory, here);
  const disk = sizeParts(guest.total_disk, here);
  return (
    <Fragment>
      <tr
        data-id={guest.id}
        data-selected={isSelected ? '' : undefined}
        tabIndex={isTabbable ? 0 : -1}
        onFocus={onFocus}
        onKeyDown={onKey}
      >
        <td className="tight">
          <Checkbox label={t('select.one', { name })} isChecked={isSelected} onChecked={onToggle} />
        </td>
        <td className="guest-name">
          <span className="guest-group">{prefix}</span>
          <a href={paths.instance(guest.id)}>{name}</a>
          <span className="sub">
            {address && (
              <>
                <code>{address}</code> ·{' '}
              </>
            )}
            {t('instance.coresShort', { count: guest.cores })} · {memory.value} {memory.unit}
          </span>
        </td>
        <td>
          <GuestStateCell guest={guest} task={task} />
        </td>
        <td data-wide>
          <code>{address}</code>
        </td>
        <td className="number" data-wide>
          {guest.cores}
        </td>
        <td className="number" data-wide>
          {memory.value}
          <Unit>{memory.unit}</Unit>
        </td>
        <td className="number" data-wide>
          {disk.value}
          <Unit>{disk.unit}</Unit>
        </td>
        <td data-widest>
          <code>{guest.cell}</code>
        </td>
        <td data-widest>{guest.owner}</td>
        <td className="tight">
          <GuestActions guest={guest} task={task} onAsk={onAsk} />
        </td>
      </tr>
      <Trouble guest={guest} newest={newest} />
    </Fragment>
  );
}

/** What went wrong with it, in place: a refusal, or its last task's failure. */
function Trouble({ guest, newest }: { guest: Guest; newest: Task | undefined }) {
  const isPutAway = useStore(dismissed).has(newest?.id ?? '');
  const failed = newest && isNewFailure(newest) && !isPutAway ? newest : undefined;
  const hasRefusal = useStore(refusals).has(guest.id);
  if (!failed && !hasRefusal) return null;
  return (
    <tr className="trouble">
      <td colSpan={10}>
        {hasRefusal ? <Refusal guest={guest} /> : failed && <TaskFailure task={failed} guest={guest} />}
      </td>
    </tr>
  );
}

function isNewFailure(task: Task): boolean {
  return task.state === 'failed' && task.ended_ms >= openedMs;
}

export function TaskFailure({ task, guest }: { task: Task; guest: Guest }) {
  const { t } = useTranslation();
  const said = useSaid();
  const { text, detail } = task.error ? said(task.error) : { text: '', detail: '' };
  return (
    <Notice tone="fault" isAlert detail={detail} onDismiss={() => dismissTask(task.id)}>
      <b>{t('refused', { name: shortName(guest) })}</b> {text}
    </Notice>
  );
}

/** Creations that left nothing behind but their reason. */
function FailedCreations({ tasks, guests }: { tasks: readonly Task[]; guests: readonly Guest[] }) {
  const { t } = useTranslation();
  const said = useSaid();
  const names = useStore(useLive().names);
  const putAway = useStore(dismissed);
  const failed = tasks.filter(
    (task) =>
      task.kind === 'create_instance' &&
      hasEnded(task) &&
      isNewFailure(task) &&
      !putAway.has(task.id) &&
      !guests.some((guest) => guest.id === task.subject),
  );
  return failed.map((task) => {
    const { text, detail } = task.error ? said(task.error) : { text: '', detail: '' };
    return (
      <Notice key={task.id} tone="fault" isAlert detail={detail} onDismiss={() => dismissTask(task.id)}>
        <b>{t('create.failed', { name: shortOf(names.get(task.subject) ?? task.name, task.subject) })}</b>{' '}
        {text} {t('task.noTrace')}
      </Notice>
    );
  });
}

function BulkBar({
  chosen,
  tasks,
  onAsk,
  onClear,
}: {
  chosen: readonly Guest[];
  tasks: readonly Task[];
  onAsk: (question: Question) => void;
  onClear: () => void;
}) {
  const { t } = useTranslation();
  const able = (verb: 'start' | 'stop' | 'delete'): Guest[] =>
    chosen.filter((guest) => may(verb, stateOf(guest, activeTask(guest.id, tasks))));
  const start = able('start');
  const stop = able('stop');
  const remove = able('delete');
  return (
    <div className="bulk" role="toolbar" aria-label={t('bulk.label')}>
      <b>{t('bulk.selected', { n: chosen.length })}</b>
      <Button
        size="small"
        disabled={!start.length}
        onClick={() =>
          void performAll(
            'start',
            start.map((guest) => guest.id),
          )
        }
      >
        {start.length ? t('bulk.start', { n: start.length }) : t('verb.start')}
      </Button>
      <Button size="small" disabled={!stop.length} onClick={() => onAsk({ about: 'stop', guests: stop })}>
        {stop.length ? t('bulk.stop', { n: stop.length }) : t('verb.stopAsk')}
      </Button>
      <Button
        size="small"
        disabled={!remove.length}
        onClick={() => onAsk({ about: 'delete', guests: remove })}
      >
        {remove.length ? t('bulk.delete', { n: remove.length }) : t('verb.deleteAsk')}
      </Button>
      <Button size="small" kind="quiet" onClick={onClear}>
        {t('bulk.clear')}
      </Button>
    </div>
  );
}

function Pages({ total, route }: { total: number; route: Extract<Route, { page: 'instances' }> }) {
  const { t } = useTranslation();
  const here = locale();
  const last = Math.min(total, route.offset + LIMIT);
  const at = (offset: number): void => go(paths.instances({ keyword: route.keyword, offset }));
  return (
    <nav className="pages" aria-label={t('paging.label')}>
      <span>
        {t('paging.range', {
          first: count(route.offset + 1, here),
          last: count(last, here),
          total: count(total, here),
        })}
      </span>
      <IconButton
        label={t('paging.previous')}
        kind="plain"
        icon={<ChevronLeft size={16} aria-hidden />}
        disabled={route.offset === 0}
        onClick={() => at(Math.max(0, route.offset - LIMIT))}
      />
      <IconButton
        label={t('paging.next')}
        kind="plain"
        icon={<ChevronRight size={16} aria-hidden />}
        disabled={last >= total}
        onClick={() => at(route.offset + LIMIT)}
      />
    </nav>
  );
}

function Nothing({
  keyword,
  scope,
  onScope,
  onCreate,
}: {
  keyword: string;
  scope: Scope;
  onScope: (scope: Scope) => void;
  onCreate: () => void;
}) {
  const { t } = useTranslation();
  const session = useSession();
  const { user, group, operator } = session;
  const images = useImages();
  const hasNoImage = images.data?.every((image) => image.size === 0) ?? false;
  if (keyword) {
    return (
      <Empty title={t('search.nothing', { keyword })}>
        <p>{t('search.nothingHow')}</p>
        <Button onClick={() => go(paths.instances())}>{t('search.clear')}</Button>
      </Empty>
    );
  }
  return (
    <Empty title={scope === 'mine' && operator ? t('scope.noneOfMine') : t('next.noInstance')}>
      {hasNoImage && operator ? (
        <>
          <p>{t('next.noImageHow')}</p>
          <Code label={t('command')}>{pushCommand(user, group)}</Code>
          <p>{t('next.orEmptyDisk')}</p>
        </>
      ) : (
        opens(session, 'acting') && <p>{t('next.noInstanceHow')}</p>
      )}
      <div className="row">
        {opens(session, 'acting') && (
          <Button kind="primary" icon={<Plus size={16} aria-hidden />} onClick={onCreate}>
            {t('create.first')}
          </Button>
        )}
        {scope === 'mine' && operator && <Button onClick={() => onScope('all')}>{t('scope.showAll')}</Button>}
      </div>
    </Empty>
  );
}
