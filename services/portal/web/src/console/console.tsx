// The screen of an instance, and what one needs beside it.

import { ClipboardPaste, Keyboard, Maximize, Minimize } from 'lucide-react';
import { useCallback, useEffect, useRef, useState } from 'react';
import { useTranslation } from 'react-i18next';
import { type Guest, shortName } from '../api/guests';
import type { Task } from '../api/tasks';
import { perform } from '../app/actions';
import { sentence } from '../app/errors';
import { may, stateOf } from '../app/guest-state';
import { Button, IconButton } from '../kit/button';
import { Segments } from '../kit/choice';
import { GuestStateWord } from '../kit/guest';
import { ProgressBar } from '../kit/measure';
import { Menu, MenuItem, MenuLine } from '../kit/menu';
import { State } from '../kit/words';
import '../styles/console.css';
import { ALT, COMBINATIONS, CONTROL, combination, SHIFT } from './keys';
import { Paste } from './paste';
import type { Screen } from './progress';
import { useScreen } from './use-screen';

type Scaling = 'fit' | 'exact';

const BUSY = '[role="dialog"], [role="alertdialog"], [role="menu"], input, textarea';

/** The combinations that come in groups in the menu: after these there is a line. */
const LINES_AFTER = new Set(['Ctrl+Alt+Del', 'Ctrl+Alt+F7', 'Alt+F4', 'Tab']);

export default function Console({ guest, task }: { guest: Guest; task: Task | undefined }) {
  const { t } = useTranslation();
  const name = shortName(guest);
  const target = useRef<HTMLDivElement>(null);
  const keysButton = useRef<HTMLButtonElement>(null);
  const [scaling, setScaling] = useState<Scaling>('fit');
  const [isPasting, setPasting] = useState(false);
  const [hasKeyboard, setKeyboard] = useState(false);
  const isRunning = guest.running && !guest.lost;
  const { screen, reconnect, send, focus, blur } = useScreen(target, guest.id, isRunning, scaling === 'fit');
  const isConnected = screen.is === 'connected';
  const [isFull, toggleFull] = useFullScreen();

  const release = useCallback(() => {
    // The guest must not believe that these are still held.
    send([SHIFT, ALT, CONTROL].map((key) => ({ ...key, isDown: false })));
    blur();
    keysButton.current?.focus();
  }, [send, blur]);
  useReleaseKeys(target, release);
  useKeptKeyboard(target);
  const hasSent = useRef(false);

  useEffect(() => {
    // Not out of somebody's hands: a screen that comes back must not swallow what is being typed elsewhere.
    if (isConnected && !document.activeElement?.closest(BUSY)) focus();
  }, [isConnected, focus]);

  const closePaste = useCallback(() => setPasting(false), []);
  return (
    <div className="console" data-full={isFull ? '' : undefined}>
      <div className="console-bar" role="toolbar" aria-label={t('console.tools')}>
        <ScreenState screen={screen} />
        <span className="console-keyboard">{hasKeyboard && isConnected ? t('console.hasKeyboard') : ''}</span>
        <span className="console-tools">
          <Segments
            label={t('console.scaling')}
            value={scaling}
            onValue={setScaling}
            options={[
              { value: 'fit', label: t('console.fit') },
              { value: 'exact', label: '1:1' },
            ]}
          />
          <Menu
            trigger={
              <Button ref={keysButton} icon={<Keyboard size={16} aria-hidden />} disabled={!isConnected}>
                {t('console.keys')}
              </Button>
            }
            isLong
            finalFocus={() => {
              const next = hasSent.current ? target.current : null;
              hasSent.current = false;
              return next;
            }}
          >
            {COMBINATIONS.flatMap(({ name: keys, keys: held }) => [
              <MenuItem
                key={keys}
                onChoose={() => {
                  send(combination(held));
                  hasSent.current = true;
                }}
              >
                {keys}
              </MenuItem>,
              ...(LINES_AFTER.has(keys) ? [<MenuLine key={`${keys} line`} />] : []),
            ])}
          </Menu>
          <Button
            icon={<ClipboardPaste size={16} aria-hidden />}
            disabled={!isConnected}
            onClick={() => setPasting(true)}
          >
            {t('console.paste')}
          </Button>
          <IconButton
            label={isFull ? t('console.leaveFull') : t('console.full')}
            kind="plain"
            icon={isFull ? <Minimize size={16} aria-hidden /> : <Maximize size={16} aria-hidden />}
            onClick={toggleFull}
          />
        </span>
      </div>
      <div className="console-room">
        {/* The guest's own keyboard and pointer: nothing in it is ours to name. */}
        <div
          ref={target}
          className="console-screen"
          data-scaling={scaling}
          data-keys="guest"
          role="application"
          aria-label={t('console.screenOf', { name })}
          aria-describedby="console-help"
          // biome-ignore lint/a11y/noNoninteractiveTabindex: the keyboard enters the guest here
          tabIndex={0}
          onFocus={(event) => {
            setKeyboard(true);
            if (event.target === event.currentTarget) focus();
          }}
          onBlur={() => setKeyboard(false)}
        />
        {!isConnected && <Curtain guest={guest} task={task} screen={screen} onReconnect={reconnect} />}
      </div>
      <p className="console-help" id="console-help">
        {t('console.help')}
      </p>
      <Paste isOpen={isPasting} isConnected={isConnected} onClose={closePaste} send={send} screen={target} />
    </div>
  );
}

function ScreenState({ screen }: { screen: Screen }) {
  const { t } = useTranslation();
  const looks = {
    off: ['off', 'ring'],
    connecting: ['busy', 'turning'],
    connected: ['good', 'full'],
    waiting: ['busy', 'turning'],
    refused: ['fault', 'cross'],
  } as const;
  const [tone, shape] = looks[screen.is];
  return (
    <span role="status" className="console-state">
      <State tone={tone} shape={shape}>
        {t(`console.is.${screen.is}`)}
      </State>
    </span>
  );
}

/** In front of a dark screen: why it is dark, and the way out. */
function Curtain({
  guest,
  task,
  screen,
  onReconnect,
}: {
  guest: Guest;
  task: Task | undefined;
  screen: Screen;
  onReconnect: () => void;
}) {
  const { t } = useTranslation();
  const name = shortName(guest);
  const state = stateOf(guest, task);
  const reason = 'reason' in screen ? screen.reason : undefined;
  if (screen.is === 'connecting' && !reason) {
    return <div className="curtain">{t('console.is.connecting')}</div>;
  }
  if (reason) {
    return (
      <div className="curtain">
        <p>{t(`console.why.${reason.word}`)}</p>
        {reason.detail && <p lang="en">{sentence(reason.detail)}</p>}
        {screen.is !== 'refused' && <p className="hint">{t('console.byItself')}</p>}
        <Button kind="primary" onClick={onReconnect}>
          {t('console.reconnect')}
        </Button>
      </div>
    );
  }
  return (
    <div className="curtain">
      <GuestStateWord guest={guest} task={task} />
      <p>
        {t(`console.off.${may('start', state) ? 'startable' : state === 'lost' ? 'lost' : 'other'}`, {
          name,
        })}
      </p>
      {task && <ProgressBar label={t('progressOf', { name })} percent={task.progress_percent} />}
      {may('start', state) && (
        <Button kind="primary" onClick={() => void perform('start', guest.id)}>
          {t('verbOf.start', { name })}
        </Button>
      )}
    </div>
  );
}

/** Ctrl, Alt and Shift pressed together and let go give the keyboard back to the page. */
function useReleaseKeys(target: React.RefObject<HTMLElement | null>, release: () => void): void {
  useEffect(() => {
    const place = target.current;
    if (!place) return;
    let isArmed = false;
    const isModifier = (event: KeyboardEvent): boolean => ['Control', 'Alt', 'Shift'].includes(event.key);
    const onDown = (event: KeyboardEvent): void => {
      isArmed = isModifier(event) && event.ctrlKey && event.altKey && event.shiftKey;
    };
    const onUp = (event: KeyboardEvent): void => {
      if (!isArmed || !isModifier(event)) return;
      isArmed = false;
      release();
    };
    // Before noVNC, which keeps all keys for the guest.
    place.addEventListener('keydown', onDown, true);
    place.addEventListener('keyup', onUp, true);
    return () => {
      place.removeEventListener('keydown', onDown, true);
      place.removeEventListener('keyup', onUp, true);
    };
  }, [target, release]);
}

/** What belongs to the page about the instance, and does not lead away from its screen. */
const BESIDE = '.page-instance button:not([role="tab"])';

/** A press on a button beside the screen leaves the keyboard in it, so that what is typed next is for the guest. */
function useKeptKeyboard(target: React.RefObject<HTMLElement | null>): void {
  useEffect(() => {
    const onPress = (event: MouseEvent): void => {
      const isBeside = event.target instanceof Element && event.target.closest(BESIDE) !== null;
      if (isBeside && target.current?.contains(document.activeElement)) event.preventDefault();
    };
    document.addEventListener('mousedown', onPress);
    return () => document.removeEventListener('mousedown', onPress);
  }, [target]);
}

/** Some browsers can be asked to leave Esc, Alt+Tab and the like to the guest while the page has the whole screen. */
interface KeyboardLock {
  lock?: () => Promise<void>;
  unlock?: () => void;
}

/** The page as a whole takes the screen, so that menus and dialogs come along. */
function useFullScreen(): [boolean, () => void] {
  const [isFull, setFull] = useState(false);
  useEffect(() => {
    const onChange = (): void => {
      const isNow = document.fullscreenElement !== null;
      setFull(isNow);
      const keyboard = (navigator as { keyboard?: KeyboardLock }).keyboard;
      if (isNow) void keyboard?.lock?.().catch(() => undefined);
      else keyboard?.unlock?.();
    };
    document.addEventListener('fullscreenchange', onChange);
    return () => {
      document.removeEventListener('fullscreenchange', onChange);
      if (document.fullscreenElement) void document.exitFullscreen();
    };
  }, []);
  const toggle = useCallback(() => {
    if (document.fullscreenElement) void document.exitFullscreen();
    else void document.documentElement.requestFullscreen().catch(() => undefined);
  }, []);
  return [isFull, toggle];
}
