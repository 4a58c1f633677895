// Choosing: one of a list, yes or no, one of a few that are all shown.

import { Checkbox as BaseCheckbox } from '@base-ui/react/checkbox';
import { Select as BaseSelect } from '@base-ui/react/select';
import { Toggle } from '@base-ui/react/toggle';
import { ToggleGroup } from '@base-ui/react/toggle-group';
import { Check, ChevronsUpDown, CircleAlert, Minus } from 'lucide-react';
import { type ReactNode, useId } from 'react';
import { useTranslation } from 'react-i18next';

interface Option<V extends string> {
  value: V;
  label: string;
  /** Said behind the label, in the list only. */
  note?: string;
  isDisabled?: boolean;
}

export function Select<V extends string>({
  label,
  value,
  options,
  onValue,
  hint,
  error,
}: {
  label: string;
  value: V;
  options: readonly Option<V>[];
  onValue: (value: V) => void;
  hint?: ReactNode;
  error?: string | undefined;
}) {
  const { t } = useTranslation();
  const id = useId();
  const described = [hint && `${id}-hint`, error && `${id}-error`].filter(Boolean).join(' ');
  return (
    <div className="field">
      <BaseSelect.Root
        value={value}
        onValueChange={(chosen) => chosen !== null && onValue(chosen as V)}
        items={options.map(({ value: one, label: text }) => ({ value: one, label: text }))}
      >
        <BaseSelect.Label className="label">{label}</BaseSelect.Label>
        <BaseSelect.Trigger
          className="input select"
          aria-invalid={error ? true : undefined}
          aria-describedby={described || undefined}
        >
          <BaseSelect.Value />
          <BaseSelect.Icon>
            <ChevronsUpDown size={14} aria-hidden />
          </BaseSelect.Icon>
        </BaseSelect.Trigger>
        <BaseSelect.Portal role="region" aria-label={t('floating')}>
          <BaseSelect.Positioner className="popup-layer" sideOffset={4} alignItemWithTrigger={false}>
            <BaseSelect.Popup className="menu">
              {options.map((option) => (
                <BaseSelect.Item
                  key={option.value}
                  className="menu-item"
                  value={option.value}
                  disabled={option.isDisabled ?? false}
                >
                  <span className="mark">
                    <BaseSelect.ItemIndicator>
                      <Check size={14} aria-hidden />
                    </BaseSelect.ItemIndicator>
                  </span>
                  <BaseSelect.ItemText>{option.label}</BaseSelect.ItemText>
                  {option.note && <span className="end">{option.note}</span>}
                </BaseSelect.Item>
              ))}
            </BaseSelect.Popup>
          </BaseSelect.Positioner>
        </BaseSelect.Portal>
      </BaseSelect.Root>
      {hint && (
        <div className="hint" id={`${id}-hint`}>
          {hint}
        </div>
      )}
      {error && (
        <div className="error" id={`${id}-error`}>
          <CircleAlert size={14} aria-hidden />
          <span>{error}</span>
        </div>
      )}
    </div>
  );
}

/** A box whose name is said, not shown: in tables. */
export function Checkbox({
  label,
  isChecked,
  isMixed = false,
  isDisabled = false,
  onChecked,
}: {
  label: string;
  isChecked: boolean;
  isMixed?: boolean;
  isDisabled?: boolean;
  onChecked: (isChecked: boolean) => void;
}) {
  return (
    <BaseCheckbox.Root
      className="checkbox"
      aria-label={label}
      checked={isChecked}
      indeterminate={isMixed}
      disabled={isDisabled}
      onCheckedChange={onChecked}
    >
      <BaseCheckbox.Indicator>
        {isMixed ? <Minus size={14} aria-hidden /> : <Check size={14} aria-hidden />}
      </BaseCheckbox.Indicator>
    </BaseCheckbox.Root>
  );
}

export function LabelledCheckbox({
  children,
  isChecked,
  onChecked,
}: {
  children: ReactNode;
  isChecked: boolean;
  onChecked: (isChecked: boolean) => void;
}) {
  const id = useId();
  return (
    <span className="check">
      <BaseCheckbox.Root
        className="checkbox"
        aria-labelledby={id}
        checked={isChecked}
        onCheckedChange={onChecked}
      >
        <BaseCheckbox.Indicator>
          <Check size={14} aria-hidden />
        </BaseCheckbox.Indicator>
      </BaseCheckbox.Root>
      {/* biome-ignore lint/a11y/useKeyWithClickEvents: the box beside it has the keyboard; this only widens its target */}
      {/* biome-ignore lint/a11y/noStaticElementInteractions: as above */}
      <span id={id} onClick={() => onChecked(!isChecked)}>
        {children}
      </span>
    </span>
  );
}

export function Segments<V extends string>({
  label,
  value,
  options,
  onValue,
}: {
  label: string;
  value: V;
  options: readonly { value: V; label: string }[];
  onValue: (value: V) => void;
}) {
  return (
    <ToggleGroup
      className="segments"
      aria-label={label}
      value={[value]}
      onValueChange={(chosen: unknown[]) => chosen[0] !== undefined && onValue(chosen[0] as V)}
    >
      {options.map((option) => (
        <Toggle key={option.value} className="segment" value={option.value}>
          {option.label}
        </Toggle>
      ))}
    </ToggleGroup>
  );
}
