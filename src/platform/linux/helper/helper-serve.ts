// Requests that come over a socket, a line each: read strictly, carried out one after another, and answered.

import type { Socket } from 'node:net'
import { HopliteError } from '#api/errors.ts'
import { closeAll, passDescriptors } from '../descriptors.ts'
import type { Carried } from './helper.ts'
import type { HelperReply } from './helper-channel.ts'
import { type HelperRequest, MAX_LINE_BYTES, parseRequest } from './helper-order.ts'

const NEWLINE = 10

export interface Served {
  readonly carryOut: (request: HelperRequest) => Promise<Carried>
  /** Where open files go: one end of a pair. */
  readonly files: number
  /** More was said than a line may hold. */
  readonly onFlood: () => void
  /** Whether a request is being carried out, which may take as long as the commands of a file do. */
  isBusy: boolean
}

/** Answers until the socket's other end is gone; what comes faster than it can be answered waits in the kernel. */
export async function serveRequests(socket: Socket, served: Served): Promise<void> {
  let held = Buffer.alloc(0)
  try {
    for await (const chunk of socket) {
      held = Buffer.concat([held, chunk as Buffer])
      for (let end = held.indexOf(NEWLINE); end >= 0; end = held.indexOf(NEWLINE)) {
        const line = held.toString('utf8', 0, end)
        held = held.subarray(end + 1)
        served.isBusy = true
        const reply = await answer(line, served)
        served.isBusy = false
        await write(socket, `${JSON.stringify(reply)}\n`)
      }
      if (held.length > MAX_LINE_BYTES) {
        served.onFlood()
        return
      }
    }
  } catch {
    // It is gone; what it said last may be half a line.
  }
}

/** Resolves when the other end has room for it: one that does not read is not listened to. */
function write(socket: Socket, text: string): Promise<void> {
  return new Promise((resolve, reject) => {
    socket.write(text, error => (error ? reject(error) : resolve()))
  })
}

async function answer(line: string, { carryOut, files }: Served): Promise<HelperReply> {
  try {
    const request = parseRequest(line)
    if (request === undefined)
      throw new HopliteError('REQUEST_INVALID', 'change the network: that is no request', 'report it')
    const { answer, fds } = await carryOut(request)
    try {
      passDescriptors(files, fds)
    } finally {
      closeAll(fds)
    }
    return { answer, fds: fds.length }
  } catch (error) {
    if (error instanceof HopliteError)
      return { error: { code: error.code, message: error.message, advice: error.advice } }
    return { error: { code: 'INTERNAL', message: `change the network: ${String(error)}`, advice: 'report it' } }
  }
}
