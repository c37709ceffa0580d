// The machine of a run, and how busy it was with other things: figures taken beside other work are lower.

import { cpus, release } from 'node:os'

const WATCH_MS = 1_000

/** One line: processors, kernel, Node, and the share of the machine that was busy in the second before. */
export async function describeMachine(): Promise<string> {
  const before = times()
  await new Promise(resolve => setTimeout(resolve, WATCH_MS))
  const after = times()
  const busy = ((after.busy - before.busy) / Math.max(after.all - before.all, 1)) * cpus().length
  const processors = `${cpus().length} x ${cpus()[0]?.model.trim() ?? 'unknown processor'}`
  const versions = `Linux ${release().split('-')[0]}, Node ${process.versions.node}`
  return `${processors}, ${versions}; before the run ${busy.toFixed(1)} cores were busy with other work`
}

function times(): { busy: number; all: number } {
  let [busy, all] = [0, 0]
  for (const { times } of cpus()) {
    const total = times.user + times.nice + times.sys + times.irq + times.idle
    all += total
    busy += total - times.idle
  }
  return { busy, all }
}
