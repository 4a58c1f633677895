import { Loader } from 'lucide-react';
import type { ButtonHTMLAttributes, ReactNode, Ref } from 'react';

interface ButtonProps extends ButtonHTMLAttributes<HTMLButtonElement> {
  kind?: 'primary' | 'plain' | 'quiet' | 'danger';
  size?: 'normal' | 'small' | 'icon' | 'small-icon';
  icon?: ReactNode;
  /** It works on what was asked: pressed again it does nothing, and it keeps the focus. */
  isBusy?: boolean;
  ref?: Ref<HTMLButtonElement>;
}

export function Button({
  kind = 'plain',
  size = 'normal',
  icon,
  isBusy = false,
  children,
  type = 'button',
  onClick,
  ...rest
}: ButtonProps) {
  return (
    <button
      {...rest}
      type={type}
      className="button"
      data-kind={kind}
      data-size={size}
      aria-disabled={isBusy || undefined}
      onClick={(event) => {
        if (isBusy) event.preventDefault();
        else onClick?.(event);
      }}
    >
      {isBusy ? <Loader size={16} className="dot" data-turning="" aria-hidden /> : icon}
      {children}
    </button>
  );
}

/** A button that shows only a picture; its name is what assistive technology and the tip say. */
export function IconButton({
  label,
  size = 'icon',
  kind = 'quiet',
  ...rest
}: Omit<ButtonProps, 'children'> & { label: string }) {
  return <Button {...rest} kind={kind} size={size} aria-label={label} title={label} />;
}
