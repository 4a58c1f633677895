// Text for the guest, typed key by key: a screen has no clipboard.

import { type RefObject, useEffect, useRef, useState } from 'react';
import { useTranslation } from 'react-i18next';
import { Button } from '../kit/button';
import { Select } from '../kit/choice';
import { Dialog } from '../kit/dialog';
import { Field } from '../kit/field';
import { ProgressBar } from '../kit/measure';
import { Notice } from '../kit/words';
import { eventsOf, type KeyEvent, type Stroke, typingOf, type Untypable } from './keys';

/** Milliseconds from one key to the next. */
const PACES = { fast: 8, normal: 25, slow: 80 } as const;
type Pace = keyof typeof PACES;

const NAMED = 12;

function written({ character, line }: Untypable): string {
  const shown = /\p{C}/u.test(character)
    ? `U+${(character.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, '0')}`
    : character;
  return `${shown} (${line})`;
}

export function Paste({
  isOpen,
  isConnected,
  onClose,
  send,
  screen,
}: {
  isOpen: boolean;
  isConnected: boolean;
  onClose: () => void;
  send: (events: readonly KeyEvent[]) => void;
  /** Has the keyboard after something was typed into it. */
  screen: RefObject<HTMLElement | null>;
}) {
  const { t } = useTranslation();
  const [text, setText] = useState('');
  const [pace, setPace] = useState<Pace>('normal');
  const [typing, setTyping] = useState<{ strokes: Stroke[]; next: number } | null>(null);
  const hasTyped = useRef(false);
  const area = useRef<HTMLTextAreaElement>(null);
  const { strokes, untypable } = typingOf(text);

  useEffect(() => {
    if (!typing) return;
    const stroke = typing.strokes[typing.next];
    if (!stroke || !isConnected) {
      if (!stroke) {
        setTyping(null);
        setText('');
        onClose();
      } else setTyping(null);
      return;
    }
    const timer = setTimeout(() => {
      send(eventsOf(stroke));
      hasTyped.current = true;
      setTyping({ ...typing, next: typing.next + 1 });
    }, PACES[pace]);
    return () => clearTimeout(timer);
  }, [typing, pace, isConnected, send, onClose]);

  const close = (): void => {
    setTyping(null);
    onClose();
  };
  const start = (): void => {
    if (!typing && strokes.length > 0 && isConnected) setTyping({ strokes, next: 0 });
  };
  const percent = typing ? Math.floor((typing.next / typing.strokes.length) * 100) : 0;
  return (
    <Dialog
      isOpen={isOpen}
      onClose={close}
      title={t('paste.title')}
      onSubmit={start}
      initialFocus={area}
      finalFocus={() => {
        const next = hasTyped.current ? screen.current : null;
        hasTyped.current = false;
        return next;
      }}
      foot={
        typing ? (
          <>
            <span className="start">
              <ProgressBar label={t('paste.progress')} percent={percent} />
            </span>
            <Button onClick={() => setTyping(null)}>{t('paste.stop')}</Button>
          </>
        ) : (
          <>
            <Button onClick={close}>{t('cancel')}</Button>
            <Button kind="primary" type="submit" disabled={strokes.length === 0 || !isConnected}>
              {untypable.length > 0 && strokes.length > 0
                ? t('paste.typeWithout', { count: strokes.length })
                : t('paste.type', { count: strokes.length })}
            </Button>
          </>
        )
      }
    >
      <Field label={t('paste.text')} hint={t('paste.layout')}>
        {(ids) => (
          <textarea
            {...ids}
            ref={area}
            className="input"
            value={text}
            readOnly={typing !== null}
            spellCheck={false}
            autoComplete="off"
            onChange={(event) => setText(event.target.value)}
            onKeyDown={(event) => {
              if (event.key !== 'Enter' || !(event.ctrlKey || event.metaKey)) return;
              event.preventDefault();
              start();
            }}
          />
        )}
      </Field>
      {untypable.length > 0 && (
        <Notice tone="busy">
          {t('paste.untypable', {
            list: untypable.slice(0, NAMED).map(written).join(', ') + (untypable.length > NAMED ? ' …' : ''),
          })}
        </Notice>
      )}
      {!isConnected && <Notice tone="busy">{t('paste.notConnected')}</Notice>}
      <Select
        label={t('paste.pace')}
        value={pace}
        onValue={setPace}
        options={[
          { value: 'fast', label: t('paste.fast') },
          { value: 'normal', label: t('paste.normal') },
          { value: 'slow', label: t('paste.slow') },
        ]}
      />
    </Dialog>
  );
}
