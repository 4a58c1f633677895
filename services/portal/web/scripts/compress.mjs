// Writes .gz and .br beside each text file of dist/, and holds the first page to its budget.

import { readdirSync, readFileSync, statSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { brotliCompressSync, gzipSync, constants as zlib } from 'node:zlib';

const DIST = 'dist';
const LIMIT_KIB = 300;
/** Smaller files gain nothing. */
const LEAST_BYTES = 512;
const TEXT = /\.(html|js|css|svg|json)$/;

/** Bytes on the wire by the path inside dist/: gzip for text, as it is for fonts. */
const wire = new Map();

for (const entry of readdirSync(DIST, { recursive: true, withFileTypes: true })) {
  if (!entry.isFile() || /\.(gz|br)$/.test(entry.name)) continue;
  const file = join(entry.parentPath, entry.name);
  const inside = file.slice(DIST.length + 1).replaceAll('\\', '/');
  if (inside.startsWith('.vite/')) continue;
  const bytes = readFileSync(file);
  if (!TEXT.test(file) || bytes.length < LEAST_BYTES) {
    wire.set(inside, statSync(file).size);
    continue;
  }
  const gz = gzipSync(bytes, { level: 9 });
  writeFileSync(`${file}.gz`, gz);
  writeFileSync(
    `${file}.br`,
    brotliCompressSync(bytes, {
      params: { [zlib.BROTLI_PARAM_QUALITY]: 11, [zlib.BROTLI_PARAM_SIZE_HINT]: bytes.length },
    }),
  );
  wire.set(inside, gz.length);
}

const manifest = JSON.parse(readFileSync(join(DIST, '.vite/manifest.json'), 'utf8'));

/** What the browser must have loaded before `names` can run: chunks, styles, fonts. */
function closure(names) {
  const files = new Set(['index.html']);
  const seen = new Set();
  const visit = (name) => {
    if (seen.has(name)) return;
    seen.add(name);
    const chunk = manifest[name];
    for (const file of [chunk.file, ...(chunk.css ?? []), ...(chunk.assets ?? [])]) files.add(file);
    for (const next of chunk.imports ?? []) visit(next);
  };
  names.forEach(visit);
  for (const file of wire.keys()) if (/(^|\/)early-/.test(file)) files.add(file);
  return [...files];
}

const kib = (files) => files.reduce((sum, file) => sum + (wire.get(file) ?? 0), 0) / 1024;
const languages = Object.keys(manifest).filter((name) => /i18n\/(en|zh)\.json$/.test(name));
const language = languages.sort(
  (a, b) => (wire.get(manifest[b].file) ?? 0) - (wire.get(manifest[a].file) ?? 0),
)[0];
const first = ['index.html', ...(language ? [language] : [])];
const SHELL = 'src/pages/shell.tsx';
const pages = Object.keys(manifest).filter(
  (name) => manifest[name].isDynamicEntry && /src\/(pages|console)\//.test(name) && name !== SHELL,
);

let isOver = false;
for (const page of ['', ...pages]) {
  const files = closure([...first, ...(page ? [SHELL, page] : [])]);
  const scripts = kib(files.filter((file) => !file.endsWith('.woff2')));
  const whole = kib(files);
  const isFirst = page === '';
  if (isFirst && whole > LIMIT_KIB) isOver = true;
  process.stdout.write(
    `${(page || 'first page').padEnd(34)} ${scripts.toFixed(1).padStart(7)} KiB gzip, ${whole.toFixed(1)} KiB with fonts\n`,
  );
}
// The manifest is for this script; nobody needs it from the server.
unlinkSync(join(DIST, '.vite/manifest.json'));
if (isOver) {
  process.stderr.write(`the first page is over ${LIMIT_KIB} KiB: load less before it, or later\n`);
  process.exit(1);
}
