import { type FormEvent, useEffect, useRef, useState } from 'react';
import { useTranslation } from 'react-i18next';
import { isProblem, type Problem } from '../api/http';
import { logIn } from '../api/session';
import { useSaid } from '../app/errors';
import { useTitle } from '../app/hooks';
import type { Why } from '../app/who';
import { Button } from '../kit/button';
import { PasswordField, TextField } from '../kit/field';
import { Notice } from '../kit/words';
import { Door } from './door';

export function Login({ why, onDone }: { why: Why; onDone: () => Promise<void> }) {
  const { t } = useTranslation();
  const said = useSaid();
  const [user, setUser] = useState('');
  const [password, setPassword] = useState('');
  const [isBusy, setBusy] = useState(false);
  const [problem, setProblem] = useState<Problem | null>(null);
  const [missing, setMissing] = useState({ user: false, password: false });
  const wait = useCountdown(problem);
  const userInput = useRef<HTMLInputElement>(null);
  const passwordInput = useRef<HTMLInputElement>(null);
  useTitle(t('login.title'));
  useEffect(() => userInput.current?.focus(), []);

  const submit = async (event: FormEvent): Promise<void> => {
    event.preventDefault();
    if (isBusy || wait > 0) return;
    const lacks = { user: user === '', password: password === '' };
    setMissing(lacks);
    if (lacks.user || lacks.password) {
      (lacks.user ? userInput : passwordInput).current?.focus();
      return;
    }
    setBusy(true);
    setProblem(null);
    try {
      await logIn(user, password);
      await onDone();
    } catch (error) {
      if (!isProblem(error)) throw error;
      setProblem(error);
      setPassword('');
      passwordInput.current?.focus();
    } finally {
      setBusy(false);
    }
  };

  return (
    <Door title={t('login.title')}>
      {why === 'ended' && !problem && <Notice tone="busy">{t('login.ended')}</Notice>}
      {why === 'loggedOut' && !problem && <Notice>{t('login.loggedOut')}</Notice>}
      {problem && problem.status === 429 && (
        <Notice tone="busy" isAlert>
          {/* Said once, not each second. */}
          <span aria-live="off">{wait > 0 ? t('login.limited', { seconds: wait }) : t('login.again')}</span>
        </Notice>
      )}
      {problem && problem.status !== 429 && (
        <Notice tone="fault" isAlert detail={problem.status === 401 ? '' : said(problem).detail}>
          {problem.status === 401 ? t('login.wrong') : said(problem).text}
        </Notice>
      )}
      <form onSubmit={(event) => void submit(event)} noValidate>
        <TextField
          label={t('login.user')}
          value={user}
          onValue={setUser}
          ref={userInput}
          name="username"
          autoComplete="username"
          autoCapitalize="none"
          spellCheck={false}
          error={missing.user && !user ? t('required') : undefined}
        />
        <PasswordField
          label={t('login.password')}
          value={password}
          onValue={setPassword}
          ref={passwordInput}
          name="password"
          autoComplete="current-password"
          error={missing.password && !password ? t('required') : undefined}
        />
        <Button kind="primary" type="submit" isBusy={isBusy} disabled={wait > 0}>
          {t('login.submit')}
        </Button>
      </form>
    </Door>
  );
}

/** Seconds until another try is taken, counted down here. */
function useCountdown(problem: Problem | null): number {
  const [left, setLeft] = useState(0);
  useEffect(() => {
    const seconds = problem?.status === 429 ? Math.max(1, problem.retryAfter) : 0;
    const endMs = Date.now() + seconds * 1000;
    setLeft(seconds);
    if (!seconds) return;
    const timer = setInterval(() => {
      const rest = Math.max(0, Math.ceil((endMs - Date.now()) / 1000));
      setLeft(rest);
      if (rest === 0) clearInterval(timer);
    }, 250);
    return () => clearInterval(timer);
  }, [problem]);
  return left;
}
