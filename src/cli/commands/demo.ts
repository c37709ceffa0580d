import { runDemo } from '#lab/demo.ts'
import { stopSignal } from '../stop-signal.ts'

/** Runs the demonstration network. */
export async function demo(options: { port: number; once?: boolean; json?: boolean }): Promise<void> {
  // A second Ctrl-C at the same moment must not end it before its network has ended.
  stopSignal()
  process.exitCode = await runDemo({ port: options.port, once: options.once ?? false, json: options.json ?? false })
  process.exit()
}
