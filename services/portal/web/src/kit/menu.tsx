import { Menu as Base } from '@base-ui/react/menu';
import { Check } from 'lucide-react';
import { type ReactElement, type ReactNode, useRef } from 'react';
import { useTranslation } from 'react-i18next';
import { screenWithKeyboard } from './keyboard';

/** A button that opens a list of things to do. */
export function Menu({
  trigger,
  children,
  align = 'end',
  finalFocus,
  isLong = false,
}: {
  trigger: ReactElement<Record<string, unknown>>;
  children: ReactNode;
  align?: 'start' | 'end';
  /** Where the keyboard goes from here; null: back to the guest's screen when it was there, else to the button. */
  finalFocus?: () => HTMLElement | null;
  /** In two columns, so that a low window shows all of it. */
  isLong?: boolean;
}) {
  const { t } = useTranslation();
  const before = useRef<HTMLElement | null>(null);
  return (
    <Base.Root
      onOpenChange={(isOpen) => {
        if (isOpen) before.current = screenWithKeyboard();
      }}
    >
      <Base.Trigger render={trigger} />
      <Base.Portal role="region" aria-label={t('floating')}>
        <Base.Positioner className="popup-layer" sideOffset={4} align={align}>
          <Base.Popup
            className="menu"
            data-long={isLong ? '' : undefined}
            finalFocus={() => finalFocus?.() ?? before.current ?? true}
          >
            {children}
          </Base.Popup>
        </Base.Positioner>
      </Base.Portal>
    </Base.Root>
  );
}

export function MenuItem({
  onChoose,
  children,
  icon,
  end,
  isDanger = false,
  isDisabled = false,
}: {
  onChoose: () => void;
  children: ReactNode;
  icon?: ReactNode;
  end?: ReactNode;
  isDanger?: boolean;
  isDisabled?: boolean;
}) {
  return (
    <Base.Item
      className="menu-item"
      onClick={onChoose}
      disabled={isDisabled}
      data-danger={isDanger ? '' : undefined}
    >
      <span className="mark">{icon}</span>
      {children}
      {end && <span className="end">{end}</span>}
    </Base.Item>
  );
}

export function MenuLine() {
  return <Base.Separator className="menu-line" />;
}

export function MenuChoice<V extends string>({
  label,
  value,
  options,
  onValue,
}: {
  label: string;
  value: V;
  options: readonly { value: V; label: string; lang?: string }[];
  onValue: (value: V) => void;
}) {
  return (
    <Base.Group>
      <Base.GroupLabel className="menu-head">{label}</Base.GroupLabel>
      <Base.RadioGroup value={value} onValueChange={(chosen: unknown) => onValue(chosen as V)}>
        {options.map((option) => (
          <Base.RadioItem
            key={option.value}
            className="menu-item"
            value={option.value}
            lang={option.lang}
            closeOnClick
          >
            <span className="mark">
              <Base.RadioItemIndicator>
                <Check size={14} aria-hidden />
              </Base.RadioItemIndicator>
            </span>
            {option.label}
          </Base.RadioItem>
        ))}
      </Base.RadioGroup>
    </Base.Group>
  );
}
