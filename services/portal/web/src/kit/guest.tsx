// An instance in words, and what may be done with it as buttons and dialogs.

import { CirclePlay, CircleStop, Ellipsis, Monitor, Power, RotateCcw, Trash2, Zap } from 'lucide-react';
import { useRef, useState } from 'react';
import { useTranslation } from 'react-i18next';
import { type Guest, shortName } from '../api/guests';
import type { Task } from '../api/tasks';
import { forgive, perform, performAll, refusals, useCancel } from '../app/actions';
import { useSaid } from '../app/errors';
import { type GuestState, may, stateOf } from '../app/guest-state';
import { opens } from '../app/menus';
import { go, paths } from '../app/router';
import { useSession } from '../app/who';
import { useStore } from '../live/store';
import { Button, IconButton } from './button';
import { Dialog } from './dialog';
import { TextField } from './field';
import { ProgressBar } from './measure';
import { Menu, MenuItem, MenuLine } from './menu';
import { Notice, type Shape, State, type Tone } from './words';

const LOOKS: Record<GuestState, [Tone, Shape]> = {
  creating: ['busy', 'turning'],
  starting: ['busy', 'turning'],
  stopping: ['busy', 'turning'],
  rebooting: ['busy', 'turning'],
  deleting: ['busy', 'turning'],
  undoing: ['busy', 'turning'],
  running: ['good', 'full'],
  stopped: ['off', 'ring'],
  paused: ['busy', 'bars'],
  lost: ['fault', 'cross'],
};

export function GuestStateWord({ guest, task }: { guest: Guest; task: Task | undefined }) {
  const { t } = useTranslation();
  const state = stateOf(guest, task);
  const [tone, shape] = LOOKS[state];
  return (
    <State tone={tone} shape={shape}>
      {t(`state.${state}`)}
    </State>
  );
}

/** State, how far its task is, why it is so, and whether anything really runs. */
export function GuestStateCell({ guest, task }: { guest: Guest; task: Task | undefined }) {
  const { t } = useTranslation();
  const cancel = useCancel();
  const name = shortName(guest);
  return (
    <span className="guest-state">
      <GuestStateWord guest={guest} task={task} />
      {task && <ProgressBar label={t('progressOf', { name })} percent={task.progress_percent} />}
      {task?.cancellable && task.state === 'running' && (
        <Button
          size="small"
          kind="quiet"
          aria-label={t('cancelOf', { name })}
          onClick={() => void cancel(task.id, guest.id)}
        >
          {t('cancel')}
        </Button>
      )}
      {guest.simulated && <span className="tag">{t('simulated')}</span>}
      {!task && guest.reason && guest.status !== 'running' && (
        <span className="guest-reason">{guest.reason}</span>
      )}
    </span>
  );
}

export type Question = { about: 'stop' | 'reboot' | 'delete'; guests: Guest[] };

export function GuestActions({
  guest,
  task,
  onAsk,
  isWordy = false,
}: {
  guest: Guest;
  task: Task | undefined;
  onAsk: (question: Question) => void;
  /** With the words beside the pictures, where there is room. */
  isWordy?: boolean;
}) {
  const { t } = useTranslation();
  const mayAct = opens(useSession(), 'acting');
  const state = stateOf(guest, task);
  const name = shortName(guest);
  const act = (label: string, picture: React.ReactNode, onClick: () => void, ofName: string) =>
    isWordy ? (
      <Button icon={picture} onClick={onClick}>
        {label}
      </Button>
    ) : (
      <IconButton label={ofName} size="small-icon" icon={picture} onClick={onClick} />
    );
  if (!mayAct) return null;
  return (
    <span className="guest-actions">
      {may('start', state) &&
        act(
          t('verb.start'),
          <CirclePlay size={16} aria-hidden />,
          () => void perform('start', guest.id),
          t('verbOf.start', { name }),
        )}
      {may('console', state) &&
        !isWordy &&
        act(
          t('verb.console'),
          <Monitor size={16} aria-hidden />,
          () => go(paths.instance(guest.id, 'console')),
          t('verbOf.console', { name }),
        )}
      {may('stop', state) &&
        act(
          t('verb.stop'),
          <CircleStop size={16} aria-hidden />,
          () => onAsk({ about: 'stop', guests: [guest] }),
          t('verbOf.stop', { name }),
        )}
      <Menu
        trigger={
          <IconButton
            label={t('verbOf.more', { name })}
            size={isWordy ? 'icon' : 'small-icon'}
            kind={isWordy ? 'plain' : 'quiet'}
            icon={<Ellipsis size={16} aria-hidden />}
          />
        }
      >
        {state === 'paused' ? (
          <>
            <MenuItem icon={<Zap size={14} aria-hidden />} onChoose={() => void perform('reset', guest.id)}>
              {t('verb.reset')}
            </MenuItem>
            <MenuItem
              icon={<Power size={14} aria-hidden />}
              onChoose={() => void perform('powerOff', guest.id)}
            >
              {t('verb.powerOff')}
            </MenuItem>
          </>
        ) : (
          <>
            <MenuItem
              icon={<CirclePlay size={14} aria-hidden />}
              isDisabled={!may('start', state)}
              onChoose={() => void perform('start', guest.id)}
            >
              {t('verb.start')}
            </MenuItem>
            <MenuItem
              icon={<Monitor size={14} aria-hidden />}
              isDisabled={!may('console', state)}
              onChoose={() => go(paths.instance(guest.id, 'console'))}
            >
              {t('verb.console')}
            </MenuItem>
            <MenuItem
              icon={<RotateCcw size={14} aria-hidden />}
              isDisabled={!may('reboot', state)}
              onChoose={() => onAsk({ about: 'reboot', guests: [guest] })}
            >
              {t('verb.rebootAsk')}
            </MenuItem>
            <MenuItem
              icon={<CircleStop size={14} aria-hidden />}
              isDisabled={!may('stop', state)}
              onChoose={() => onAsk({ about: 'stop', guests: [guest] })}
            >
              {t('verb.stopAsk')}
            </MenuItem>
          </>
        )}
        <MenuLine />
        <MenuItem
          icon={<Trash2 size={14} aria-hidden />}
          isDanger
          isDisabled={!may('delete', state)}
          end={state === 'running' ? t('delete.stopFirst') : undefined}
          onChoose={() => onAsk({ about: 'delete', guests: [guest] })}
        >
          {t('verb.deleteAsk')}
        </MenuItem>
      </Menu>
    </span>
  );
}

/** What the server refused, where the instance is shown. */
export function Refusal({ guest }: { guest: Guest }) {
  const { t } = useTranslation();
  const said = useSaid();
  const problem = useStore(refusals).get(guest.id);
  if (!problem) return null;
  const { text, detail } = said(problem);
  return (
    <Notice tone="fault" isAlert detail={detail} onDismiss={() => forgive(guest.id)}>
      <b>{t('refused', { name: shortName(guest) })}</b> {text}
    </Notice>
  );
}

/** The dialogs behind the verbs that one must not do by a slip. */
export function Questions({
  question,
  onClose,
  onDeleted,
}: {
  question: Question | null;
  onClose: () => void;
  onDeleted?: () => void;
}) {
  return (
    <>
      <PowerDialog question={question?.about === 'delete' ? null : question} onClose={onClose} />
      <DeleteDialog
        guests={question?.about === 'delete' ? question.guests : null}
        onClose={onClose}
        {...(onDeleted && { onDeleted })}
      />
    </>
  );
}

/** The last value that was there: dialogs keep their text while they close. */
function useLast<T>(value: T | null): T | null {
  const last = useRef<T | null>(null);
  if (value !== null) last.current = value;
  return value ?? last.current;
}

function nameList(guests: readonly Guest[]): string {
  return guests.map(shortName).join(', ');
}

function PowerDialog({ question, onClose }: { question: Question | null; onClose: () => void }) {
  const { t } = useTranslation();
  const shown = useLast(question);
  const gentle = useRef<HTMLButtonElement>(null);
  const isReboot = shown?.about === 'reboot';
  const guests = shown?.guests ?? [];
  const act = (verb: 'stop' | 'powerOff' | 'reboot' | 'reset'): void => {
    onClose();
    void performAll(
      verb,
      guests.map((guest) => guest.id),
    );
  };
  const names = guests.length === 1 ? nameList(guests) : t('instancesCount', { count: guests.length });
  return (
    <Dialog
      isOpen={question !== null}
      onClose={onClose}
      isAlert
      initialFocus={gentle}
      title={isReboot ? t('power.rebootTitle', { names }) : t('power.stopTitle', { names })}
      foot={
        <>
          <span className="start">
            <Button
              onClick={() => act(isReboot ? 'reset' : 'powerOff')}
              icon={<Power size={15} aria-hidden />}
            >
              {isReboot ? t('verb.reset') : t('verb.powerOff')}
            </Button>
          </span>
          <Button onClick={onClose}>{t('cancel')}</Button>
          <Button ref={gentle} kind="primary" onClick={() => act(isReboot ? 'reboot' : 'stop')}>
            {isReboot ? t('verb.reboot') : t('verb.shutDown')}
          </Button>
        </>
      }
    >
      {guests.length > 1 && <p className="name-list">{nameList(guests)}</p>}
      <p>{isReboot ? t('power.rebootGentle') : t('power.stopGentle')}</p>
      <p>{isReboot ? t('power.rebootForce') : t('power.stopForce')}</p>
    </Dialog>
  );
}

function DeleteDialog({
  guests: asked,
  onClose,
  onDeleted,
}: {
  guests: Guest[] | null;
  onClose: () => void;
  onDeleted?: () => void;
}) {
  const { t } = useTranslation();
  const [typed, setTyped] = useState('');
  const [wasTried, setTried] = useState(false);
  const input = useRef<HTMLInputElement>(null);
  const guests = useLast(asked) ?? [];
  const only = guests.length === 1 ? guests[0] : undefined;
  const wanted = only ? shortName(only) : String(guests.length);
  const isRight = typed.trim() === wanted;
  const close = (): void => {
    setTyped('');
    setTried(false);
    onClose();
  };
  return (
    <Dialog
      isOpen={asked !== null}
      onClose={close}
      isAlert
      initialFocus={input}
      title={
        only ? t('delete.title', { name: shortName(only) }) : t('delete.titleMany', { n: guests.length })
      }
      onSubmit={() => {
        setTried(true);
        if (!isRight) {
          input.current?.focus();
          return;
        }
        close();
        void performAll(
          'delete',
          guests.map((guest) => guest.id),
        );
        onDeleted?.();
      }}
      foot={
        <>
          <Button onClick={close}>{t('cancel')}</Button>
          <Button kind="danger" type="submit" icon={<Trash2 size={15} aria-hidden />}>
            {t('verb.delete')}
          </Button>
        </>
      }
    >
      {!only && <p className="name-list">{nameList(guests)}</p>}
      <p>{only ? t('delete.warning') : t('delete.warningMany')}</p>
      <TextField
        ref={input}
        label={only ? t('delete.typeName', { name: wanted }) : t('delete.typeCount', { n: wanted })}
        value={typed}
        onValue={setTyped}
        autoComplete="off"
        spellCheck={false}
        error={wasTried && !isRight ? t('delete.mismatch', { wanted }) : undefined}
      />
    </Dialog>
  );
}
