// Instruments: a scale for how much of how much, a curve for how it went, a bar for how far it is.

import { useTranslation } from 'react-i18next';
import { useNow } from '../app/hooks';
import type { Point } from '../live/samples';
import { GAP_MS, LENGTH, runs } from '../live/samples';

const FULL = 90;

/** Graduated from 0 to 100; null says that nobody measured. */
export function Scale({ label, percent, text }: { label: string; percent: number | null; text: string }) {
  const at = percent === null ? 0 : Math.min(100, Math.max(0, percent));
  return (
    // biome-ignore lint/a11y/useSemanticElements: <meter> cannot be graduated
    <div
      className="scale"
      role="meter"
      aria-label={label}
      aria-valuemin={0}
      aria-valuemax={100}
      aria-valuenow={Math.round(at)}
      aria-valuetext={text}
      data-unmeasured={percent === null ? '' : undefined}
      data-full={at >= FULL ? '' : undefined}
    >
      {percent !== null && (
        <>
          <div className="fill" style={{ width: `${at}%` }} />
          <div className="needle" style={{ left: `${at}%` }} />
        </>
      )}
    </div>
  );
}

const WIDTH = 300;
const HEIGHT = 44;
const SAMPLE_MS = 2_000;

function pathOf(points: readonly Point[], most: number, endMs: number): string {
  const spanMs = LENGTH * SAMPLE_MS;
  const x = (atMs: number): string => (WIDTH * (1 - (endMs - atMs) / spanMs)).toFixed(1);
  const y = (value: number): string => (HEIGHT - (HEIGHT * Math.min(value, most)) / most).toFixed(1);
  return runs(points)
    .map((run) => {
      const [first, ...rest] = run;
      if (!first) return '';
      // A lone point is a dot of no length, which a round cap makes visible.
      const start = `M${x(first.atMs)} ${y(first.value)}`;
      return rest.length
        ? start + rest.map((point) => `L${x(point.atMs)} ${y(point.value)}`).join('')
        : `${start}h0`;
    })
    .join('');
}

/** What the width of a curve stands for. */
export function CurveAxis() {
  const { t } = useTranslation();
  return (
    <div className="curve-axis" aria-hidden>
      <span>{t('overview.fiveMinutes')}</span>
      <span>{t('overview.now')}</span>
    </div>
  );
}

/** The last five minutes, the newest at the right edge. What was not measured is not drawn. */
export function Curve({
  points,
  second,
  most,
}: {
  points: readonly Point[];
  second?: readonly Point[];
  /** What the top edge stands for; without it, the highest value seen. */
  most?: number;
}) {
  const all = [...points, ...(second ?? [])];
  const top = most ?? Math.max(1, ...all.map((point) => point.value ?? 0)) * 1.15;
  const newestMs = Math.max(0, ...all.map((point) => point.atMs));
  const nowMs = useNow(SAMPLE_MS);
  // Samples step by themselves; once they stay away, time goes on without them.
  const isStale = nowMs - newestMs > GAP_MS;
  const endMs = isStale ? nowMs : newestMs;
  const last = isStale ? undefined : points.at(-1);
  return (
    <svg className="curve" viewBox={`0 0 ${WIDTH} ${HEIGHT}`} preserveAspectRatio="none" aria-hidden>
      {[0, 0.5, 1].map((part) => (
        <line
          key={part}
          className="grid"
          x1="0"
          x2={WIDTH}
          y1={HEIGHT * part}
          y2={HEIGHT * part}
          vectorEffect="non-scaling-stroke"
        />
      ))}
      {second && (
        <path
          className="line"
          data-second=""
          d={pathOf(second, top, endMs)}
          vectorEffect="non-scaling-stroke"
        />
      )}
      <path className="line" d={pathOf(points, top, endMs)} vectorEffect="non-scaling-stroke" />
      {last && last.value !== null && (
        <path className="now" d={`${pathOf([last], top, endMs)}`} vectorEffect="non-scaling-stroke" />
      )}
    </svg>
  );
}

export function ProgressBar({ label, percent }: { label: string; percent: number }) {
  return (
    <span className="progress">
      <span
        className="progress-track"
        role="progressbar"
        aria-label={label}
        aria-valuemin={0}
        aria-valuemax={100}
        aria-valuenow={percent}
      >
        <span className="progress-fill" style={{ width: `${percent}%`, display: 'block' }} />
      </span>
      <span>{percent} %</span>
    </span>
  );
}
