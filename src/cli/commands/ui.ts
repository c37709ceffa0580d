import { callAction } from '#api/client.ts'
import { socketPath, stateDirectory } from '#platform/state/directories.ts'
import { openBrowser } from '../open-browser.ts'
import { print } from '../output.ts'
import { ensureDaemon, type UpOptions } from './up.ts'

/** Opens the dashboard of the node, which is started first (switched off) if none runs. */
export async function ui(options: UpOptions & { open?: boolean }): Promise<void> {
  await ensureDaemon(options)
  const { url } = await callAction(socketPath(stateDirectory(options.stateDir)), 'login', {})
  const isOpened = options.open !== false && !options.json && openBrowser(url)
  const hint = isOpened ? 'It opens in your browser.' : 'Open it in a browser on this machine.'
  print(options.json, { ok: true, url }, `${url}\n${hint} It works once, within five minutes.`)
}
