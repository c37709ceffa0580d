import { runDemo } from '#lab/demo.ts'

/** Runs the demonstration network. */
export async function demo(options: { port: number; once?: boolean; json?: boolean }): Promise<void> {
  process.exitCode = await runDemo({ port: options.port, once: options.once ?? false, json: options.json ?? false })
  process.exit()
}
