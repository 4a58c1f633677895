// The mark: four graduations and a needle, which together are an N.

export function Mark({ size = 20 }: { size?: number }) {
  return (
    <svg className="mark-n" width={size} height={size} viewBox="0 0 20 20" fill="none" aria-hidden>
      <path d="M2 18V2M7.33 18v-6M12.67 18v-6M18 18V2" stroke="currentColor" strokeWidth="1.6" />
      <path d="M2 2l16 16" stroke="var(--needle)" strokeWidth="2.2" strokeLinecap="square" />
    </svg>
  );
}
