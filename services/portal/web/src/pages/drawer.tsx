// Tasks, wherever one is: what runs, how far it is, how it ended. It opens when somebody starts something.

import { ChevronDown, ChevronUp } from 'lucide-react';
import { useEffect, useRef, useState } from 'react';
import { useTranslation } from 'react-i18next';
import { isProblem } from '../api/http';
import { hasEnded, type Task } from '../api/tasks';
import { started } from '../app/actions';
import { useSaid } from '../app/errors';
import { useLive } from '../app/live-context';
import { useTasks } from '../app/queries';
import { Button } from '../kit/button';
import { TaskTable, useTaskWords } from '../kit/tasks';
import { Notice } from '../kit/words';
import { useStore } from '../live/store';

/** Newest first; what still runs stays on top. */
function inOrder(tasks: readonly Task[]): Task[] {
  return [...tasks.filter((task) => !hasEnded(task)), ...tasks.filter(hasEnded)];
}

const SHOWN = 50;

export function Drawer({ isOpen, onOpen }: { isOpen: boolean; onOpen: (isOpen: boolean) => void }) {
  const { t } = useTranslation();
  const said = useSaid();
  const found = useTasks();
  const words = useTaskWords();
  const names = useStore(useLive().names);
  const tasks = found.data?.tasks ?? [];
  const running = tasks.filter((task) => !hasEnded(task));
  const newest = running[0] ?? tasks[0];
  const startedCount = useStore(started);
  const before = useRef(startedCount);

  useEffect(() => {
    if (before.current === startedCount) return;
    before.current = startedCount;
    // On a phone the line below is enough: the sheet would hide what was just pressed.
    if (window.matchMedia('(min-width: 48rem)').matches) onOpen(true);
  }, [startedCount, onOpen]);

  return (
    <section className="drawer" data-open={isOpen ? '' : undefined} aria-label={t('tasks.title')}>
      <button
        type="button"
        className="drawer-bar"
        aria-expanded={isOpen}
        aria-controls="drawer-body"
        onClick={() => onOpen(!isOpen)}
      >
        <b>{t('tasks.title')}</b>
        <span>{running.length ? t('tasks.running', { n: running.length }) : t('tasks.quiet')}</span>
        {newest && !isOpen && (
          <span className="drawer-news">
            {words.state(newest, true)} {words.title(newest, names.get(newest.subject))}
          </span>
        )}
        {isOpen ? <ChevronDown size={16} aria-hidden /> : <ChevronUp size={16} aria-hidden />}
        <kbd aria-hidden>t</kbd>
      </button>
      <Announcer tasks={tasks} />
      {isOpen && (
        // biome-ignore lint/a11y/noNoninteractiveTabindex: it scrolls, and then the keyboard must reach it
        <section className="drawer-body" id="drawer-body" tabIndex={0} aria-label={t('tasks.list')}>
          {found.error && (
            <Notice
              tone="fault"
              detail={isProblem(found.error) ? said(found.error).detail : ''}
              action={
                <Button size="small" onClick={() => void found.refetch()}>
                  {t('retry')}
                </Button>
              }
            >
              {said(found.error).text}
            </Notice>
          )}
          {tasks.length > 0 && <TaskTable tasks={inOrder(tasks).slice(0, SHOWN)} label={t('tasks.list')} />}
          {found.data && tasks.length === 0 && <p className="drawer-empty">{t('tasks.none')}</p>}
        </section>
      )}
    </section>
  );
}

/** Says aloud how the tasks ended that were running while the page was open. */
function Announcer({ tasks }: { tasks: readonly Task[] }) {
  const words = useTaskWords();
  const names = useStore(useLive().names);
  const running = useRef(new Set<string>());
  const [news, setNews] = useState('');
  useEffect(() => {
    for (const task of tasks) {
      if (!hasEnded(task)) running.current.add(task.id);
      else if (running.current.delete(task.id)) {
        setNews(`${words.title(task, names.get(task.subject))}: ${words.outcome(task)}`);
      }
    }
  }, [tasks, words, names]);
  return (
    <p className="hidden" role="status">
      {news}
    </p>
  );
}
