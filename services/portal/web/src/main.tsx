import { StrictMode } from 'react';
import { createRoot } from 'react-dom/client';
import './styles/tokens.css';
import './styles/base.css';
import './styles/kit.css';
import './styles/door.css';
import { App } from './app/app';
import { startTexts } from './i18n';

const page = document.getElementById('page');
if (!page) throw new Error('index.html has lost its #page');
void startTexts().then(() => {
  createRoot(page).render(
    <StrictMode>
      <App />
    </StrictMode>,
  );
});
