import { useRef, useState } from 'react';
import { useTranslation } from 'react-i18next';
import { isProblem, type Problem } from '../api/http';
import { changePassword } from '../api/session';
import { useSaid } from '../app/errors';
import { isGoodPassword } from '../app/names';
import { useSession } from '../app/who';
import { Button } from '../kit/button';
import { Dialog } from '../kit/dialog';
import { PasswordField } from '../kit/field';
import { Notice } from '../kit/words';
import { PasswordRules } from './first-start';

export function ChangePassword({ isOpen, onClose }: { isOpen: boolean; onClose: () => void }) {
  const { t } = useTranslation();
  const said = useSaid();
  const { user } = useSession();
  const [old, setOld] = useState('');
  const [next, setNext] = useState('');
  const [wasTried, setTried] = useState(false);
  const [isBusy, setBusy] = useState(false);
  const [isDone, setDone] = useState(false);
  const [problem, setProblem] = useState<Problem | null>(null);
  const oldInput = useRef<HTMLInputElement>(null);

  const close = (): void => {
    setOld('');
    setNext('');
    setTried(false);
    setDone(false);
    setProblem(null);
    onClose();
  };
  const submit = async (): Promise<void> => {
    setTried(true);
    setProblem(null);
    if (isBusy || !old || !isGoodPassword(next)) return;
    setBusy(true);
    try {
      await changePassword(user, old, next);
      setDone(true);
    } catch (error) {
      if (!isProblem(error)) throw error;
      setProblem(error);
      oldInput.current?.focus();
    } finally {
      setBusy(false);
    }
  };
  const isOfOld = problem?.field === 'old' || problem?.status === 403;
  const isOfNew = problem?.field === 'new' || problem?.field === 'password';
  const foot = isDone ? (
    <Button kind="primary" onClick={close}>
      {t('close')}
    </Button>
  ) : (
    <>
      <Button onClick={close}>{t('cancel')}</Button>
      <Button kind="primary" type="submit" isBusy={isBusy}>
        {t('user.changePassword')}
      </Button>
    </>
  );
  return (
    <Dialog
      isOpen={isOpen}
      onClose={close}
      title={t('user.changePassword')}
      onSubmit={() => void submit()}
      initialFocus={oldInput}
      foot={foot}
    >
      {isDone ? (
        <p role="status">{t('user.passwordChanged')}</p>
      ) : (
        <>
          {problem && !isOfOld && !isOfNew && (
            <Notice tone="fault" isAlert detail={said(problem).detail}>
              {said(problem).text}
            </Notice>
          )}
          <input type="hidden" name="username" autoComplete="username" value={user} />
          <PasswordField
            ref={oldInput}
            label={t('user.oldPassword')}
            value={old}
            onValue={setOld}
            autoComplete="current-password"
            error={
              wasTried && !old ? t('required') : problem && isOfOld ? t('user.wrongOldPassword') : undefined
            }
          />
          <PasswordField
            label={t('user.newPassword')}
            value={next}
            onValue={setNext}
            autoComplete="new-password"
            hint={<PasswordRules password={next} />}
            error={
              wasTried && !isGoodPassword(next)
                ? t('password.weak')
                : problem && isOfNew
                  ? said(problem).text
                  : undefined
            }
          />
        </>
      )}
    </Dialog>
  );
}
