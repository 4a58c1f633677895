// Runs before the first paint: what was chosen for theme and language, so that nothing flashes.
(() => {
  const root = document.documentElement;
  const chosen = (name) => {
    try {
      return localStorage.getItem(name) ?? '';
    } catch {
      return ''; // storage is switched off: the browser's own wishes count
    }
  };
  const theme = chosen('nano.theme');
  if (theme === 'light' || theme === 'dark') root.dataset.theme = theme;
  const language = chosen('nano.language') || navigator.language;
  root.lang = language.toLowerCase().startsWith('zh') ? 'zh-CN' : 'en';
})();
