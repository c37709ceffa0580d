// The daemon's end of the way to its helper: requests out, one answer for each in their order, and open files beside them.
// Where there is no helper process the same requests are carried out here.

import { Socket } from 'node:net'
import { type ErrorCode, HopliteError } from '#api/errors.ts'
import { acceptDescriptors } from '../descriptors.ts'
import { Helper, type HelperAnswer } from './helper.ts'
import type { HelperOrder, HelperRequest } from './helper-order.ts'

/** Numbers of two descriptors, of the requests and of the open files; set for a daemon that has a helper. */
export const HELPER_VARIABLE = 'HOPLITE_HELPER'

/** What the helper says to one request, one line of JSON. */
export type HelperReply =
  | { readonly answer: HelperAnswer; readonly fds: number }
  | { readonly error: { readonly code: ErrorCode; readonly message: string; readonly advice: string } }

export interface HelperChannel {
  /** Resolves when it has been done; the descriptors are the caller's. Throws what the helper found, or HELPER_LOST. */
  ask(request: HelperRequest): Promise<{ readonly answer: HelperAnswer; readonly fds: readonly number[] }>
  /** Calls it when the helper is gone; at once, where it is gone already. */
  onLost(listener: (error: HopliteError) => void): void
}

let remote: HelperChannel | undefined

/** The way to the helper process that started this one, or to a helper in this process that has that order. */
export function helperFor(order: () => HelperOrder): HelperChannel {
  const told = process.env[HELPER_VARIABLE]
  if (told === undefined) return localHelper(new Helper(order()))
  const [lines = Number.NaN, files = Number.NaN] = told.split(' ').map(Number)
  remote ??= remoteHelper(new Socket({ fd: lines, readable: true, writable: true }), files)
  return remote
}

/** Whether a helper process has started this one. */
export function hasHelper(): boolean {
  return process.env[HELPER_VARIABLE] !== undefined
}

/** The way to the helper process that started this one; `undefined` where there is none. */
export function helperProcess(): HelperChannel | undefined {
  return hasHelper() ? helperFor(() => ({ journal: '', uid: 0, hooks: [] })) : undefined
}

function localHelper(helper: Helper): HelperChannel {
  let last: Promise<unknown> = Promise.resolve()
  return {
    ask(request) {
      const done = last.catch(() => undefined).then(() => helper.handle(request))
      last = done
      return done
    },
    onLost: () => undefined,
  }
}

interface Waiting {
  readonly resolve: (reply: { readonly answer: HelperAnswer; readonly fds: readonly number[] }) => void
  readonly reject: (error: HopliteError) => void
}

function remoteHelper(socket: Socket, files: number): HelperChannel {
  const waiting: Waiting[] = []
  const listeners: ((error: HopliteError) => void)[] = []
  let lost: HopliteError | undefined
  let text = ''
  socket.setEncoding('utf8').on('data', (more: string) => {
    const lines = (text + more).split('\n')
    text = lines.pop() ?? ''
    for (const line of lines) settle(waiting.shift(), JSON.parse(line) as HelperReply, files)
    if (waiting.length === 0) socket.unref()
  })
  socket
    .on('error', () => undefined)
    .once('close', () => {
      lost = helperLost()
      for (const { reject } of waiting.splice(0)) reject(lost)
      for (const listener of listeners) listener(lost)
    })
  // A node that has ended does not wait for its helper, which waits for it.
  socket.unref()
  return {
    ask: request =>
      new Promise((resolve, reject) => {
        if (lost !== undefined) return reject(lost)
        waiting.push({ resolve, reject })
        socket.ref()
        socket.write(`${JSON.stringify(request)}\n`)
      }),
    onLost(listener) {
      if (lost === undefined) listeners.push(listener)
      else listener(lost)
    },
  }
}

function settle(waiting: Waiting | undefined, reply: HelperReply, files: number): void {
  if ('error' in reply) {
    const { code, message, advice } = reply.error
    return waiting?.reject(new HopliteError(code, message, advice))
  }
  try {
    waiting?.resolve({ answer: reply.answer, fds: acceptDescriptors(files, reply.fds) })
  } catch (error) {
    waiting?.reject(error as HopliteError)
  }
}

function helperLost(): HopliteError {
  return new HopliteError(
    'HELPER_LOST',
    'change the network: the helper that does it as root is gone',
    'the firewall it made stays up: start again with the same command, or undo it with "hoplite recover"',
  )
}
