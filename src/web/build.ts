// Builds the dashboard with Vite. npm runs this after an installation in a clone (`prepare`); the daemon does when the files
// are not there. Without the development packages nothing is built, and the dashboard says so when it is asked for.

import { fileURLToPath } from 'node:url'

const ROOT = fileURLToPath(new URL('.', import.meta.url))
const BUILT = fileURLToPath(new URL('../../build/web/', import.meta.url))

/** Builds into `folder`, which is emptied first. Throws when Vite is missing or the source is wrong. */
export async function buildWeb(folder: string = BUILT): Promise<void> {
  const { build } = await import('vite')
  await build({
    root: ROOT,
    configFile: false,
    logLevel: 'warn',
    oxc: { jsx: { runtime: 'automatic', importSource: 'preact' } },
    build: {
      outDir: folder,
      emptyOutDir: true,
      target: 'es2022',
      modulePreload: { polyfill: false },
      // The page may only load what is its own: nothing is put into it as a data URL.
      assetsInlineLimit: 0,
    },
  })
}

if (import.meta.main) {
  try {
    await buildWeb()
  } catch (error) {
    const isMissing = (error as NodeJS.ErrnoException).code === 'ERR_MODULE_NOT_FOUND'
    if (!isMissing) throw error
    process.stderr.write('The dashboard was not built: the development packages are not installed.\n')
  }
}
