import { Dialog as Base } from '@base-ui/react/dialog';
import { X } from 'lucide-react';
import { type FormEvent, type ReactNode, type RefObject, useRef } from 'react';
import { useTranslation } from 'react-i18next';
import { IconButton } from './button';
import { screenWithKeyboard } from './keyboard';

/** Where the keyboard was: behind a menu, that is the button which opened it. */
function opener(): HTMLElement | null {
  const active = document.activeElement;
  const screen = screenWithKeyboard();
  if (screen) return screen;
  const menu = active?.closest('[role="menu"]');
  const trigger = menu && document.getElementById(menu.getAttribute('aria-labelledby') ?? '');
  return trigger ?? (active instanceof HTMLElement && active !== document.body ? active : null);
}

/** A sheet above the page; with `onSubmit` it is a form, and its foot holds the button that sends it. */
export function Dialog({
  isOpen,
  onClose,
  title,
  children,
  foot,
  onSubmit,
  isWide = false,
  isAlert = false,
  initialFocus,
  finalFocus,
}: {
  isOpen: boolean;
  onClose: () => void;
  title: string;
  children: ReactNode;
  foot?: ReactNode;
  onSubmit?: () => void;
  isWide?: boolean;
  /** It asks for a decision: assistive technology reads it out whole. */
  isAlert?: boolean;
  initialFocus?: RefObject<HTMLElement | null>;
  /** Where the keyboard goes from here; null: back to where it was. */
  finalFocus?: () => HTMLElement | null;
}) {
  const { t } = useTranslation();
  const wasOpen = useRef(false);
  const before = useRef<HTMLElement | null>(null);
  if (isOpen && !wasOpen.current) before.current = opener();
  wasOpen.current = isOpen;
  const inside = (
    <>
      <div className="dialog-head">
        <Base.Title>{title}</Base.Title>
        <Base.Close render={<IconButton label={t('close')} icon={<X size={16} aria-hidden />} />} />
      </div>
      <div className="dialog-body">{children}</div>
      {foot && <div className="dialog-foot">{foot}</div>}
    </>
  );
  const submit = (event: FormEvent): void => {
    event.preventDefault();
    onSubmit?.();
  };
  return (
    <Base.Root open={isOpen} onOpenChange={(open) => !open && onClose()}>
      <Base.Portal>
        <Base.Backdrop className="veil" />
        <Base.Popup
          className="dialog"
          data-wide={isWide || undefined}
          {...(isAlert && { role: 'alertdialog' })}
          {...(initialFocus && { initialFocus })}
          finalFocus={() => {
            const next = finalFocus?.() ?? before.current;
            if (next?.isConnected) return next;
            // Not its first button, which one might press by a slip.
            requestAnimationFrame(() => document.getElementById('main')?.focus());
            return false;
          }}
        >
          {onSubmit ? (
            <form className="dialog-form" noValidate onSubmit={submit}>
              {inside}
            </form>
          ) : (
            inside
          )}
        </Base.Popup>
      </Base.Portal>
    </Base.Root>
  );
}
