/** The guest's screen that has the keyboard now: its frame, which outlives what is drawn in it. */
export function screenWithKeyboard(): HTMLElement | null {
  return document.activeElement?.closest<HTMLElement>('[data-keys="guest"]') ?? null;
}
