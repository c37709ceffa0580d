// The portable engine's worker: node:dgram sockets around the packet function.

import { parentPort, workerData } from 'node:worker_threads'
import type { Command } from '#forward/commands.ts'
import { Counters } from '#forward/counters.ts'
import type { EngineWorkerData } from './engine.ts'
import { PortableEngine } from './portable-engine.ts'

const port = parentPort
if (port === null) throw new Error('start the data plane: not in a worker')
const options = workerData as EngineWorkerData
const engine = new PortableEngine(options, new Counters(options.counters), reports => port.postMessage(reports))
port.on('message', (commands: Command[]) => {
  for (const command of commands) engine.apply(command)
})
