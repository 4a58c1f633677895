// What the pages say about state: notices, dots, empty places, code to copy.

import { Check, CircleAlert, Copy, Info, TriangleAlert, X } from 'lucide-react';
import { type ReactNode, useEffect, useState } from 'react';
import { useTranslation } from 'react-i18next';
import { IconButton } from './button';

export type Tone = 'off' | 'good' | 'busy' | 'fault';
export type Shape = 'full' | 'ring' | 'turning' | 'bars' | 'cross';

/** The shape says it as well as the colour does. */
function Dot({ tone, shape }: { tone: Tone; shape: Shape }) {
  return (
    <svg
      className="dot"
      data-tone={tone}
      data-turning={shape === 'turning' ? '' : undefined}
      width="12"
      height="12"
      viewBox="0 0 12 12"
      fill="none"
      stroke="currentColor"
      strokeWidth="2"
      aria-hidden
    >
      {shape === 'full' && <circle cx="6" cy="6" r="4.5" fill="currentColor" stroke="none" />}
      {shape === 'ring' && <circle cx="6" cy="6" r="3.75" strokeWidth="1.5" />}
      {shape === 'turning' && <path d="M6 2a4 4 0 1 1-4 4" />}
      {shape === 'bars' && <path d="M4 2.5v7M8 2.5v7" strokeWidth="2.25" />}
      {shape === 'cross' && <path d="M2.5 2.5l7 7M9.5 2.5l-7 7" />}
    </svg>
  );
}

export function State({ tone, shape, children }: { tone: Tone; shape: Shape; children: ReactNode }) {
  return (
    <span className="state">
      <Dot tone={tone} shape={shape} />
      {children}
    </span>
  );
}

const ICONS = { fault: CircleAlert, busy: TriangleAlert, plain: Info };

export function Notice({
  tone = 'plain',
  children,
  detail,
  action,
  onDismiss,
  isAlert = false,
}: {
  tone?: 'fault' | 'busy' | 'plain';
  children: ReactNode;
  /** The server's own words. */
  detail?: ReactNode;
  action?: ReactNode;
  onDismiss?: () => void;
  /** Read out as soon as it appears. */
  isAlert?: boolean;
}) {
  const { t } = useTranslation();
  const Icon = ICONS[tone];
  return (
    <div className="notice" data-tone={tone} role={isAlert ? 'alert' : undefined}>
      <Icon size={16} aria-hidden />
      <div>
        {children}
        {detail && <div className="detail">{detail}</div>}
      </div>
      {action}
      {onDismiss && (
        <IconButton
          label={t('dismiss')}
          size="small-icon"
          icon={<X size={14} aria-hidden />}
          onClick={onDismiss}
        />
      )}
    </div>
  );
}

export function Empty({
  title,
  children,
  isWhole = false,
}: {
  title: string;
  children?: ReactNode;
  /** It is all that the page has to say. */
  isWhole?: boolean;
}) {
  return (
    <div className="empty">
      {isWhole ? <h1>{title}</h1> : <h2>{title}</h2>}
      {children}
    </div>
  );
}

const COPIED_MS = 1_600;

/** Text for a terminal, with a button that copies it. */
export function Code({ label, children }: { label: string; children: string }) {
  const { t } = useTranslation();
  const [isCopied, setCopied] = useState(false);
  useEffect(() => {
    if (!isCopied) return;
    const timer = setTimeout(() => setCopied(false), COPIED_MS);
    return () => clearTimeout(timer);
  }, [isCopied]);
  return (
    <div className="code">
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: it may scroll, and then the keyboard must reach it */}
      <section tabIndex={0} aria-label={label}>
        <pre>
          <code>{children}</code>
        </pre>
      </section>
      <IconButton
        label={isCopied ? t('copied') : t('copy')}
        icon={isCopied ? <Check size={16} aria-hidden /> : <Copy size={16} aria-hidden />}
        onClick={() => void copyText(children).then(setCopied)}
      />
    </div>
  );
}

/** False when the browser does not allow it (a page without TLS that is not on this machine). */
async function copyText(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copyBySelection(text);
  }
}

function copyBySelection(text: string): boolean {
  const area = document.createElement('textarea');
  area.value = text;
  area.className = 'hidden';
  document.body.append(area);
  area.select();
  const isDone = document.execCommand('copy');
  area.remove();
  return isDone;
}

/** Text whose parts between backticks are for a terminal. */
export function Coded({ children }: { children: string }) {
  return children.split('`').map((part, index) =>
    // biome-ignore lint/suspicious/noArrayIndexKey: the parts of one text never move
    index % 2 ? <code key={index}>{part}</code> : part,
  );
}

export function Unit({ children }: { children: ReactNode }) {
  return <span className="unit">{children}</span>;
}
