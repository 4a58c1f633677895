// The frame around every page of a session: where one is, what goes on, and whether what is shown is true.

import { useQueryClient } from '@tanstack/react-query';
import { Gauge, Keyboard, ListChecks, Search, Server, UserRound } from 'lucide-react';
import { lazy, Suspense, useEffect, useMemo, useRef, useState } from 'react';
import { useTranslation } from 'react-i18next';
import { extendSession, logOut, type Session } from '../api/session';
import { useZoneNow } from '../app/live';
import { LiveContext } from '../app/live-context';
import { allowed, opens } from '../app/menus';
import { look, tellTabs } from '../app/presence';
import { useNames } from '../app/queries';
import { go, parse, paths, useHash } from '../app/router';
import { type Shortcuts, useShortcuts } from '../app/shortcuts';
import { SessionContext, useSession, who } from '../app/who';
import { IconButton } from '../kit/button';
import { Mark } from '../kit/mark';
import { Menu, MenuItem, MenuLine } from '../kit/menu';
import { LanguageMenu, ThemeMenu } from '../kit/settings';
import { Empty, Notice, State } from '../kit/words';
import { Live } from '../live/live';
import { useStore } from '../live/store';
import '../styles/shell.css';
import '../styles/pages.css';
import { ChangePassword } from './change-password';
import { Drawer } from './drawer';
import { Help } from './help';

const Overview = lazy(() => import('./overview'));
const Instances = lazy(() => import('./instances'));
const Instance = lazy(() => import('./instance'));

const EXTEND_MS = 60_000;
/** A short stumble of the link is not worth a banner. */
const PATIENCE_MS = 2_000;

export default function Shell({ session }: { session: Session }) {
  const client = useQueryClient();
  const live = useMemo(() => new Live(client, look), [client]);
  useEffect(() => {
    live.open();
    return () => live.close();
  }, [live]);
  useKeepAlive();
  return (
    <SessionContext value={session}>
      <LiveContext value={live}>
        <Frame session={session} live={live} />
      </LiveContext>
    </SessionContext>
  );
}

/** Open pages keep their session; a page that comes back from a long sleep learns at once whether it still has one. */
function useKeepAlive(): void {
  useEffect(() => {
    // A failure is not the page's concern here: the end of the session is told by `call`, the rest by the banner.
    const extend = (): void => void extendSession().catch(() => undefined);
    const onVisible = (): void => {
      if (document.visibilityState === 'visible') extend();
    };
    const timer = setInterval(extend, EXTEND_MS);
    document.addEventListener('visibilitychange', onVisible);
    return () => {
      clearInterval(timer);
      document.removeEventListener('visibilitychange', onVisible);
    };
  }, []);
}

function Frame({ session, live }: { session: Session; live: Live }) {
  const { t } = useTranslation();
  const route = allowed(parse(useHash()), session);
  const [hasUsage, hasInstances, hasTasks, mayCreate] = (
    ['usage', 'instances', 'tasks', 'acting'] as const
  ).map((place) => opens(session, place));
  useNames();
  const [isDrawerOpen, setDrawerOpen] = useState(false);
  const [isHelpOpen, setHelpOpen] = useState(false);
  const [isPasswordOpen, setPasswordOpen] = useState(false);
  const search = useRef<HTMLInputElement>(null);
  const main = useRef<HTMLElement>(null);
  const place = route.page === 'instance' ? `${route.page}/${route.id}` : route.page;
  const before = useRef(place);

  // A new page begins at its top, for the eye and for the keyboard.
  useEffect(() => {
    if (before.current === place) return;
    before.current = place;
    main.current?.focus();
    main.current?.scrollTo(0, 0);
  }, [place]);

  const shortcuts = useMemo<Shortcuts>(
    () => ({
      '/': () => search.current?.focus(),
      '?': () => setHelpOpen(true),
      ...(hasTasks && { t: () => setDrawerOpen((isOpen) => !isOpen) }),
      ...(hasUsage && { o: () => go(paths.overview) }),
      ...(hasInstances && { i: () => go(paths.instances()) }),
      ...(mayCreate && { n: () => go(paths.instances({ isCreating: true })) }),
    }),
    [hasTasks, hasUsage, hasInstances, mayCreate],
  );
  useShortcuts(shortcuts);

  const leave = async (): Promise<void> => {
    await logOut().catch(() => undefined); // whatever the server says, this page forgets
    go(paths.overview, true);
    who.set({ is: 'nobody', why: 'loggedOut' });
    tellTabs('out');
  };

  return (
    <div className="frame">
      <button type="button" className="skip button" onClick={() => main.current?.focus()}>
        {t('skip')}
      </button>
      <header className="top">
        <a className="brand" href={paths.overview} aria-label={t('brand')}>
          <Mark size={20} />
          <span>Nano</span>
        </a>
        <LinkState live={live} />
        {hasInstances && <SearchBox route={route} ref={search} />}
        <div className="top-tools">
          <ThemeMenu />
          <LanguageMenu />
          <Menu
            trigger={
              <IconButton
                label={t('user.menu', { user: session.user })}
                icon={<UserRound size={17} aria-hidden />}
              />
            }
          >
            <div className="menu-head">
              {session.user} · {session.group}
            </div>
            <MenuItem onChoose={() => setPasswordOpen(true)}>{t('user.changePassword')}</MenuItem>
            <MenuItem onChoose={() => setHelpOpen(true)} end="?">
              {t('keys.title')}
            </MenuItem>
            <MenuLine />
            <MenuItem onChoose={() => void leave()}>{t('user.logOut')}</MenuItem>
          </Menu>
        </div>
      </header>
      <nav className="side" aria-label={t('nav.label')}>
        {hasUsage && (
          <NavLink to={paths.overview} isHere={route.page === 'overview'}>
            <Gauge size={17} aria-hidden />
            {t('nav.overview')}
          </NavLink>
        )}
        {hasInstances && (
          <NavLink to={paths.instances()} isHere={route.page === 'instances' || route.page === 'instance'}>
            <Server size={17} aria-hidden />
            {t('nav.instances')}
          </NavLink>
        )}
        {hasTasks && (
          <button type="button" className="side-link side-tasks" onClick={() => setDrawerOpen(!isDrawerOpen)}>
            <ListChecks size={17} aria-hidden />
            {t('tasks.title')}
          </button>
        )}
        <div className="side-foot">
          <IconButton
            label={t('keys.title')}
            icon={<Keyboard size={17} aria-hidden />}
            onClick={() => setHelpOpen(true)}
          />
        </div>
      </nav>
      <div className="banner" role="status">
        <Banner live={live} />
      </div>
      <main className="main" id="main" ref={main} tabIndex={-1}>
        <Suspense fallback={null}>
          <Page route={route} />
        </Suspense>
      </main>
      {hasTasks && <Drawer isOpen={isDrawerOpen} onOpen={setDrawerOpen} />}
      <Help isOpen={isHelpOpen} onClose={() => setHelpOpen(false)} />
      <ChangePassword isOpen={isPasswordOpen} onClose={() => setPasswordOpen(false)} />
    </div>
  );
}

function NavLink({ to, isHere, children }: { to: string; isHere: boolean; children: React.ReactNode }) {
  return (
    <a className="side-link" href={to} aria-current={isHere ? 'page' : undefined}>
      {children}
    </a>
  );
}

function Page({ route }: { route: ReturnType<typeof allowed> }) {
  const { t } = useTranslation();
  if (route.page === 'overview') return <Overview />;
  if (route.page === 'instances') return <Instances route={route} />;
  if (route.page === 'instance') return <Instance key={route.id} id={route.id} tab={route.tab} />;
  if (route.page === 'closed') {
    return (
      <Empty title={t('closed.title')} isWhole>
        <p>{t('closed.how')}</p>
      </Empty>
    );
  }
  return (
    <Empty title={t('nowhere.title')} isWhole>
      <p>
        <a href={paths.overview}>{t('nowhere.back')}</a>
      </p>
    </Empty>
  );
}

/** Finds instances; what is typed is in the address, so that "back" and a reload keep it. */
function SearchBox({
  route,
  ref,
}: {
  route: ReturnType<typeof allowed>;
  ref: React.RefObject<HTMLInputElement | null>;
}) {
  const { t } = useTranslation();
  const asked = route.page === 'instances' ? route.keyword : '';
  const [text, setText] = useState(asked);
  useEffect(() => setText(asked), [asked]);
  const find = (keyword: string): void => {
    setText(keyword);
    if (route.page === 'instances') go(paths.instances({ keyword }), true);
  };
  return (
    <search className="search">
      <form
        onSubmit={(event) => {
          event.preventDefault();
          go(paths.instances({ keyword: text }));
        }}
      >
        <Search size={15} aria-hidden />
        <input
          ref={ref}
          type="search"
          className="input"
          aria-label={t('search.label')}
          placeholder={t('search.placeholder')}
          value={text}
          autoComplete="off"
          spellCheck={false}
          onChange={(event) => find(event.target.value)}
          onKeyDown={(event) => {
            if (event.key !== 'Escape') return;
            event.preventDefault();
            if (text) find('');
            else event.currentTarget.blur();
          }}
        />
        <kbd aria-hidden>/</kbd>
      </form>
    </search>
  );
}

function useIsLong(isSo: boolean, patienceMs: number): boolean {
  const [isLong, setLong] = useState(false);
  useEffect(() => {
    if (!isSo) {
      setLong(false);
      return;
    }
    const timer = setTimeout(() => setLong(true), patienceMs);
    return () => clearTimeout(timer);
  }, [isSo, patienceMs]);
  return isLong;
}

function LinkState({ live }: { live: Live }) {
  const { t } = useTranslation();
  const { link, isGatewayLost } = useStore(live.status);
  const { zone } = useZoneNow();
  const hasUsage = opens(useSession(), 'usage');
  return (
    <div className="zone">
      {hasUsage && (
        <span className="zone-name">
          <span className="zone-word">{t('zone')}</span> <b>{zone?.name ?? '…'}</b>
        </span>
      )}
      {link === 'open' && !isGatewayLost ? (
        <State tone="good" shape="full">
          {t('link.live')}
        </State>
      ) : (
        <State tone="busy" shape="turning">
          {isGatewayLost ? t('link.gatewayLost') : t('link.connecting')}
        </State>
      )}
    </div>
  );
}

function Banner({ live }: { live: Live }) {
  const { t } = useTranslation();
  const { link, isGatewayLost } = useStore(live.status);
  const isAway = useIsLong(link !== 'open', PATIENCE_MS);
  if (isAway) {
    return (
      <Notice
        tone="busy"
        action={
          <button type="button" className="button" data-size="small" onClick={() => live.retry()}>
            {t('retry')}
          </button>
        }
      >
        {t('banner.portalLost')}
      </Notice>
    );
  }
  if (isGatewayLost) return <Notice tone="busy">{t('banner.gatewayLost')}</Notice>;
  return null;
}
