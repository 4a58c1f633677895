import { StrictMode } from 'react';
import { createRoot } from 'react-dom/client';
import './styles/tokens.css';
import './styles/base.css';
import './styles/kit.css';
import './styles/door.css';
import { App } from './app/app';
import { startTexts } from './i18n';

const RELOADED = 'nano.reloaded';
const AGAIN_MS = 10_000;

// The portal was replaced by a newer one while this page was open: its parts have other names now.
window.addEventListener('vite:preloadError', (event) => {
  const beforeMs = Number(sessionStorage.getItem(RELOADED) ?? 0);
  if (Date.now() - beforeMs < AGAIN_MS) return; // that was not it: let the error be seen
  event.preventDefault();
  sessionStorage.setItem(RELOADED, String(Date.now()));
  window.location.reload();
});

const page = document.getElementById('page');
if (!page) throw new Error('index.html has lost its #page');
void startTexts().then(() => {
  createRoot(page).render(
    <StrictMode>
      <App />
    </StrictMode>,
  );
});
