// Tasks in words and in rows.

import { useMemo } from 'react';
import { useTranslation } from 'react-i18next';
import { hasEnded, type Task, type TaskState } from '../api/tasks';
import { useCancel } from '../app/actions';
import { useSaid } from '../app/errors';
import { useNow } from '../app/hooks';
import { useLive } from '../app/live-context';
import { paths } from '../app/router';
import { locale } from '../i18n';
import { ago, duration, moment } from '../i18n/format';
import { useStore } from '../live/store';
import { Button } from './button';
import { ProgressBar } from './measure';
import { type Shape, State, type Tone } from './words';

const LOOKS: Record<TaskState, [Tone, Shape]> = {
  running: ['busy', 'turning'],
  undoing: ['busy', 'turning'],
  stuck: ['fault', 'cross'],
  done: ['good', 'full'],
  failed: ['fault', 'cross'],
  cancelled: ['off', 'ring'],
};

const KINDS = [
  'create_instance',
  'start_instance',
  'stop_instance',
  'reboot_instance',
  'delete_instance',
  'forget_instance',
  'switch_off_forgotten',
] as const;
/** Behind these the instance has no page any more. */
const ENDS: readonly string[] = ['delete_instance', 'forget_instance', 'switch_off_forgotten'];
const STEPS = [
  'reserve_room',
  'pin_image',
  'lease_address',
  'create_volumes',
  'build_instance',
  'want_running',
  'start_instance',
  'want_stopped',
  'stop_instance',
  'mark_deleting',
  'mark_forgotten',
  'switch_off',
  'delete_instance',
  'release_address',
  'forget_instance',
] as const;

function known<T extends string>(list: readonly T[], text: string): T | undefined {
  return list.find((one) => one === text);
}

/** `admin.web-1` is `web-1` to its owner; without a name, the beginning of the id must do. */
export function shortOf(name: string | undefined, id: string): string {
  if (!name) return id.slice(0, 8);
  const dot = name.indexOf('.');
  return dot < 0 ? name : name.slice(dot + 1);
}

export function useTaskWords() {
  const { t } = useTranslation();
  return useMemo(
    () => ({
      /** `Start web-1` */
      title(task: Task, name: string | undefined): string {
        const subject = shortOf(name ?? task.name, task.subject);
        const kind = known(KINDS, task.kind);
        return kind
          ? t(`task.kind.${kind}`, { name: subject })
          : `${task.kind.replaceAll('_', ' ')} ${subject}`;
      },
      step(task: Task): string {
        const step = known(STEPS, task.step);
        return step ? t(`task.step.${step}`) : task.step.replaceAll('_', ' ');
      },
      outcome(task: Task): string {
        return t(`task.state.${task.state}`);
      },
      state(task: Task, isMute = false) {
        const [tone, shape] = LOOKS[task.state];
        return (
          <State tone={tone} shape={shape}>
            {isMute ? (
              <span className="hidden">{t(`task.state.${task.state}`)}</span>
            ) : (
              t(`task.state.${task.state}`)
            )}
          </State>
        );
      },
    }),
    [t],
  );
}

export function TaskTable({
  tasks,
  label,
  isOfOne = false,
}: {
  tasks: readonly Task[];
  label: string;
  /** All are of the instance that the page is about. */
  isOfOne?: boolean;
}) {
  const { t } = useTranslation();
  const words = useTaskWords();
  const said = useSaid();
  const cancel = useCancel();
  const names = useStore(useLive().names);
  const isAnyRunning = tasks.some((task) => !hasEnded(task));
  const now = useNow(isAnyRunning ? 1_000 : 10_000);
  return (
    <table className="table task-table" aria-label={label}>
      <thead>
        <tr>
          <th scope="col">{t('tasks.what')}</th>
          <th scope="col">{t('tasks.state')}</th>
          <th scope="col" data-wide>
            {t('tasks.when')}
          </th>
          <th scope="col" className="number" data-wide>
            {t('tasks.took')}
          </th>
          <th scope="col" className="tight">
            <span className="hidden">{t('actions')}</span>
          </th>
        </tr>
      </thead>
      <tbody>
        {tasks.map((task) => {
          const title = words.title(task, names.get(task.subject));
          const isRunning = !hasEnded(task);
          return (
            <tr key={task.id}>
              <td>
                {isOfOne || ENDS.includes(task.kind) ? (
                  title
                ) : (
                  <a href={paths.instance(task.subject)}>{title}</a>
                )}
                {task.error && <TaskError task={task} text={said(task.error)} />}
              </td>
              <td>
                <span className="task-state">
                  {words.state(task)}
                  {isRunning && <ProgressBar label={title} percent={task.progress_percent} />}
                  {isRunning && <span className="task-step">{words.step(task)}</span>}
                </span>
              </td>
              <td data-wide>
                <time
                  dateTime={new Date(task.created_ms).toISOString()}
                  title={moment(task.created_ms, locale())}
                >
                  {ago(task.created_ms, now, locale())}
                </time>
              </td>
              <td className="number" data-wide>
                {duration((task.ended_ms || now) - task.created_ms, locale())}
              </td>
              <td className="tight">
                {isRunning && task.cancellable && task.state === 'running' && (
                  <Button
                    size="small"
                    aria-label={t('tasks.cancelOf', { title })}
                    onClick={() => void cancel(task.id, task.subject)}
                  >
                    {t('cancel')}
                  </Button>
                )}
              </td>
            </tr>
          );
        })}
      </tbody>
    </table>
  );
}

function TaskError({ task, text }: { task: Task; text: { text: string; detail: string } }) {
  const { t } = useTranslation();
  const isHarmless = task.state === 'failed' || task.state === 'cancelled';
  return (
    <div className="task-error">
      {text.text}
      {text.detail && <span lang="en"> {text.detail}</span>}
      {isHarmless && task.kind === 'create_instance' && <span> {t('task.noTrace')}</span>}
    </div>
  );
}
