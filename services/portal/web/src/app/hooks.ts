import { useEffect, useState } from 'react';

/** The time, again and again: for "3 seconds ago". */
export function useNow(periodMs: number): number {
  const [now, setNow] = useState(Date.now);
  useEffect(() => {
    setNow(Date.now());
    const timer = setInterval(() => setNow(Date.now()), periodMs);
    return () => clearInterval(timer);
  }, [periodMs]);
  return now;
}

/** The value as it was once it had stood still for so long. */
export function useSettled<T>(value: T, quietMs: number): T {
  const [settled, setSettled] = useState(value);
  useEffect(() => {
    const timer = setTimeout(() => setSettled(value), quietMs);
    return () => clearTimeout(timer);
  }, [value, quietMs]);
  return settled;
}

export function useTitle(...parts: string[]): void {
  const title = [...parts, 'Nano'].join(' · ');
  useEffect(() => {
    document.title = title;
  }, [title]);
}
