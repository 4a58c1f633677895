import { Check, Circle } from 'lucide-react';
import { type FormEvent, useEffect, useRef, useState } from 'react';
import { useTranslation } from 'react-i18next';
import { isProblem, type Problem } from '../api/http';
import { logIn } from '../api/session';
import { setUp } from '../api/system';
import { useSaid } from '../app/errors';
import { useTitle } from '../app/hooks';
import { isGoodPassword, isPlainName, PASSWORD_RULES, type PasswordRule } from '../app/names';
import { codeOf } from '../app/router';
import { Button } from '../kit/button';
import { PasswordField, TextField } from '../kit/field';
import { Coded, Notice } from '../kit/words';
import { Door } from './door';

export function FirstStart({
  isCodeRequired,
  onDone,
}: {
  isCodeRequired: boolean;
  onDone: () => Promise<void>;
}) {
  const { t } = useTranslation();
  const said = useSaid();
  const [code, setCode] = useState(() => codeOf(window.location.hash));
  const [user, setUser] = useState('admin');
  const [password, setPassword] = useState('');
  const [isBusy, setBusy] = useState(false);
  const [wasTried, setTried] = useState(false);
  const [problem, setProblem] = useState<Problem | null>(null);
  const form = useRef<HTMLFormElement>(null);
  const codeInput = useRef<HTMLInputElement>(null);
  const passwordInput = useRef<HTMLInputElement>(null);
  useTitle(t('first.title'));
  useEffect(() => {
    const first = isCodeRequired && !codeInput.current?.value ? codeInput : passwordInput;
    first.current?.focus();
  }, [isCodeRequired]);

  const ofField = (name: string): string | undefined =>
    problem?.field === name ? said(problem).text : undefined;
  const errors = {
    code:
      wasTried && isCodeRequired && !code
        ? t('required')
        : problem?.status === 403
          ? t('first.wrongCode')
          : ofField('code'),
    user: wasTried && !isPlainName(user) ? t('create.nameRule') : ofField('user'),
    password: wasTried && !isGoodPassword(password) ? t('password.weak') : ofField('password'),
  };
  const isElsewhere =
    problem !== null && problem.status !== 403 && !['code', 'user', 'password'].includes(problem.field);

  const submit = async (event: FormEvent): Promise<void> => {
    event.preventDefault();
    if (isBusy) return;
    setTried(true);
    setProblem(null);
    if ((isCodeRequired && !code) || !isPlainName(user) || !isGoodPassword(password)) {
      requestAnimationFrame(() => form.current?.querySelector<HTMLElement>('[aria-invalid="true"]')?.focus());
      return;
    }
    setBusy(true);
    try {
      await setUp({ user, password, code: code.trim() });
      await logIn(user, password);
      await onDone();
    } catch (error) {
      if (!isProblem(error)) throw error;
      setProblem(error);
      requestAnimationFrame(() => form.current?.querySelector<HTMLElement>('[aria-invalid="true"]')?.focus());
    } finally {
      setBusy(false);
    }
  };

  return (
    <Door title={t('first.title')} lead={t('first.lead')}>
      {isElsewhere && problem && (
        <Notice tone="fault" isAlert detail={said(problem).detail}>
          {said(problem).text}
        </Notice>
      )}
      <form ref={form} onSubmit={(event) => void submit(event)} noValidate>
        {isCodeRequired && (
          <TextField
            label={t('first.code')}
            hint={<Coded>{t('first.codeHint')}</Coded>}
            value={code}
            onValue={setCode}
            ref={codeInput}
            error={errors.code}
            autoComplete="one-time-code"
            autoCapitalize="none"
            spellCheck={false}
          />
        )}
        <TextField
          label={t('login.user')}
          value={user}
          onValue={setUser}
          error={errors.user}
          name="username"
          autoComplete="username"
          autoCapitalize="none"
          spellCheck={false}
        />
        <PasswordField
          label={t('login.password')}
          hint={<PasswordRules password={password} />}
          value={password}
          onValue={setPassword}
          ref={passwordInput}
          error={errors.password}
          name="password"
          autoComplete="new-password"
        />
        <Button kind="primary" type="submit" isBusy={isBusy}>
          {t('first.submit')}
        </Button>
      </form>
    </Door>
  );
}

/** Each rule, and whether it holds, as one types. */
export function PasswordRules({ password }: { password: string }) {
  const { t } = useTranslation();
  return (
    <ul className="rules" aria-label={t('password.rules')}>
      {(Object.keys(PASSWORD_RULES) as PasswordRule[]).map((rule) => {
        const holds = PASSWORD_RULES[rule](password);
        return (
          <li key={rule} data-holds={holds ? '' : undefined}>
            {holds ? <Check size={13} aria-hidden /> : <Circle size={9} aria-hidden />}
            {t(`password.rule.${rule}`)}
            <span className="hidden">{holds ? t('password.holds') : t('password.lacks')}</span>
          </li>
        );
      })}
    </ul>
  );
}
