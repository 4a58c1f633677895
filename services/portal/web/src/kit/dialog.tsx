import { Dialog as Base } from '@base-ui/react/dialog';
import { X } from 'lucide-react';
import type { FormEvent, ReactNode, RefObject } from 'react';
import { useTranslation } from 'react-i18next';
import { IconButton } from './button';

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
}) {
  const { t } = useTranslation();
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
