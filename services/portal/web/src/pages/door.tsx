// What stands before the pages: first start, login, and "not reached".

import type { ReactNode } from 'react';
import { Mark } from '../kit/mark';
import { LanguageMenu, ThemeMenu } from '../kit/settings';

const TICKS = Array.from({ length: 61 }, (_one, index) => index);

export function Door({ title, lead, children }: { title: string; lead?: string; children: ReactNode }) {
  return (
    <div className="door">
      <div className="door-face" aria-hidden>
        <svg className="door-scale" aria-hidden viewBox="0 0 240 610" preserveAspectRatio="xMaxYMid slice">
          {TICKS.map((tick) => {
            const length = tick % 10 === 0 ? 96 : tick % 5 === 0 ? 60 : 34;
            const y = 5 + tick * 10;
            return <path key={tick} className="tick" d={`M240 ${y}h-${length}`} />;
          })}
          <path className="needle" d="M240 335h-170" />
        </svg>
        <div className="door-word">Nano</div>
      </div>
      <main className="door-room">
        <div className="door-tools">
          <ThemeMenu />
          <LanguageMenu />
        </div>
        <div className="door-form">
          <Mark size={36} />
          <h1>{title}</h1>
          {lead && <p className="door-lead">{lead}</p>}
          {children}
        </div>
      </main>
    </div>
  );
}
