// Builds the pages into dist/: relative addresses only, so that they work below any path of a reverse proxy.

import { readFileSync } from 'node:fs';
import react from '@vitejs/plugin-react';
import type { Plugin } from 'vite';
import { defineConfig } from 'vitest/config';

const EARLY = 'src/early.js';
const FACE = /archivo.*\.woff2$/;

/** Theme and language are set before the first paint by a small script of its own: the policy forbids inline ones. */
function early(): Plugin {
  let isBuild = false;
  let file = '';
  return {
    name: 'nano-early',
    configResolved(config) {
      isBuild = config.command === 'build';
    },
    generateBundle() {
      const source = readFileSync(EARLY, 'utf8');
      file = this.getFileName(this.emitFile({ type: 'asset', name: 'early.js', source }));
    },
    transformIndexHtml: {
      order: 'post',
      handler: (_html, { bundle }) => [
        { tag: 'script', attrs: { src: isBuild ? `./${file}` : `/${EARLY}` }, injectTo: 'head' },
        // The face of every page: asked for at once, not when the styles have been read.
        ...Object.keys(bundle ?? {})
          .filter((name) => FACE.test(name))
          .map((name) => ({
            tag: 'link',
            attrs: { rel: 'preload', as: 'font', type: 'font/woff2', crossorigin: true, href: `./${name}` },
            injectTo: 'head' as const,
          })),
      ],
    },
  };
}

export default defineConfig({
  base: './',
  plugins: [react(), early()],
  build: {
    // What knows light-dark(): early 2024.
    target: ['chrome123', 'firefox120', 'safari17.5'],
    assetsInlineLimit: 0,
    manifest: true,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
    chunkSizeWarningLimit: 1024,
  },
  test: { environment: 'happy-dom', include: ['tests/**/*.test.{ts,tsx}'] },
});
