import { CircleAlert, Eye, EyeOff } from 'lucide-react';
import { type InputHTMLAttributes, type ReactNode, type Ref, useId, useState } from 'react';
import { useTranslation } from 'react-i18next';
import { IconButton } from './button';

interface Frame {
  label: ReactNode;
  hint?: ReactNode;
  /** What is wrong with it, in words; empty when nothing is. */
  error?: string | undefined;
}

interface FieldIds {
  id: string;
  'aria-invalid'?: true;
  'aria-describedby'?: string;
}

/** A label, whatever is filled in, and what is to be said about it, tied together. */
export function Field({ label, hint, error, children }: Frame & { children: (ids: FieldIds) => ReactNode }) {
  const id = useId();
  const described = [hint && `${id}-hint`, error && `${id}-error`].filter(Boolean).join(' ');
  const ids: FieldIds = { id };
  if (error) ids['aria-invalid'] = true;
  if (described) ids['aria-describedby'] = described;
  return (
    <div className="field">
      <label className="label" htmlFor={id}>
        {label}
      </label>
      {children(ids)}
      {hint && (
        <div className="hint" id={`${id}-hint`}>
          {hint}
        </div>
      )}
      {error && (
        <div className="error" id={`${id}-error`} role="alert">
          <CircleAlert size={14} aria-hidden />
          <span>{error}</span>
        </div>
      )}
    </div>
  );
}

type TextProps = Frame &
  Omit<InputHTMLAttributes<HTMLInputElement>, 'onChange' | 'value'> & {
    value: string;
    onValue: (value: string) => void;
    unit?: string;
    ref?: Ref<HTMLInputElement>;
  };

export function TextField({ label, hint, error, value, onValue, unit, ...rest }: TextProps) {
  return (
    <Field label={label} hint={hint} error={error}>
      {(ids) => {
        const input = (
          <input
            {...rest}
            {...ids}
            className="input"
            value={value}
            onChange={(event) => onValue(event.target.value)}
          />
        );
        if (!unit) return input;
        return (
          <div className="with-unit">
            {input}
            <span aria-hidden>{unit}</span>
          </div>
        );
      }}
    </Field>
  );
}

/** With a look at what was typed, and a word about Caps Lock. */
export function PasswordField({ label, hint, error, value, onValue, ...rest }: TextProps) {
  const { t } = useTranslation();
  const [isShown, setShown] = useState(false);
  const [isCapsLock, setCapsLock] = useState(false);
  const watched = isCapsLock ? t('password.capsLock') : hint;
  return (
    <Field label={label} hint={watched} error={error}>
      {(ids) => (
        <div className="with-button">
          <input
            {...rest}
            {...ids}
            className="input"
            type={isShown ? 'text' : 'password'}
            value={value}
            spellCheck={false}
            autoCapitalize="none"
            onChange={(event) => onValue(event.target.value)}
            onKeyUp={(event) => setCapsLock(event.getModifierState('CapsLock'))}
            onBlur={() => setCapsLock(false)}
          />
          <IconButton
            label={isShown ? t('password.hide') : t('password.show')}
            icon={isShown ? <EyeOff size={16} aria-hidden /> : <Eye size={16} aria-hidden />}
            aria-pressed={isShown}
            onClick={() => setShown(!isShown)}
          />
        </div>
      )}
    </Field>
  );
}
