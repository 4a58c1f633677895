// Keys that act on the page. They keep quiet while somebody types, in dialogs, and in a guest's screen.

import { useEffect } from 'react';

const TYPING = 'input, textarea, select, [contenteditable="true"]';
/** Where keys belong to somebody else: dialogs, menus, the screen of a guest. */
const ELSEWHERE =
  '[role="dialog"], [role="alertdialog"], [role="menu"], [role="listbox"], [data-keys="guest"]';

export type Shortcuts = Record<string, (event: KeyboardEvent) => void>;

export function isForPage(
  event: Pick<KeyboardEvent, 'target' | 'ctrlKey' | 'altKey' | 'metaKey' | 'isComposing'>,
) {
  if (event.ctrlKey || event.altKey || event.metaKey || event.isComposing) return false;
  const target = event.target;
  if (!(target instanceof Element)) return true;
  return target.closest(`${TYPING}, ${ELSEWHERE}`) === null;
}

/** `shortcuts` by `KeyboardEvent.key`; give a stable object. */
export function useShortcuts(shortcuts: Shortcuts, isActive = true): void {
  useEffect(() => {
    if (!isActive) return;
    const listener = (event: KeyboardEvent): void => {
      if (event.defaultPrevented || !isForPage(event)) return;
      if (document.querySelector('[role="dialog"], [role="alertdialog"]')) return;
      const act = shortcuts[event.key];
      if (!act) return;
      event.preventDefault();
      act(event);
    };
    document.addEventListener('keydown', listener);
    return () => document.removeEventListener('keydown', listener);
  }, [shortcuts, isActive]);
}
