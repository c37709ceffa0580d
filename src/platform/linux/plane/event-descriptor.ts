// An event descriptor: one thread signals, another's loop wakes (eventfd(2)).

import { fileCalls } from '../libc.ts'
import { Memory, socketCalls } from '../socket-calls.ts'

const EFD_FLAGS = 0o4000 | 0o2000000

export interface EventDescriptor {
  readonly fd: number
  signal(): void
  close(): void
}

/** Opens one. Throws FFI_MISSING where the C library cannot be called. */
export function openEvent(): EventDescriptor {
  const fd = socketCalls().eventfd(0, EFD_FLAGS)
  const one = new Memory(8)
  one.words[0] = 1
  let isOpen = true
  return {
    fd,
    signal() {
      if (isOpen) socketCalls().write(fd, one.pointer, 8)
    },
    close() {
      if (isOpen) fileCalls().close(fd)
      isOpen = false
    },
  }
}
