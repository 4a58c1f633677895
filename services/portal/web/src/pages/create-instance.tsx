// One page from a name to a running instance; each refusal stands beside the field that it is about.

import { useQueryClient } from '@tanstack/react-query';
import { useEffect, useRef, useState } from 'react';
import { useTranslation } from 'react-i18next';
import { createGuest } from '../api/guests';
import { isProblem, type Problem } from '../api/http';
import { announceStart } from '../app/actions';
import {
  bodyOf,
  commandOf,
  type Draft,
  type DraftFault,
  type DraftField,
  faultsOf,
  requestOf,
} from '../app/creation';
import { useSaid } from '../app/errors';
import { newKey } from '../app/key';
import { useLive } from '../app/live-context';
import { useImages, usePools, useSystem, useTemplates } from '../app/queries';
import { startAfter } from '../app/start-after';
import { useSession } from '../app/who';
import { locale } from '../i18n';
import { size } from '../i18n/format';
import { Button } from '../kit/button';
import { LabelledCheckbox, Select } from '../kit/choice';
import { Dialog } from '../kit/dialog';
import { TextField } from '../kit/field';
import { Code, Notice } from '../kit/words';

const TEMPLATE = 'Linux (virtio)';
const POOL = 'default';
const FIELDS: readonly DraftField[] = [
  'name',
  'from_image',
  'cores',
  'memory',
  'disks[0]',
  'template',
  'pool',
];

const BLANK: Draft = {
  name: '',
  image: '',
  cores: '1',
  memory: '0.5',
  disk: '5',
  template: '',
  pool: '',
  isStarted: true,
  isAutoStarted: false,
};

export function CreateInstance({ isOpen, onClose }: { isOpen: boolean; onClose: () => void }) {
  const { t } = useTranslation();
  const said = useSaid();
  const live = useLive();
  const queries = useQueryClient();
  const { user, group, operator } = useSession();
  const limits = useSystem().data ?? { max_cores: 24, max_memory: 32, max_disk: 64 };
  const images = (useImages().data ?? []).filter((image) => image.size > 0);
  const templates = useTemplates().data ?? [];
  const pools = (usePools().data ?? []).filter((pool) => pool.enabled);
  const [typed, setTyped] = useState<Draft>(BLANK);
  const [wasTried, setTried] = useState(false);
  const [isBusy, setBusy] = useState(false);
  const [problem, setProblem] = useState<Problem | null>(null);
  const nameInput = useRef<HTMLInputElement>(null);
  const form = useRef<HTMLDivElement>(null);
  const key = useRef({ body: '', key: '' });

  const draft: Draft = {
    ...typed,
    template: typed.template || (templates.find((one) => one.name === TEMPLATE) ?? templates[0])?.id || '',
    pool: typed.pool || (pools.find((one) => one.name === POOL) ?? pools[0])?.name || '',
  };
  const faults = faultsOf(draft, limits);
  const image = images.find((one) => one.id === draft.image);

  // The first image of one's own group is what most people want; none is chosen over somebody's own choice.
  const firstImage = (images.find((one) => one.group === group) ?? images[0])?.id ?? '';
  const hasChosen = useRef(false);
  useEffect(() => {
    if (!hasChosen.current && firstImage) setTyped((before) => ({ ...before, image: firstImage }));
  }, [firstImage]);

  const set = (change: Partial<Draft>): void => {
    setTyped((before) => ({ ...before, ...change }));
    setProblem(null);
  };
  const most: Partial<Record<DraftField, string>> = {
    cores: String(limits.max_cores),
    memory: `${limits.max_memory} GiB`,
    'disks[0]': `${limits.max_disk} GiB`,
  };
  const least: Partial<Record<DraftField, string>> = { memory: '16 MiB', 'disks[0]': '1 MiB' };
  const words = (field: DraftField, fault: DraftFault): string => {
    if (fault === 'tooMuch') return t('create.tooMuch', { most: most[field] ?? '' });
    if (fault === 'tooLittle') return t('create.tooLittle', { least: least[field] ?? '' });
    if (fault === 'required') return t('required');
    return t(`create.${fault}`);
  };
  const errorOf = (field: DraftField): string | undefined => {
    const fault = faults[field];
    if (wasTried && fault) return words(field, fault);
    if (problem && fieldOf(problem) === field) {
      const { text, detail } = said(problem);
      return detail ? `${text} ${detail}` : text;
    }
    return undefined;
  };

  const close = (): void => {
    setTried(false);
    setProblem(null);
    onClose();
  };
  const focusFault = (): void => {
    requestAnimationFrame(() => form.current?.querySelector<HTMLElement>('[aria-invalid="true"]')?.focus());
  };
  const submit = async (): Promise<void> => {
    if (isBusy) return;
    setTried(true);
    setProblem(null);
    if (Object.keys(faults).length > 0) {
      focusFault();
      return;
    }
    setBusy(true);
    const body = bodyOf(draft);
    const text = JSON.stringify(body);
    // The same request pressed again after a lost answer is the same task.
    if (key.current.body !== text) key.current = { body: text, key: newKey() };
    try {
      const answer = await createGuest(body, key.current.key);
      key.current = { body: '', key: '' };
      live.learnNames([{ id: answer.data.id, name: `${group}.${draft.name}` }]);
      announceStart();
      if (draft.isStarted && !draft.isAutoStarted && answer.task) {
        startAfter(queries, answer.task, answer.data.id);
      }
      setTyped((before) => ({ ...before, name: '' }));
      close();
    } catch (error) {
      if (!isProblem(error)) throw error;
      setProblem(error);
      focusFault();
    } finally {
      setBusy(false);
    }
  };
  const isElsewhere = problem !== null && fieldOf(problem) === undefined;
  const templateName = templates.find((one) => one.id === draft.template)?.name ?? draft.template;

  return (
    <Dialog
      isOpen={isOpen}
      onClose={close}
      title={t('create.title')}
      isWide
      initialFocus={nameInput}
      onSubmit={() => void submit()}
      foot={
        <>
          <Button onClick={close}>{t('cancel')}</Button>
          <Button kind="primary" type="submit" isBusy={isBusy}>
            {t('create.submit')}
          </Button>
        </>
      }
    >
      <div className="form-grid" ref={form}>
        {isElsewhere && (
          <div className="form-whole">
            <Notice tone="fault" isAlert detail={said(problem).detail}>
              {said(problem).text}
            </Notice>
          </div>
        )}
        <TextField
          ref={nameInput}
          label={t('instance.name')}
          hint={t('create.nameHint', { group })}
          value={draft.name}
          onValue={(name) => set({ name })}
          error={errorOf('name')}
          autoComplete="off"
          autoCapitalize="none"
          spellCheck={false}
        />
        <Select
          label={t('create.image')}
          hint={
            images.length > 0 ? t('create.imageHint') : t(operator ? 'create.noImage' : 'create.noImageAsk')
          }
          value={draft.image}
          onValue={(chosen) => {
            hasChosen.current = true;
            set({ image: chosen });
          }}
          options={[
            { value: '', label: t('create.emptyDisk') },
            ...images.map((one) => ({
              value: one.id,
              label: one.group === group ? one.name : `${one.group}.${one.name}`,
              note: size(one.size, locale()),
            })),
          ]}
          error={errorOf('from_image')}
        />
        <div className="form-three form-whole">
          <TextField
            label={t('instance.cores')}
            hint={t('create.coresHint', { most: limits.max_cores })}
            value={draft.cores}
            onValue={(cores) => set({ cores })}
            inputMode="numeric"
            error={errorOf('cores')}
            autoComplete="off"
          />
          <TextField
            label={t('instance.memory')}
            unit="GiB"
            hint={t('create.upTo', { most: most.memory ?? '' })}
            value={draft.memory}
            onValue={(memory) => set({ memory })}
            inputMode="decimal"
            error={errorOf('memory')}
            autoComplete="off"
          />
          <TextField
            label={t('create.systemDisk')}
            unit="GiB"
            hint={
              image
                ? t('create.diskHint', { most: most['disks[0]'] ?? '' })
                : t('create.upTo', { most: most['disks[0]'] ?? '' })
            }
            value={draft.disk}
            onValue={(disk) => set({ disk })}
            inputMode="decimal"
            error={errorOf('disks[0]')}
            autoComplete="off"
          />
        </div>
        <Select
          label={t('create.template')}
          value={draft.template}
          onValue={(template) => set({ template })}
          options={templates.map((one) => ({ value: one.id, label: one.name }))}
          error={errorOf('template')}
        />
        {(pools.length > 1 || errorOf('pool')) && (
          <Select
            label={t('create.pool')}
            value={draft.pool}
            onValue={(pool) => set({ pool })}
            options={pools.map((one) => ({ value: one.name, label: one.name }))}
            error={errorOf('pool')}
          />
        )}
        <div className="form-whole checks">
          <LabelledCheckbox isChecked={draft.isStarted} onChecked={(isStarted) => set({ isStarted })}>
            {t('create.start')}
          </LabelledCheckbox>
          <LabelledCheckbox
            isChecked={draft.isAutoStarted}
            onChecked={(isAutoStarted) => set({ isAutoStarted })}
          >
            {t('create.autoStart')}
          </LabelledCheckbox>
        </div>
        <details className="form-whole as-call">
          <summary>{t('create.asCall')}</summary>
          <p className="hint">{t('create.asCommandHint')}</p>
          <Code label={t('create.asCommand')}>
            {commandOf(draft, { template: templateName, owner: user, group })}
          </Code>
          <p className="hint">{t('create.asRequestHint')}</p>
          <Code label={t('create.asRequest')}>{requestOf(draft, user, group)}</Code>
        </details>
      </div>
    </Dialog>
  );
}

/** Which of our fields a refusal is about; `disks` as a whole is the one disk that we ask for. */
function fieldOf(problem: Problem): DraftField | undefined {
  const named = problem.field.replace(/^body\./, '');
  if (named === 'disks') return 'disks[0]';
  return FIELDS.find((field) => field === named);
}
